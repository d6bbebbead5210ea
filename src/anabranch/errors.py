"""Name everything that can go wrong, and say whose fault it is.

::

    AnabranchError                     catch-all; itself when a live run is asked too early
    ├── ConfigurationError             the caller's: an option that cannot be meant (a ValueError)
    │   ├── UnknownOptionError         the caller's: a keyword that does not exist (a TypeError too)
    │   ├── NotBuiltYetError           ours: in the contract, not yet in the code
    │   └── DuplicateKeyError          the caller's: one name for two things
    ├── SchedulerClosedError           the caller's: a job after the scheduler's block was left
    ├── HostLoopError                  the caller's: no loop runs, or one runs where none may
    ├── JournalError                   the machine's: what ended could not be written down
    ├── LaneError                      the branch's: a call that its lane cannot carry
    ├── ScriptFailedError              the script's: it did not end with 0
    ├── CircuitOpenError               nobody's: a breaker refused a call of what keeps failing
    ├── QueueFull                      the caller's: a call that would have had to wait for a place
    ├── OutsideRunError                the caller's: a charge where no run can be found
    ├── UsageLimitExceededError        nobody's: a budget was passed, or a breach_event was set
    ├── BranchTimedOutError            the branch's: its own timeout struck (a TimeoutError)
    ├── BranchCancelledError           nobody's: stopped by a deadline, a rule, or from outside
    ├── TaskExecutionError             the task's: it did not succeed; the cause is what it raised
    ├── WaitTimeoutError               the caller's: a wait ended before its tasks (a TimeoutError)
    ├── DeadlockError                  the caller's: tasks that would wait for each other
    ├── MergeError                     the branches': what they changed does not go together
    └── StepFailedError                the step's: it failed, and no branch has an error of its own

Whatever a branch itself raises is data: it is kept as it is, in the branch's result.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class AnabranchError(Exception):
    """Group every error that anabranch itself raises."""


class ConfigurationError(AnabranchError, ValueError):
    """Refuse an option that cannot be meant, before anything starts."""


class UnknownOptionError(ConfigurationError, TypeError):
    """Refuse a keyword that does not exist; the nearest name is suggested."""


class NotBuiltYetError(ConfigurationError, NotImplementedError):
    """Refuse an option which the contract has and this version does not."""


class DuplicateKeyError(ConfigurationError):
    """Refuse a name that is already taken."""


class SchedulerClosedError(AnabranchError, RuntimeError):
    """Refuse a job: the scheduler's block was left, or is being cancelled."""


class HostLoopError(AnabranchError, RuntimeError):
    """Say that no loop runs, or that one runs where none may."""


class JournalError(AnabranchError, RuntimeError):
    """Say why a journal takes no outcome: a full disk, a file that was taken away."""


class LaneError(AnabranchError, RuntimeError):
    """Say what a lane could not carry: the argument, the result, the worker."""


class ScriptFailedError(AnabranchError):
    """Say how a script failed that is a branch.

    Attributes:
        finished: how it ended, as a Finished.
    """

    def __init__(self, message: str, finished: Any = None) -> None:
        super().__init__(message)
        self.finished = finished


class CircuitOpenError(AnabranchError, RuntimeError):
    """Refuse a call: what it calls has failed too often.

    Attributes:
        retry_after: seconds until a call may be let through again.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message, retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class QueueFull(AnabranchError, RuntimeError):  # noqa: N818  # the word of queue and asyncio
    """Refuse a call: so many stand in line that it would have to wait for a place there."""


class OutsideRunError(AnabranchError, RuntimeError):
    """Refuse a charge: it is made outside of a run, or in a process that cannot reach it."""


class UsageLimitExceededError(AnabranchError):
    """Say that a budget was passed, or that an event from outside ended the run.

    Attributes:
        result: the partial PipelineResult: whatever finished, and what was cancelled for it.
            None where a branch was refused a reservation.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class BranchTimedOutError(AnabranchError, TimeoutError):
    """Stand in the result of a branch that its own timeout struck."""


class BranchCancelledError(AnabranchError):
    """Stand in an unwrapped result for a branch that was stopped."""


class TaskExecutionError(AnabranchError):
    """Stand in the result of a task that did not succeed; ``__cause__`` is what it raised."""


class WaitTimeoutError(AnabranchError, TimeoutError):
    """Say that a wait for tasks is over, and nothing else: they go on.

    Attributes:
        results: of the tasks that have ended by now, in the order of their submission.
    """

    def __init__(self, message: str, results: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.results = list(results)


class DeadlockError(AnabranchError, RuntimeError):
    """Refuse a wait that could never end: what it waits for waits for the one who asks."""


class MergeError(AnabranchError):
    """Say which field of the context could not be merged, and which branches changed it.

    Attributes:
        field: its name. branches: the keys of the branches.
    """

    def __init__(self, message: str, field: str = "", branches: tuple[str, ...] = ()) -> None:
        super().__init__(message, field, branches)
        self.field = field
        self.branches = branches

    def __str__(self) -> str:
        return str(self.args[0])


class StepFailedError(AnabranchError):
    """Stand in an unwrapped result for a step without an error of its own."""


def unknown_option(where: str, name: str, known: Iterable[str]) -> UnknownOptionError:
    """Make the error for the keyword ``name`` that ``where`` does not take."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names)}"
    return UnknownOptionError(f"{where} takes no option {name!r}: {hint}")


def not_built_yet(where: str, option: str, seen: object) -> NotBuiltYetError:
    """Make the error for an option that a later version brings."""
    return NotBuiltYetError(
        f"{where}: {option}={seen!r} is not built yet; leave {option} out in this version"
    )
