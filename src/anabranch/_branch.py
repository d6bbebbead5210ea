"""Keep one branch: a job that the scheduler owns, from its acceptance to its end.

One object with slots for each branch, changed in place: the hot loop's cost is in the objects.
What users see (Outcome, StepResult) is built from it when they look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from anabranch._pool import Account
from anabranch._tries import Tries
from anabranch._work import Job, Outcome, Status, is_async, name_of
from anabranch.errors import BranchTimedOutError, ConfigurationError
from anabranch.lanes._process import CPU_LANE, CpuLane

# How a branch is called. ASYNC: a coroutine in the hand's task; PLAIN: where it stands;
# THREAD: in a thread hand. Every other lane is an async call, of the lane's own `run`.
# TRIED: as ASYNC, but it may be tried again, or fall back: not for the hot loop.
# STRUCK: not at all; it was cancelled before it could be queued, and ends as it is.
ASYNC, PLAIN, THREAD, TRIED, STRUCK = range(5)

QUEUE_TIMEOUT = "(queue_timeout=)"  # ends the reason of a branch that waited too long

NO_KWARGS: Mapping[str, Any] = {}


class Branch:
    """Carry a job's terms, then how it went; ``status`` is None until it has ended."""

    __slots__ = (
        "account",
        "args",
        "context",
        "ended_at",
        "error",
        "feed",
        "fn",
        "key",
        "kind",
        "kwargs",
        "on_cancel",
        "priority",
        "queued_at",
        "reason",
        "started_at",
        "status",
        "timeout",
        "tries",
        "value",
    )

    def __init__(
        self,
        key: str,
        kind: int,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        queued_at: float,
        *,
        kwargs: Mapping[str, Any] = NO_KWARGS,
        priority: int = 0,
        timeout: float | None = None,
        context: Context | None = None,
        on_cancel: str = "abandon",
    ) -> None:
        self.key = key
        self.kind = kind
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.queued_at = queued_at
        self.priority = priority
        self.timeout = timeout
        self.context = context
        self.on_cancel = on_cancel
        self.feed: Any = None  # who is to hear that its outcome was read, if it was fed
        self.started_at: float | None = None
        self.ended_at = queued_at
        self.status: Status | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.reason = ""
        self.account: Account | None = None  # what it was charged; made with the first charge
        self.tries: Tries | None = None  # of a branch that may be tried again, or fall back

    @property
    def queued_s(self) -> float:
        """Seconds from acceptance to the start, or to the end of a branch never started."""
        until = self.ended_at if self.started_at is None else self.started_at
        return max(0.0, until - self.queued_at)  # a hand pulls a branch after its look at the clock

    @property
    def ran_s(self) -> float:
        """Seconds from the start to the end; 0.0 for a branch never started."""
        return 0.0 if self.started_at is None else self.ended_at - self.started_at

    @property
    def begun(self) -> int:
        """How often a call was begun, a fallback's too."""
        if self.tries is not None:
            return self.tries.begun
        return 0 if self.started_at is None else 1

    @property
    def attempts(self) -> int:
        """How often its own call was begun."""
        return self.begun if self.tries is None else self.tries.attempts

    @property
    def attempt_errors(self) -> tuple[Exception, ...]:
        """What was raised before the error that it ended with, in order."""
        return () if self.tries is None else self.tries.errors(self.error)

    def may_be_tried(self, tries: Tries) -> None:
        """Set how it is tried again, and what it falls back to."""
        self.tries = tries
        if self.kind == ASYNC:
            self.kind = TRIED

    def own_deadline(self, now: float) -> float:
        """Return when its own timeout strikes if it is begun ``now``, or when it first was."""
        assert self.timeout is not None, "only a branch with a timeout is asked"
        began_at = None if self.tries is None else self.tries.began_at
        return (now if began_at is None else began_at) + self.timeout

    def whose(self) -> str:
        """Say whose its timeout is, and its error."""
        return "its fallback" if self.tries is not None and self.tries.fell_back else "the branch"

    def strike(self, reason: str) -> None:
        """Have it end as cancelled as soon as a hand takes it up."""
        self.kind, self.reason, self.timeout, self.tries = STRUCK, reason, None, None

    def end_badly(
        self, error: Exception | None, *, ran_out: bool, stopped: str, abandoned: bool
    ) -> None:
        """Set how it ended without success; what stopped it comes before the error it raised.

        Args:
            ran_out: its own timeout has struck.
            stopped: why everything is being cancelled; empty when nothing but its error ended it.
            abandoned: its thread runs on.
        """
        if error is not None:  # else an attempt before may have left one
            self.error = error
        if self.reason:
            late = self.reason.endswith(QUEUE_TIMEOUT) and not self.begun
            self.status = Status.REJECTED if late else Status.CANCELLED
        elif ran_out:
            whose = self.whose()
            self.status = Status.TIMED_OUT
            self.reason = f"deadline: {self.timeout:g} s (timeout= of {whose})"
            self.error = self.error or BranchTimedOutError(
                f"branch {self.key!r} did not end in {self.timeout:g} s; "
                f"a larger timeout= of {whose}, or None, lifts it"
            )
        elif stopped:
            self.status = Status.CANCELLED
            self.reason = stopped
        else:
            self.status = Status.FAILED
        if abandoned:
            self.status = Status.ABANDONED

    def outcome(self, order: int) -> Outcome:
        """Build what users see; ``order`` is its place in the order of completion."""
        assert self.status is not None, "a branch that has not ended has no outcome"
        return Outcome(
            key=self.key,
            status=self.status,
            value=self.value,
            error=self.error,
            reason=self.reason,
            attempts=self.attempts,
            attempt_errors=self.attempt_errors,
            queued_s=self.queued_s,
            ran_s=self.ran_s,
            order=order,
        )


def call_in(lane: Any, fn: Callable[..., Any], where: str) -> tuple[int, Any]:
    """Decide how a call of ``fn`` in ``lane`` is made; return the kind, and the Lane if it has one.

    Raises:
        ConfigurationError: an async function for a lane of threads or processes.
    """
    if not isinstance(lane, str):
        return ASYNC, lane
    if is_async(fn):
        if lane in ("io", "cpu"):
            raise ConfigurationError(
                f"{where}: lane={lane!r} cannot run the async function {name_of(fn)}; "
                f"async functions run on the loop: leave lane out, or make it a plain function"
            )
        return ASYNC, None
    if lane == "cpu":
        return ASYNC, CPU_LANE
    return (PLAIN if lane == "inline" else THREAD), None


def run_in(lane: Any, key: str) -> Callable[..., Any]:
    """Return what makes a call in ``lane`` for the branch ``key``; ours marks by it what prints."""
    run: Callable[..., Any] = lane.labelled(key).run if isinstance(lane, CpuLane) else lane.run
    return run


def branch_of(job: Job, now: float, context: Context | None) -> Branch:
    """Make the branch that ``job`` becomes when it is accepted at ``now``."""
    kind, lane = call_in(job.lane, job.fn, f"Job {job.key!r}")
    fn, args, kwargs = job.fn, job.args, job.kwargs
    if lane is not None:
        fn, args, kwargs = run_in(lane, job.key), (fn, args, kwargs), NO_KWARGS
    branch = Branch(
        job.key,
        kind,
        fn,
        args,
        now,
        kwargs=kwargs,
        priority=job.priority,
        timeout=job.timeout,
        context=context,
        on_cancel=job.on_cancel,
    )
    if job.retry is not None:
        branch.may_be_tried(Tries(job.retry, context=context))
    return branch
