"""Read the machine: what a controller is told of it, each signal from where it can be trusted.

A sampler is anything with ``sample()``, which returns fields of a ``Load`` by name, and None for
what it cannot tell. These are ours; ``default_samplers`` makes those that every machine is read by.
"""

from anabranch.abc import Sampler
from anabranch.samplers._descriptors import Descriptors, descriptors
from anabranch.samplers._gpus import Nvml
from anabranch.samplers._groups import Groups
from anabranch.samplers._loop_lag import LoopLag
from anabranch.samplers._machine_cpu import Cpu
from anabranch.samplers._machine_memory import Memory
from anabranch.samplers._own_memory import OwnMemory
from anabranch.samplers._pressure import Pressure
from anabranch.samplers._scarcest import Scarcest

__all__ = [
    "Cpu",
    "Descriptors",
    "Groups",
    "LoopLag",
    "Memory",
    "Nvml",
    "OwnMemory",
    "Pressure",
    "Scarcest",
    "default_samplers",
    "descriptors",
]


def default_samplers(groups: Groups | None = None) -> tuple[Sampler, ...]:
    """Make fresh samplers of all signals but ``loop_lag``, which needs a loop to run on.

    Each begins with what it sees first: ``own_memory`` counts from there.

    Args:
        groups: where the control groups are; found if they are not given.
    """
    groups = groups or Groups()
    return Cpu(groups), Pressure(groups), Memory(groups), OwnMemory(), Nvml()


for _name in __all__:
    globals()[_name].__module__ = "anabranch.samplers"
del _name
