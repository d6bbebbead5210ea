"""Keep what a scheduler and its hands know together: the queue, the limiters, who has ended.

Only the loop's thread changes it, but for two things: threads pop from the queue, under ``lock``,
and append to ``from_threads``.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from anabranch._branch import Branch
from anabranch._host import Host
from anabranch._knot import Block
from anabranch._observers import Delivery
from anabranch._pool import NOWHERE, Account, Outside
from anabranch._queue import Queue
from anabranch._token import Held
from anabranch._work import Status
from anabranch.abc import Limiter
from anabranch.events import BranchFinished, BranchQueued, BranchStarted, Event, LimitChanged

SLICE_S = 0.001  # between two looks at who else waits, and the longest run without a checkpoint


_NO_HANDS: set[Any] = set()  # nobody cancels single branches, so nobody looks for their hands
_NO_TOTALS: list[float] = []
_NO_EVENTS: list[Any] = []


class Course:
    """Keep what only a step needs whose own limit moves, once that begins to.

    Attributes:
        regulation: what moves it.
        rest: ends that when nothing is left that could run.
        tried_again: hears of each attempt that failed and is followed by another.
    """

    __slots__ = ("regulation", "rest", "tried_again")

    def __init__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what leads back to the scheduler."""
        self.regulation: Any = None
        self.rest: Callable[[], object] = bool
        self.tried_again: Callable[[Exception], object] = bool


class Ledger:
    """Share one scheduler's state with its hands; plain attributes, for the hot loop."""

    # What few schedulers ever change stands here: a small step pays for each attribute it sets.
    read = 0  # how many of those that ended have been read, and are gone
    recorded = False  # what ends goes to a recorder first
    unrecorded = 0  # how many have ended and wait for the recorder
    counts: Counter[str]  # by status, where ended branches are not kept
    from_threads: deque[Branch]  # what threads ended and the loop has not published; likewise
    settling = False  # the loop has been asked to publish what threads ended
    loop: Any = None  # the loop's token, for threads; made with the first thread
    cut_off = False  # it was closed before everything had ended by itself
    stopped = ""  # why everything is being cancelled
    room = True  # tokens may be free
    fresh = 0  # hands that were started and have not suspended yet
    yielding = False  # a hand is at a checkpoint between two branches
    block: Block | None = None  # what the branch that opened the scheduler sees of it
    parked: Held | None = None  # with what the dispatcher waits for its tokens
    shared = False  # others may use one of the limiters, or move it
    look_at = -math.inf  # when to look again who else waits
    look_for_threads_at = -math.inf  # and when on behalf of threads
    crowded = False  # somebody was seen waiting then
    pull: Callable[[], Branch | None] | None = None  # this and those behind it: the scheduler's
    grow: Callable[[int], None]
    reader_is_behind: Callable[[], bool] | None = None
    behind: list[Any] = _NO_EVENTS  # an Event of each hand that waits until outcomes are read
    outside: Outside = NOWHERE  # what pays for it, and says why it is cancelled from there
    on_end: Callable[[Branch], None] | None = None
    account: Account | None = None  # what it was charged; made with the first charge
    dispatching: Any = None  # the dispatcher's scope, while it lives
    nursery: Any = None  # the scheduler's; None where there is nobody but the calling task
    alarm: Any = None  # who wakes branches that wait for a moment; made when one does
    tried = 0  # branches begun that may be tried again
    retries = 0  # attempts after the first, of all of them
    refusals = 0  # how many there were not, because a budget was spent
    remark = ""  # what a step's result says of that
    pressure = ""  # why the first of them was
    no_more = ""  # why nothing is started any more, while what runs goes on
    grace: Any = None  # who watches for branches that work on after a cancellation
    make_grace: Callable[[], Any] | None = None
    unarmed = False  # the loop has not been told of the deadline yet
    scope: Any = None  # what the deadline strikes
    alive: set[Any] | None = None  # hands that have not ended, where they are counted
    sentry: Any = None  # the scope of who sees that everything is being cancelled
    delivery: Delivery | None = None
    listening = False  # somebody is to hear of each branch that ends
    parent: Held | None = None  # what the branch holds that opened the scheduler
    leases = False  # single branches may be cancelled
    hands: set[Any] = _NO_HANDS  # then
    totals: list[float] = _NO_TOTALS  # of the limiters, when they were last told
    adapts: Callable[[], object] | None = None  # begins to move the step's own limit, by a course
    course: Course | None = None  # where it moves
    tally: Any = None  # what counts ended branches, where they are not kept
    _stride = 1
    _ended_before = -1

    def __init__(
        self,
        host: Host,
        limiters: Sequence[Limiter],
        context: Context,
        parent: Held | None,
        *,
        delivery: Delivery | None = None,
        step: str = "",
        timeout: float | None = None,
        leases: bool = True,
    ) -> None:
        self.host = host
        self.runtime = host.runtime
        self.clock: Callable[[], float] = host.clock
        self.limiters = limiters
        self.context = context
        self.step = step
        self.timeout = timeout
        self.deadline = math.inf if timeout is None else host.clock() + timeout
        self.queue = Queue()
        self.lock = threading.Lock()
        self.ended: deque[Branch] = deque()  # in the order of completion, not yet read
        if parent is not None:
            self.parent = parent
        if delivery is not None:
            self.delivery, self.listening = delivery, True
        if leases:
            self.leases, self.hands = True, set()
        if limiters:
            self.totals = [limiter.total_tokens for limiter in limiters]

    def pop(self) -> Branch | None:
        """Remove the most urgent branch from the queue, or pull one from what is fed."""
        if self.stopped:
            return None
        branch = self.queue.pop()
        if branch is None and self.pull is not None:
            return self.pull()
        return branch

    def grow_in_step(self) -> None:
        """Start one hand more, and twice as many each time while no branch has ended meanwhile."""
        ended = self.read + len(self.ended)
        self._stride = self._stride * 2 if ended == self._ended_before else 1
        self._ended_before = ended
        self.grow(self._stride)

    def reader_moved(self, count: float = 1) -> bool:
        """Wake up to ``count`` hands that wait for the reader; False when there were none."""
        woken = 0
        while self.behind and woken < count:
            self.behind.pop().set()
            woken += 1
        return woken > 0

    def close(self) -> None:
        """Start no hand any more; and let go of what leads back here.

        A ring for each step would keep the garbage collector busy.
        """
        self.grow, self.make_grace, self.adapts = _grow_no_more, None, None
        if self.course is not None:
            self.course.close()

    def arm(self) -> None:
        """Tell the loop of the deadline: something waits for longer than a checkpoint."""
        if self.unarmed:
            self.unarmed = False
            self.scope.deadline = self.deadline
            if self.adapts is not None and self.regulation is None:
                self.course = self.course or Course()
                self.adapts()
            if self.alive and self.watch() is not None:
                self.grace.stand()

    def last_hand_ended(self) -> None:
        """Hear that no hand is left, so that nobody can be stubborn."""
        if self.sentry is not None:
            self.sentry.cancel(reason="no branch runs")
            self.sentry, self.unarmed = None, True
        if self.course is not None:
            self.course.rest()

    @property
    def regulation(self) -> Any:
        """What moves the step's own limit; None where nothing does, or not yet."""
        return None if self.course is None else self.course.regulation

    def rest(self) -> None:
        """Hear that nothing may be left that could run: then nobody's limit needs to move."""
        if self.course is not None:
            self.course.rest()

    def is_idle(self) -> bool:
        """Tell whether no hand is left, where they are counted, and none is to come."""
        if self.alive or self.dispatching is not None:
            return False
        return self.alarm is None or not self.alarm.waiting()

    def watch(self) -> Any:
        """Return who watches for stubborn branches; None if nobody could."""
        if self.grace is None and self.make_grace is not None:
            self.grace = self.make_grace()
        return self.grace

    def unpark(self) -> None:
        """End the dispatcher, if it waits for a token and there is nothing to start; the alarm too.

        For whoever has ended branches that waited.
        """
        if self.dispatching is not None and not self.queue:
            self.dispatching.cancel(reason="nothing is queued")
        if self.alarm is not None:
            self.alarm.look()

    def resume(self) -> None:
        """Start a hand for what is queued or fed, unless one is about to look."""
        if self.fresh:
            self.room = True  # that one will see, when it suspends
        else:
            self.grow(1)

    def waiting(self) -> list[Branch]:
        """List the branches that are queued, then those that wait for their next attempt."""
        queued = self.queue.waiting()
        return queued if self.alarm is None else queued + self.alarm.waiting()

    def end(self, branch: Branch, status: Status, reason: str = "") -> None:
        """Record how ``branch`` ended; the hot loop does the same in place for a success."""
        branch.ended_at = self.clock()
        branch.status = status
        branch.reason = reason
        self.ended.append(branch)
        if self.listening:
            self.publish(branch)

    def publish(self, branch: Branch) -> None:
        """Tell whoever listens that ``branch`` has ended."""
        if self.delivery is not None:
            outcome = branch.outcome(self.read + len(self.ended) - 1)
            self.emit(BranchFinished(branch.ended_at, self.step, branch.key, outcome))
        if self.on_end is not None:
            self.on_end(branch)

    def queued(self, branch: Branch) -> None:
        """Tell the observer, if there is one, that ``branch`` waits."""
        if self.delivery is not None:
            key, priority = branch.key, branch.priority
            self.emit(BranchQueued(branch.queued_at, self.step, key, priority))

    def started(self, branch: Branch) -> None:
        """Tell the observer, if there is one, that ``branch`` has been called."""
        if self.delivery is not None and branch.started_at is not None:
            at = max(branch.started_at, branch.queued_at)  # a hand looks at the clock, then pulls
            self.emit(BranchStarted(at, self.step, branch.key, branch.queued_s))

    def emit(self, event: Event) -> None:
        """Queue ``event`` for the observer, if there is one."""
        if self.delivery is not None:
            self.delivery.emit(event)

    def begin_threads(self) -> None:
        """Make what threads need to reach the loop."""
        if self.loop is None:
            self.from_threads = deque()
            self.loop = self.runtime.lowlevel.current_trio_token()

    def settle(self) -> None:
        """Publish what threads have ended since the last time."""
        self.settling = False
        while self.from_threads:
            branch = self.from_threads.popleft()
            self.ended.append(branch)
            if self.listening:
                self.publish(branch)

    def why_cancelled(self) -> str:
        """Say why the whole scheduler is being cancelled, as far as it can know."""
        if self.stopped:
            return self.stopped
        if self.clock() >= self.deadline:
            return f"deadline: {self.timeout:g} s (timeout=)"
        return self.outside.why_cancelled()

    def why_below(self, key: str) -> str:
        """Say what cancels whatever is nested in the branch ``key``, as far as it can be known."""
        for hand in self.hands:
            branch = hand.running()
            if branch is not None and branch.key == key:
                reason: str = hand.why_cancelled()
                if reason:
                    return reason
        if not self.stopped and self.clock() >= self.deadline:
            return f"deadline: {self.timeout:g} s (timeout= of step {self.step})"
        return self.why_cancelled()

    def limit(self) -> float:
        """Return how many branches may run at once, now."""
        return min((limiter.total_tokens for limiter in self.limiters), default=math.inf)

    def ends_early(self) -> bool:
        """Tell whether everything is being cancelled, as far as can be known here."""
        return bool(self.stopped) or self.clock() >= self.deadline

    def others_wait(self) -> bool:
        """Tell whether somebody else waits for one of the limiters.

        Costly, so hands ask at most once a slice.
        """
        for limiter in self.limiters:
            found = limiter.statistics()
            if found.tasks_waiting > 1:
                return True
            if found.tasks_waiting:
                parked = self.parked  # it waits no more once it has been given its token
                ours = parked is not None and parked.waits_for is limiter
                if not ours or parked in found.borrowers:
                    return True
        return False

    def note_limits(self, reason: str = "set from outside") -> None:
        """Tell the observer which limits have been moved since the last time."""
        for index, limiter in enumerate(self.limiters):
            old, new = self.totals[index], limiter.total_tokens
            if new != old:
                self.totals[index] = new
                self.emit(LimitChanged(self.clock(), self.step, old, new, reason))


def _grow_no_more(count: int) -> None:
    """Start no hand: the scheduler has closed."""
