"""Define what an observer hears: one frozen value for each thing that has happened.

``at`` is the loop's clock, in seconds; ``step`` is the path of the step that owns the branch,
empty for a scheduler without one.
"""

from __future__ import annotations

import attrs

from anabranch._load import Load
from anabranch._work import Outcome


@attrs.frozen
class Event:
    """Say when, and in which step, something happened."""

    at: float
    step: str


@attrs.frozen
class BranchQueued(Event):
    """Say that a job was accepted and waits for a token."""

    key: str
    priority: int = 0


@attrs.frozen
class BranchStarted(Event):
    """Say that a branch holds its tokens and has been called."""

    key: str
    queued_s: float = 0.0


@attrs.frozen
class AttemptFailed(Event):
    """Say that a branch raised ``error`` and is called again in ``wait`` seconds, or later."""

    key: str
    attempt: int
    error: Exception
    wait: float


@attrs.frozen
class BranchFinished(Event):
    """Say how a branch ended."""

    key: str
    outcome: Outcome


@attrs.frozen
class BranchStubborn(Event):
    """Say that a branch still works ``seconds`` after it was cancelled, and at which line.

    ``where`` is the innermost line, ``stack`` the lines that led there, outermost first.
    """

    key: str
    seconds: float
    where: str
    stack: tuple[str, ...] = ()


@attrs.frozen
class StartRefused(Event):
    """Say that the system had no room for a branch's process, which is started again later.

    ``reason`` is the system's, ``running`` how many of ours run meanwhile: so many are the limit.
    """

    key: str
    reason: str
    running: int = 0


@attrs.frozen
class LimitChanged(Event):
    """Say that a limit was moved, and why; ``load`` is what the controller saw, if one moved it."""

    old: float
    new: float
    reason: str
    load: Load | None = None


@attrs.frozen
class LoadSampled(Event):
    """Say what a controller was told, and what it decided of it.

    ``reason`` is empty where the limit is to stay. Where ``acts`` is false the controller is in
    shadow: ``limit`` is what it would have set.
    """

    load: Load
    limit: int
    reason: str
    acts: bool = True


@attrs.frozen
class ControllerFailed(Event):
    """Say that a controller is in shadow from now on, and why: the limit stays where it is."""

    controller: str
    reason: str


@attrs.frozen
class EventsMissed(Event):
    """Say how many events an observer that was too slow did not hear."""

    count: int


@attrs.frozen
class StepStarted(Event):
    """Say that a step has begun.

    ``total`` is how many branches it has, None if nobody can know;
    ``limit`` how many of them may run at once, None if it has no limit of its own.
    """

    total: int | None
    limit: float | None = None


@attrs.frozen
class StepFinished(Event):
    """Say how a step ended."""

    status: str


@attrs.frozen
class Breached(Event):
    """Say that a budget was passed or a ``breach_event`` set; ``step`` is empty for a whole run."""

    reason: str
