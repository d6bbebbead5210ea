"""Guard a run: end it, by one cancel, when its budget is passed or its breach_event set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from anabranch._attempt import note_stop
from anabranch._branch import Branch
from anabranch._scheduler import Scheduler
from anabranch._watch import WAS_SET, Watcher, check_event_home
from anabranch.abc import BreachEvent
from anabranch.events import Breached
from anabranch.pipeline._returned import PLAIN, charge_ended
from anabranch.pipeline._stopped import SHOWN, is_spared

if TYPE_CHECKING:
    from anabranch.pipeline._node import Run


class Guard:
    """Hear of every step of one run, and stop them all at once.

    Attributes:
        breach: why it was ended; empty while it was not. at: when, by the loop's clock.
        stopped: why somebody who follows it live has stopped it between two steps, likewise.
        scope: holds the whole run, where it may be breached.
        spared: the reasons of those branches of a step that keeps none which were stopped by the
            user's own wish, and how many they were.
    """

    cancels: Final = False  # no single branches

    def __init__(self, run: Run) -> None:
        self.breach = self.stopped = ""
        self.at = math.inf
        self.scope: Any = None
        self.spared: dict[Scheduler, Counter[str]] = {}
        self._run = run
        run.pool.at_once = True
        self._open: dict[Scheduler, None] = {}

    def opened(self, scheduler: Scheduler) -> None:
        """Hear that a step begins."""
        self._open[scheduler] = None

    def filled(self, scheduler: Scheduler) -> None:
        """Hear that its branches are queued."""

    def forbids(self, key: str) -> str:
        """Say why a branch must not begin: never, here."""
        return ""

    def heeds(self, branch: Branch) -> bool:
        """Tell whether the branch may have to be charged for what it returned."""
        return type(branch.value) not in PLAIN

    def closed(self, scheduler: Scheduler) -> None:
        """Hear that it has ended."""
        self._open.pop(scheduler, None)

    def ended(self, scheduler: Scheduler, branch: Branch) -> None:
        """Hear that a branch has ended: it is charged for what it returned."""
        if branch.value is not None:
            charge_ended(branch, scheduler.ledger)
        elif not scheduler.keeps and is_spared(branch):
            reasons = self.spared.setdefault(scheduler, Counter())
            known = branch.reason in reasons or len(reasons) < SHOWN
            reasons[branch.reason if known else ""] += 1  # they may be as many as there are items

    def trip(self, reason: str) -> None:
        """End the run: what is queued has its outcome at once, what runs is cancelled as a whole.

        Call it in the loop's thread; only the first call counts.
        """
        run = self._run
        if self.breach or run.pool.over:
            return
        self.breach, self.at = reason, run.clock()
        run.pool.reason = run.pool.reason or reason  # so that nothing more is reserved
        if run.delivery is not None:
            run.delivery.emit(Breached(self.at, "", reason))
        for scheduler in list(self._open):
            if self.at < scheduler.ledger.deadline:  # else that has struck first
                scheduler.stop(reason, whole=True)
        if self.scope is not None:
            note_stop()
            self.scope.cancel(reason=reason)

    def stop(self, reason: str) -> None:
        """End the run where none of its steps can be stopped by itself; what it does is cancelled.

        A plain step in a row has no branches, and neither has one that merges or reduces.
        """
        if self.breach or self.stopped or self._run.pool.over:
            return
        self.stopped, self.at = reason, self._run.clock()
        if self.scope is not None:
            note_stop()
            self.scope.cancel(reason=reason)


async def walk_guarded(
    walk: Callable[[], Awaitable[None]], run: Run, event: BreachEvent | None
) -> bool:
    """Await ``walk`` in a scope which a breach, or the run's deadline, cancels; True if one did."""
    guard, runtime = run.guard, run.host.runtime
    scope = runtime.CancelScope(deadline=run.deadline)
    if guard is None:
        with scope:
            await walk()
        return bool(scope.cancelled_caught)
    if guard.stopped:  # before it began
        return True
    guard.scope = scope
    if event is None:
        with scope:
            await walk()
    elif event.is_set():
        guard.trip(WAS_SET)
    else:
        async with Watcher(event, partial(guard.trip, WAS_SET), runtime):
            with scope:
                await walk()
    if run.pool.reason:  # from a thread, and the loop has not taken the call yet
        guard.trip(run.pool.reason)
    return bool(scope.cancelled_caught or guard.breach or guard.stopped)


async def run_guarded(
    scheduler: Scheduler,
    branches: list[Branch],
    run: Run,
    event: BreachEvent | None,
    *,
    urgent: bool,
) -> None:
    """Run the branches of a step to their end, or until its event is set."""

    def trip() -> None:
        if run.delivery is not None:
            run.delivery.emit(Breached(run.clock(), scheduler.ledger.step, WAS_SET))
        scheduler.stop(WAS_SET)

    if event is None:
        await scheduler.run_all(branches, urgent=urgent)
        return
    check_event_home(event)
    if event.is_set():
        async with scheduler:
            scheduler.ledger.queue.push_all(branches)
            trip()
    else:
        async with Watcher(event, trip, run.host.runtime):
            await scheduler.run_all(branches, urgent=urgent)
