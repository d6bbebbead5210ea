"""Keep the options of one run of a pipeline, checked before anything starts."""

from __future__ import annotations

from typing import Any

import attrs

from anabranch._budget import Budget, UsageLimits, check_budget
from anabranch._host import Host
from anabranch._observers import Delivery, check_observer
from anabranch._pool import Pool
from anabranch._runtime import check_home
from anabranch._watch import check_event, check_event_home
from anabranch._work import Status, check_seconds
from anabranch.abc import BreachEvent, Limiter, Observer
from anabranch.errors import ConfigurationError
from anabranch.pipeline._context import check_context
from anabranch.pipeline._guard import Guard
from anabranch.pipeline._live import LiveRun
from anabranch.pipeline._node import Run
from anabranch.pipeline._result import StepResult


@attrs.frozen
class RunTerms:
    """Say with what a pipeline is run."""

    context: Any = None
    budget: Budget | UsageLimits | None = None
    limiter: Limiter | None = None
    breach_event: BreachEvent | None = None
    observer: Observer | None = None
    timeout: float | None = None

    @property
    def may_end_early(self) -> bool:
        """Whether the run needs a scope of its own."""
        return not (self.budget is None and self.breach_event is None and self.timeout is None)

    def check(self, where: str, needs_context: str) -> None:
        """Raise ConfigurationError for an option that cannot be meant.

        Args:
            needs_context: a step that does nothing without a context; empty for none.
        """
        check_seconds(where, "timeout", self.timeout)
        check_context(self.context)
        if self.context is None and needs_context:
            raise ConfigurationError(
                f"{where}: {needs_context} merges contexts or narrows them, and this run has "
                f"none; give context={{}}, or an attrs, dataclass or pydantic object"
            )
        if self.limiter is not None and not isinstance(self.limiter, Limiter):
            raise ConfigurationError(
                f"{where}: limiter={self.limiter!r} ({type(self.limiter).__name__}) is no limiter; "
                f"give a CapacityLimiter of the host's loop, or a number as max_parallel_steps="
            )
        check_observer(where, self.observer)
        check_budget(where, self.budget)
        check_event(where, self.breach_event)

    def check_homes(self) -> None:
        """Raise ConfigurationError for what belongs to a loop of the other kind."""
        if self.limiter is not None:
            check_home(self.limiter)
        if self.breach_event is not None:
            check_event_home(self.breach_event)


BARE = RunTerms()


def run_of(
    terms: RunTerms, host: Host, pool: Pool, live: LiveRun[Any] | None, started_at: float
) -> Run:
    """Make the run that ``terms`` ask for, guarded where it may be breached or is followed."""
    delivery = None if terms.observer is None else Delivery(terms.observer)
    run = Run(host, host.clock, delivery, live, pool)
    if terms.timeout is not None:
        run.timeout, run.deadline = terms.timeout, started_at + terms.timeout
    if live is not None or terms.budget is not None or terms.breach_event is not None:
        run.guard = Guard(run)
    if live is not None and run.guard is not None:
        live.began(pool, run.guard)
    if terms.budget is not None and run.guard is not None:
        loop = host.runtime.lowlevel.current_trio_token()
        pool.watch(terms.budget.limits, run.guard.trip, loop)
    return run


def cut_behind(step: StepResult[Any], why: str) -> StepResult[Any]:
    """Return the result of a pipeline that was cancelled behind a step which had succeeded."""
    how: dict[str, Any] = {
        "success": False,
        "status": Status.CANCELLED,
        "reason": why,
        "output": None,
    }
    return attrs.evolve(step, feedback=f"{step.feedback}; {why}", **how)


def stopped_steps(run: Run, reason: str) -> list[StepResult[Any]]:
    """Return the step at the top that was stopped, if one was, with the run's reason."""
    found = []
    for path, step in run.stopped.items():
        if not path and step.success:  # cancelled behind it
            found.append(step)
        elif not path:
            words = step.feedback.removesuffix(step.reason).removesuffix("; ")
            joint = "" if words.endswith(": ") else "; "  # as in "cancelled: "
            words = f"{words}{joint}{reason}" if words else reason
            found.append(attrs.evolve(step, reason=reason, feedback=words))
    return found
