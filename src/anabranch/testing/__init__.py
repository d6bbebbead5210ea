"""Test programs built on anabranch: in virtual time, under drawn schedules, on played machines."""

from typing import TYPE_CHECKING, Any

from anabranch.errors import DeadlockError
from anabranch.testing._behaviours import (
    attempts,
    charges,
    checkpoints,
    raises,
    returns,
    sleep,
    stubborn,
    waits_for,
)
from anabranch.testing._check_controller import check_controller
from anabranch.testing._check_lane import check_lane
from anabranch.testing._check_limiter import check_limiter
from anabranch.testing._check_sampler import check_sampler
from anabranch.testing._disturbing import InjectedError, SpinningError, interruptible
from anabranch.testing._explore import Explored, ScheduleFailedError, explore
from anabranch.testing._loads import FakeSampler, fake_loads
from anabranch.testing._play import NotDeterministicError
from anabranch.testing._promises import ConformanceError
from anabranch.testing._script import Call, Scripted, script
from anabranch.testing._simulator._asking import Moment
from anabranch.testing._simulator._drawn import drawn
from anabranch.testing._simulator._run import Change, Simulation, simulate
from anabranch.testing._simulator._scenarios import NAMED as SCENARIOS
from anabranch.testing._simulator._words import (
    Downstream,
    Machine,
    Neighbour,
    Phase,
    Scenario,
    Senses,
    Times,
    Work,
)
from anabranch.testing._steps import LeftRunningError
from anabranch.testing._unwaited import VirtualTimeWarning
from anabranch.testing._virtual import VirtualLoop, run_virtual, virtual_time

if TYPE_CHECKING:
    from anabranch.testing._strategies import (
        Resize,
        StepTree,
        follow,
        limits,
        resizes,
        step_trees,
    )

_DRAWN = ("Resize", "StepTree", "follow", "limits", "resizes", "step_trees")

__all__ = [
    "Call",
    "Change",
    "ConformanceError",
    "DeadlockError",
    "Downstream",
    "Explored",
    "FakeSampler",
    "InjectedError",
    "LeftRunningError",
    "Machine",
    "Moment",
    "Neighbour",
    "NotDeterministicError",
    "Phase",
    "Resize",
    "SCENARIOS",
    "Scenario",
    "ScheduleFailedError",
    "Scripted",
    "Senses",
    "Simulation",
    "SpinningError",
    "StepTree",
    "Times",
    "VirtualLoop",
    "VirtualTimeWarning",
    "Work",
    "attempts",
    "charges",
    "check_controller",
    "check_lane",
    "check_limiter",
    "check_sampler",
    "checkpoints",
    "drawn",
    "explore",
    "fake_loads",
    "follow",
    "interruptible",
    "limits",
    "raises",
    "resizes",
    "returns",
    "run_virtual",
    "script",
    "simulate",
    "sleep",
    "step_trees",
    "stubborn",
    "virtual_time",
    "waits_for",
]

for _name in __all__:  # what users read in a traceback is where they import it from
    if str(getattr(globals().get(_name), "__module__", "")).startswith("anabranch.testing."):
        globals()[_name].__module__ = __name__
del _name


def __getattr__(name: str) -> Any:
    if name not in _DRAWN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from anabranch.testing import _strategies  # Hypothesis, for those only who draw with it

    value = getattr(_strategies, name)
    value.__module__ = __name__
    return value
