"""Describe what is simulated: work, machine, downstream, neighbours and what the samplers see.

All are frozen and can be hashed, so that an oracle is looked for once.
Times are seconds, sizes bytes, shares 0 to 1; a course is a line through points (time, value).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, Literal

import attrs

from anabranch._load import SIGNALS, Bounds
from anabranch._options import exact_fields
from anabranch.errors import ConfigurationError

GIB: Final = 2.0**30
Shape = Literal["constant", "exponential", "heavy", "bimodal"]
SHAPES: Final[tuple[Shape, ...]] = ("constant", "exponential", "heavy", "bimodal")
Course = tuple[tuple[float, float], ...]


def _refuse(thing: object, name: str, value: object, wanted: str) -> ConfigurationError:
    where = type(thing).__name__
    return ConfigurationError(f"{where}: {name}={value!r:.80} cannot be; give {wanted}")


def _number(low: float, high: float = math.inf, *, above: bool = False) -> Any:
    wanted = f"a number {'above' if above else 'from'} {low:g}"
    wanted += f" to {high:g}" if high < math.inf else ""

    def check(thing: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = fits and math.isfinite(value) and low <= value <= high
        if not fits or (above and value == low):
            raise _refuse(thing, attribute.name, value, wanted)

    return check


def _course(thing: object, attribute: attrs.Attribute[Any], value: Course) -> None:
    times = [point[0] for point in value]
    if times != sorted(times) or any(point[1] < 0 for point in value):
        wanted = "points (time, value), the times in order and no value below 0"
        raise _refuse(thing, attribute.name, value, wanted)


def _one_of(*words: str) -> Any:
    def check(thing: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in words:
            raise _refuse(thing, attribute.name, value, f"one of {', '.join(words)}")

    return check


@exact_fields
@attrs.frozen
class Times:
    """Draw how long something takes: ``mean`` seconds, however they are spread.

    Shapes: ``constant``; ``exponential``; ``heavy``, log-normal with a sigma of 1.3;
    ``bimodal``, nine of ten take a third of the mean and the tenth seven times it.
    """

    mean: float = attrs.field(default=0.0, validator=_number(0))
    shape: Shape = attrs.field(default="constant", validator=_one_of(*SHAPES))


@exact_fields
@attrs.frozen(kw_only=True)
class Work:
    """Describe a branch: a call downstream, then a wait, then CPU, ``rounds`` times over.

    Attributes:
        cpu, wait, call: seconds of each, over all rounds, if it had everything for itself.
        memory: bytes when it is grown; ``onset`` seconds after its start it begins to grow,
            and is grown ``ramp`` seconds later. spread: sigma of its logarithm.
        gpu_memory: likewise, on the device.
        errors: share of the branches that fail at their end whatever the load.
    """

    cpu: Times = Times()
    wait: Times = Times()
    call: Times = Times()
    rounds: int = attrs.field(default=1, validator=_number(1))
    memory: float = attrs.field(default=0.0, validator=_number(0))
    gpu_memory: float = attrs.field(default=0.0, validator=_number(0))
    ramp: float = attrs.field(default=0.0, validator=_number(0))
    onset: float = attrs.field(default=0.0, validator=_number(0))
    spread: float = attrs.field(default=0.0, validator=_number(0, 1))
    errors: float = attrs.field(default=0.0, validator=_number(0, 1))

    def __attrs_post_init__(self) -> None:
        if not self.cpu.mean + self.wait.mean + self.call.mean > 0:
            raise ConfigurationError(
                "Work: cpu, wait and call are all of 0 seconds, so it would never end to start; "
                "give one of them a mean above 0"
            )


@exact_fields
@attrs.frozen(kw_only=True)
class Phase:
    """Say for how long which work comes: without end, or ``supply`` branches at its beginning.

    What of a supply is still queued when the next phase begins is thrown away.
    """

    seconds: float = attrs.field(validator=_number(0, above=True))
    work: Work
    supply: int | None = attrs.field(default=None, validator=attrs.validators.optional(_number(0)))


@exact_fields
@attrs.frozen(kw_only=True)
class Machine:
    """Describe cores and memory.

    Attributes:
        cores: what may be used of them.
        switching: of the CPU's work is lost for each branch a core that is more than one.
        memory, gpu_memory: of the machine, of the device.
        taken, gpu_taken: share of it that was in use before.
    """

    cores: float = attrs.field(default=4.0, validator=_number(0, above=True))
    switching: float = attrs.field(default=0.023, validator=_number(0, 1))
    memory: float = attrs.field(default=16 * GIB, validator=_number(0, above=True))
    gpu_memory: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_number(0, above=True))
    )
    taken: float = attrs.field(default=0.1, validator=_number(0, 1))
    gpu_taken: float = attrs.field(default=0.02, validator=_number(0, 1))


@exact_fields
@attrs.frozen(kw_only=True)
class Downstream:
    """Describe what calls go to.

    Attributes:
        knee: so many calls at once are served at full speed; more share it, at a loss.
        loss: of the speed, for each further ``knee`` of calls.
        queue: so many calls wait beyond the knee, the next is refused; None: none is.
        says: a refusal says "too many", as 429 does; else it is an error as any other.
        refusal: seconds until a refusal, or a failure in an outage, is known.
        capacity: course of the knee's factor. speed: course of the speed's.
        outages: from when to when every call fails.
    """

    knee: float = attrs.field(validator=_number(1))
    loss: float = attrs.field(default=0.3, validator=_number(0))
    queue: float | None = attrs.field(default=None, validator=attrs.validators.optional(_number(0)))
    says: bool = True
    refusal: float = attrs.field(default=0.2, validator=_number(0, above=True))
    capacity: Course = attrs.field(default=(), validator=_course)
    speed: Course = attrs.field(default=(), validator=_course)
    outages: tuple[tuple[float, float], ...] = ()


@exact_fields
@attrs.frozen(kw_only=True)
class Neighbour:
    """Describe what else runs: a course of busy threads, one of a share of the memory.

    With ``period`` it is there in the first half of each period only.
    """

    threads: Course = attrs.field(default=(), validator=_course)
    memory: Course = attrs.field(default=(), validator=_course)
    period: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_number(0, above=True))
    )


@exact_fields
@attrs.frozen(kw_only=True)
class Senses:
    """Describe how badly the machine is seen.

    Attributes:
        late: age of what is read. noise: sigma of a reading, relative.
        missing: share of the readings that are None, each by chance.
        lacking: signals that this machine never has.
        stuck: from when to when no sample comes at all.
        rests: no sample comes while nothing runs and nothing waits; of a step that is fed they do.
    """

    late: float = attrs.field(default=0.0, validator=_number(0))
    noise: float = attrs.field(default=0.0, validator=_number(0, 1))
    missing: float = attrs.field(default=0.0, validator=_number(0, 1))
    lacking: tuple[str, ...] = attrs.field(
        default=(), validator=attrs.validators.deep_iterable(_one_of(*SIGNALS))
    )
    stuck: tuple[tuple[float, float], ...] = ()
    rests: bool = False


def _phases(values: Iterable[Phase]) -> tuple[Phase, ...]:
    return tuple(values)


def _neighbours(values: Iterable[Neighbour]) -> tuple[Neighbour, ...]:
    return tuple(values)


@exact_fields
@attrs.frozen(kw_only=True)
class Scenario:
    """Put a machine, its surroundings and phases of work together, under a name.

    Attributes:
        ceiling, initial: the bounds that a controller is given; the floor is 1.
    """

    name: str
    phases: tuple[Phase, ...] = attrs.field(converter=_phases)
    machine: Machine = Machine()
    downstream: Downstream | None = None
    neighbours: tuple[Neighbour, ...] = attrs.field(default=(), converter=_neighbours)
    senses: Senses = Senses(noise=0.02)
    ceiling: int = 256
    initial: int = attrs.field()

    @initial.default
    def _as_usual(self) -> int:
        return max(1, min(10, int(2 * self.machine.cores), self.ceiling))

    def __attrs_post_init__(self) -> None:
        if not self.phases:
            raise ConfigurationError(f"Scenario {self.name!r:.80}: no phases; give at least one")
        calls = any(phase.work.call.mean for phase in self.phases)
        if calls and self.downstream is None:
            raise ConfigurationError(
                f"Scenario {self.name!r:.80}: its work calls, but nothing is there; "
                f"give downstream=Downstream(knee=...)"
            )
        gpu = any(phase.work.gpu_memory for phase in self.phases)
        if gpu and self.machine.gpu_memory is None:
            raise ConfigurationError(
                f"Scenario {self.name!r:.80}: its work wants a GPU, but there is none; "
                f"give machine=Machine(gpu_memory=...)"
            )
        _ = self.bounds

    @property
    def bounds(self) -> Bounds:
        """Return what a controller is told."""
        return Bounds(ceiling=self.ceiling, initial=self.initial)

    @property
    def seconds(self) -> float:
        """Return how long all phases take."""
        return sum(phase.seconds for phase in self.phases)
