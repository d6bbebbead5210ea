"""Keep the terms of a step with branches: its limit, deadline and rules, and what it then was."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs

from anabranch._branch import THREAD
from anabranch._host import Host
from anabranch._runtime import check_home
from anabranch._scheduler import Scheduler
from anabranch._watch import check_event
from anabranch._work import Status, check_seconds
from anabranch.abc import BreachEvent, Limiter
from anabranch.errors import ConfigurationError
from anabranch.lanes._thread import IO_LIMIT, io_lane
from anabranch.pipeline._adaptive import Adaptive
from anabranch.pipeline._conclude import Reduce, check_reduce
from anabranch.pipeline._config import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    adaptive_of,
    default_limit,
    limit_of,
)
from anabranch.pipeline._node import Frame
from anabranch.pipeline._plan import Branches, Plan, title
from anabranch.pipeline._resources import Resources
from anabranch.pipeline._rules import CancelWhen, Halt, Rules, check_rules
from anabranch.pipeline._stopped import is_pressed
from anabranch.pipeline._trial import Trial, tried

UNBOUNDED_IS_FINE_TO = 64


class UnboundedWarning(UserWarning):
    """Warn that a step runs more than 64 branches at once, because nothing bounds it."""


@attrs.frozen(kw_only=True)
class Terms:
    """Say under which limit, how long, and how strictly a step runs its branches."""

    limit: int | Limiter | None
    tracks_completion: bool
    timeout: float | None
    on_branch_failure: BranchFailureStrategy
    halt: Halt | None = None
    cancel_when: tuple[CancelWhen, ...] = ()
    cancels_singly: bool = True
    breach_event: BreachEvent | None = None  # that is to be watched
    cancel_grace: float | None = 5.0
    reduce: Reduce | None = None
    adaptive: Adaptive | None = None  # how the limit moves, if it does

    @property
    def ruled(self) -> bool:
        """Whether there is anything to apply while it runs."""
        return self.halt is not None or bool(self.cancel_when)

    def limit_now(self) -> float | None:
        """Return the step's limit as a number; None for none."""
        if isinstance(self.limit, Limiter):
            return self.limit.total_tokens
        return self.limit

    def with_rules(self, where: str, plans: Sequence[Plan], rules: object) -> Terms:
        """Return these terms with ``rules``, once they and ``halt`` fit the step's branches.

        Raises:
            ConfigurationError: rules that cannot be meant, or could never do anything.
        """
        if self.halt is not None:
            self.halt.needed(where, len(plans))
        below = [path for plan in plans for path in plan.paths_below()] if rules else []
        found = check_rules(where, [plan.key for plan in plans], below, rules)
        if found and not self.cancels_singly:
            raise ConfigurationError(
                f"{where}: cancel_when= cancels single branches, and "
                f"individual_cancellation=False forbids it; leave one of them out"
            )
        return attrs.evolve(self, cancel_when=found) if found else self

    def rules(self, where: str, path: str, total: int | None) -> Rules | None:
        """Make what applies the rules to one run, on a step in the branch ``path``."""
        if self.halt is None and not self.cancel_when:
            return None
        needed = 0 if self.halt is None else self.halt.needed(where, total)
        return Rules(path, self.halt, needed, self.cancel_when)


def terms_of(
    where: str,
    concurrency: object,
    max_concurrency: object,
    track_completion: object,
    timeout: float | None,
    on_branch_failure: object,
    halt: object = None,
    reduce: Reduce | None = None,
    cancel_grace: float | None = 5.0,
    breach_event: BreachEvent | None = None,
) -> Terms:
    """Check a step's options.

    Raises:
        ConfigurationError: what cannot be meant.
    """
    limit, tracks = limit_of(where, concurrency, max_concurrency, track_completion)
    check_seconds(where, "timeout", timeout)
    check_seconds(where, "cancel_grace", cancel_grace)
    if not isinstance(on_branch_failure, BranchFailureStrategy):
        raise ConfigurationError(
            f"{where}: on_branch_failure={on_branch_failure!r} "
            f"({type(on_branch_failure).__name__}) is no BranchFailureStrategy; "
            f"give BranchFailureStrategy.PROPAGATE or .IGNORE"
        )
    if halt is not None and not isinstance(halt, Halt):
        raise ConfigurationError(
            f"{where}: halt={halt!r:.80} ({type(halt).__name__}) is no Halt; "
            f"give Halt(when='now', on='failure', count=1)"
        )
    check_reduce(where, reduce)
    check_event(where, breach_event)
    watches = not isinstance(concurrency, ConcurrencyConfig) or concurrency.breach_watcher
    if breach_event is not None and not watches:
        raise ConfigurationError(
            f"{where}: breach_event= is to be watched, and breach_watcher=False forbids it; "
            f"leave one of them out"
        )
    return Terms(
        limit=limit,
        tracks_completion=tracks,
        timeout=timeout,
        on_branch_failure=on_branch_failure,
        halt=halt,
        cancel_grace=cancel_grace,
        breach_event=breach_event,
        cancels_singly=not isinstance(concurrency, ConcurrencyConfig)
        or concurrency.individual_cancellation,
        reduce=reduce,
        adaptive=adaptive_of(concurrency, max_concurrency),
    )


def scheduler_of(
    terms: Terms, frame: Frame, name: str, count: float, rules: Rules | None = None, **more: Any
) -> Scheduler:
    """Make the scheduler of a step: its limit, and those of the pipelines around it."""
    if (trial := tried.get()) is not None and not isinstance(terms.limit, Limiter):
        terms = _on_trial(terms, trial)
    own = [] if terms.limit is None else [terms.limit]
    live, above = frame.run.live, frame.rules
    if isinstance(terms.limit, int) and count <= terms.limit and live is None:
        own = []  # it cannot bind, so it costs nothing
    elif own:
        check_home(own[0])
    if terms.limit is None and not frame.limiters and count > UNBOUNDED_IS_FINE_TO:
        warnings.warn(
            f"step {name!r} runs {count} branches at once, because nothing bounds it; "
            f"give it max_concurrency=",
            UnboundedWarning,
            stacklevel=2,
        )
    leases, outside = live is not None, frame
    if rules is not None:
        above = (*above, rules)
    if above:
        more["rules"] = above
        leases = leases or any(each.cancels for each in above)
        outside = attrs.evolve(frame, heeded=above)
    scheduler = Scheduler(
        [*own, *frame.limiters, *frame.gates],
        delivery=frame.run.delivery,
        step=frame.path + name,
        timeout=terms.timeout,
        reads=False,
        leases=leases and terms.cancels_singly,
        live=live,
        host=frame.run.host,
        outside=outside,
        grace=terms.cancel_grace,
        **more,
    )
    if own and terms.adaptive is not None:
        budget = next((each for each in frame.rules if isinstance(each, Resources)), None)
        scheduler.adapts = terms.adaptive.within(budget).begin
    return scheduler


def _on_trial(terms: Terms, trial: Trial) -> Terms:
    """Return terms with the limit that is tried, whether the step has one of its own or not."""
    trial.met = True
    if trial.limit is not None:
        return attrs.evolve(terms, limit=trial.limit, adaptive=None)
    free = ConcurrencyConfig().adaptive()
    if terms.adaptive is not None and free is not None:  # its own law, and the usual bounds
        free = attrs.evolve(terms.adaptive, bounds=free.bounds)
    return attrs.evolve(terms, limit=default_limit(), adaptive=free)


def wider_io_lane(
    terms: Terms, host: Host, plans: tuple[Plan, ...]
) -> AbstractContextManager[None] | None:
    """Raise the io lane's limit to the step's, if the step has threads and a larger limit."""
    limit = terms.limit
    if isinstance(limit, int) and limit > IO_LIMIT and any(plan.kind == THREAD for plan in plans):
        return io_lane(host).at_least(limit)
    return None


def verdict_of(
    terms: Terms, good: int, total: int, spared: int, why: str, halted: str = ""
) -> tuple[bool, Status, str]:
    """Fold how branches ended, and what stopped the step, into how the step ended.

    Returns whether it succeeded, its status, and a sentence for people.

    Args:
        good: how many succeeded.
        spared: how many were stopped, or never begun, by the user's own wish: no failures.
        why: what cut the step off, if it did not end by itself.
        halted: why its Halt ended it early, or single branches were cancelled for their memory.
    """
    words = f"{good} of {total} branches succeeded"
    if good == total and not (why or halted):
        return True, Status.SUCCEEDED, words
    if why and why != halted:
        own = why.startswith("deadline") and why.endswith("(timeout=)")  # not the pipeline's
        return False, Status.TIMED_OUT if own else Status.CANCELLED, f"{words}; {why}"
    if spared:
        words += f", {spared} were stopped"
    ignores = terms.on_branch_failure is BranchFailureStrategy.IGNORE
    enough = good > 0 and (ignores or good + spared == total)
    if halted:
        words += f"; {halted}"
    if halted and terms.halt is not None and not is_pressed(halted):
        enough = terms.halt.on == "success" or (terms.halt.on == "done" and enough)
    if enough or good == total:
        return True, Status.SUCCEEDED, words
    return False, Status.CANCELLED if spared == total else Status.FAILED, words


def group_of(name: str, results: Branches) -> ExceptionGroup[Exception] | None:
    """Group the errors of a step's branches; None if no branch has one."""
    errors = results.errors()
    if not errors:
        return None
    return ExceptionGroup(f"{len(errors)} of {len(results)} branches of step {title(name)}", errors)
