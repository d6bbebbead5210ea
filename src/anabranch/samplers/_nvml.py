"""Read NVIDIA's devices through NVML, each by itself: one that is lost hides no other.

Any call may raise any code: a device falls off the bus, a driver is exchanged under the program,
a virtual or integrated device does not support what is asked. What cannot be read is None, and
``why`` has NVML's own words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from anabranch.samplers._visible import Device, visible

T = TypeVar("T")


@attrs.frozen
class Gpu:
    """Tell what was read of a device, or of an instance (MIG) of one.

    Attributes:
        uuid: as ``CUDA_VISIBLE_DEVICES`` takes it.
        memory_used, memory_total: bytes.
        utilisation: 0 to 1, of the time in which something ran on it; instances have none.
        why: what could not be read, and the reason.
    """

    uuid: str
    name: str = ""
    memory_used: float | None = None
    memory_total: float | None = None
    utilisation: float | None = None
    why: str = ""


@attrs.frozen
class Gpus:
    """Tell what was read of all visible devices.

    Attributes:
        why: the reason why there is none, or why some could not be found.
        hidden: how many there are that ``CUDA_VISIBLE_DEVICES`` does not name.
        absent: there is not even a driver to ask, so ``why`` is no news.
    """

    devices: tuple[Gpu, ...] = ()
    why: str = ""
    hidden: int = 0
    absent: bool = False


def load_pynvml() -> Any:
    """Import NVIDIA's module: 20 ms, which only a process that asks for GPUs shall pay."""
    import pynvml

    return pynvml


def read_gpus(nvml: Any, words: str | None) -> Gpus:
    """Read all visible devices; NVML has been initialised.

    Args:
        nvml: the module pynvml.
        words: of ``CUDA_VISIBLE_DEVICES``.

    Raises:
        NVMLError: not even their number can be had.
    """
    devices: list[Device] = []
    problems: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            devices.append(_device(nvml, nvml.nvmlDeviceGetHandleByIndex(index)))
        except (nvml.NVMLError, ValueError) as error:
            devices.append(Device(None, f"lost-{index}"))  # it keeps its number
            problems.append(f"device {index}: {error}")
    shown = visible(devices, words)
    count = sum(max(1, len(device.instances)) for device in devices)
    found = tuple(_gpu(nvml, device) for device in shown if device.handle is not None)
    return Gpus(found, "; ".join(problems), count - len(shown))


def _device(nvml: Any, handle: Any) -> Device:
    uuid = str(nvml.nvmlDeviceGetUUID(handle))
    try:
        split = nvml.nvmlDeviceGetMigMode(handle)[0] == 1
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if split else 0
    except nvml.NVMLError:  # most devices cannot be split
        most = 0
    return Device(handle, uuid, tuple(_instances(nvml, handle, most)))


def _instances(nvml: Any, handle: Any, most: int) -> list[Device]:
    found: list[Device] = []
    for index in range(most):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            found.append(Device(part, str(nvml.nvmlDeviceGetUUID(part))))
        except nvml.NVMLError:  # there are fewer than there could be
            continue
    return found


def _gpu(nvml: Any, device: Device) -> Gpu:
    problems: list[str] = []

    def ask(what: str, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except (nvml.NVMLError, ValueError) as error:  # ValueError: a name that is no UTF-8
            problems.append(f"{what}: {error}")
            return None

    handle = device.handle
    memory = ask("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    rates = ask("utilisation", lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    name = ask("name", lambda: str(nvml.nvmlDeviceGetName(handle)))
    room = (None, None) if memory is None or not memory.total else (memory.used, memory.total)
    return Gpu(
        uuid=device.uuid,
        name=name or "",
        memory_used=room[0],
        memory_total=room[1],
        utilisation=None if rates is None else min(1.0, rates.gpu / 100),
        why="; ".join(problems),
    )
