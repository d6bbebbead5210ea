"""Choose the devices that CUDA shows to this process: the meaning of ``CUDA_VISIBLE_DEVICES``.

NVML knows nothing of that variable: it lists every device of the machine, or of the container.
The words are those of NVIDIA's programming guide: numbers, beginnings of UUIDs, names of MIG
instances; the first word that means nothing hides itself and all that follow.
CUDA counts the fastest device first, NVML by place on the bus: on a machine with unlike devices the
numbers agree only with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class Device:
    """Name a device, or an instance (MIG) of one; ``handle`` is NVML's word for it.

    Attributes:
        instances: of a device that is split; it cannot be used as a whole then.
    """

    handle: object
    uuid: str
    instances: tuple[Device, ...] = ()


def visible(devices: Sequence[Device], words: str | None) -> list[Device]:
    """Return the devices that are visible, in their order there, each once.

    Args:
        devices: all there are, in NVML's order.
        words: of the environment; None where it says nothing: all are visible.
    """
    if words is None:
        return _whole(devices)
    found: list[Device] = []
    for word in words.split(","):
        chosen = _chosen(devices, word.strip())
        if not chosen:
            break
        found += [each for each in chosen if each not in found]
    return found


def _whole(devices: Sequence[Device]) -> list[Device]:
    return [part for device in devices for part in (device.instances or (device,))]


def _chosen(devices: Sequence[Device], word: str) -> list[Device]:
    if word.isascii() and word.isdecimal():
        place = int(word) if len(word) < 10 else len(devices)
        return _whole(devices[place : place + 1])
    parts = [part for device in devices for part in device.instances]
    named = [each for each in (*devices, *parts) if _begins(each.uuid, word)]
    return _whole(named) if len(named) == 1 else []  # a beginning of two UUIDs means neither


def _begins(uuid: str, word: str) -> bool:
    return word.startswith(("GPU-", "MIG-")) and len(word) > 4 and uuid.startswith(word)
