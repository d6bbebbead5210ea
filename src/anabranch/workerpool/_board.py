"""Keep what all threads of one pool know together, under one lock.

Take the token first, choose the task second: a task that waits is an entry in a heap. A thread
hand keeps its token and goes from task to task without asking anybody but this board;
the engine's loop is asked for async functions, deadlines and waits between attempts only.

Whatever is changed here is changed with ``lock`` held; what runs a user's code (a call, a future's
callbacks) runs without it. Threads to be started are noted in ``starts``, and started after.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Protocol

from anabranch.errors import LaneError, SchedulerClosedError
from anabranch.workerpool._clock import monotonic, wall_offset
from anabranch.workerpool._counts import Counts
from anabranch.workerpool._engine import Engine
from anabranch.workerpool._hand import Hand
from anabranch.workerpool._task import PENDING, RETRYING, RUNNING, Task, TaskStatus
from anabranch.workerpool._waits import Wait

FEW = 64  # cancelled entries are not worth a search


class Gate(Protocol):
    """Let somebody through: a lock that is held, or the like of it for a loop."""

    def release(self) -> None: ...


class Board:
    """Share one pool's state between the threads that submit, work, wait and end it."""

    def __init__(self, limit: int, *, keep: int | None, loop: str, name: str) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.limit = limit
        self.closed = False  # nothing more is accepted
        self.in_use = 0  # tokens; never more than ``limit`` but while it shrinks
        self.hands: set[Hand] = set()  # all that have not left, and when all is over, those too
        self.open: set[Task] = set()  # accepted, and not ended
        self.unsettled: set[Task] = set()  # ended, and whoever waits has not been told yet
        self.tasks: dict[str, Task] = {}  # that can be asked for, in the order of submission
        self.counts = Counts()
        self.offset = wall_offset()
        self.starts: list[Hand | Engine] = []
        self.engine = Engine(self, loop, name)
        self.warned = False  # that a loop was blocked
        self._queue: list[tuple[int, int, Task]] = []
        self._void = 0  # entries of it whose task was cancelled
        self._fresh = 0  # hands that were given a token and have not looked since
        self._idle: list[Hand] = []
        self._returning: deque[Gate] = deque()  # whose wait is over, to have a token back
        self._keep = keep
        self._kept: deque[str] = deque()
        self._name = name
        self._numbers = count()

    def check_process(self) -> None:
        """Refuse a pool that was made by another process: its threads are not here.

        Raises:
            SchedulerClosedError: this process was forked from the one that made the pool.
        """
        if os.getpid() != self.pid:
            raise SchedulerClosedError(
                f"this pool belongs to process {self.pid}, and a fork has no threads of it; "
                f"make a new WorkerPool in process {os.getpid()}"
            )

    # Tasks come ------------------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """Accept a task, and see that somebody takes it.

        Raises:
            RuntimeError: the pool was shut down, or is another process's.
        """
        self.check_process()
        with self.lock:
            if self.closed:
                # By this very name, with these first words, people know it of any executor.
                raise RuntimeError(
                    "cannot schedule new futures after shutdown: the pool takes no more tasks; "
                    "make another one"
                )
            self.counts.submitted = task.number = self.counts.submitted + 1
            self.open.add(task)
            if task.listed:
                task.id = f"{task.number:06d}-{task.name}"
                self.tasks[task.id] = task
            self.queue(task)
        if self.starts:
            self.launch()

    def queue(self, task: Task) -> None:
        """Put a task in line, for its first attempt or another one."""
        heappush(self._queue, (-task.priority, task.number, task))
        if self.in_use < self.limit:
            self.dispatch()

    def dispatch(self) -> None:
        """Give free tokens to whom they are due: those who have lent theirs, then new hands."""
        queue = self._queue
        while self.in_use < self.limit:
            if self._returning:
                self.in_use += 1
                self._returning.popleft().release()
                continue
            while queue and queue[0][2].status not in (PENDING, RETRYING):
                heappop(queue)
                self._void -= 1
            if len(queue) - self._void <= self._fresh:
                return
            self.in_use += 1
            if queue[0][2].on_loop:
                task = heappop(queue)[2]
                self._begin(task)
                self.engine.spawn(task)
                continue
            self._fresh += 1
            if self._idle:
                hand = self._idle.pop()
                hand.fresh = hand.holds = True
                hand.wake()
            else:
                hand = Hand(self, f"{self._name}_{next(self._numbers)}")
                self.hands.add(hand)
                self.starts.append(hand)

    def launch(self) -> None:
        """Start the threads that are to be started; without the lock."""
        while True:
            with self.lock:
                if not self.starts:
                    return
                each = self.starts.pop()
            try:
                each.start()
            except RuntimeError as error:  # no thread can be had, or the interpreter ends
                each.not_started(error)

    def alone(self, hand: Hand) -> bool:
        """Tell whether a hand whose thread could not be started is the only one there is."""
        with self.lock:
            if len(self.hands) == 1:
                return True
            self.hands.discard(hand)
            self._fresh -= hand.fresh
            if self._returning:
                self._returning.popleft().release()
            else:  # a further hand could have no thread, either
                self.in_use -= 1
            return False

    def check_hands(self) -> None:
        """Refuse a wait when nobody is left to call what it waits for; without the lock.

        Raises:
            LaneError: tasks and tokens are there, but no thread can be had, and all that are wait.
        """
        with self.lock:
            if self.in_use >= self.limit or len(self._queue) <= self._void:
                return
            if any(hand.task is None for hand in self.hands):
                return  # it looks for its next one
            if any(each.status is RUNNING and not each.waits_for for each in self.open):
                return
            number = len(self.hands)
        raise LaneError(
            f"no thread can be had beside the {number} of this pool, which all wait for tasks of "
            f"it that nobody calls; have fewer tasks wait at once, or allow more threads"
        )

    # Tasks are called --------------------------------------------------------------------------

    def next_for(self, hand: Hand, settled: Task | None = None) -> Task | None:
        """Return the task that ``hand`` calls next; None when it has given its token back.

        ``settled`` is what it has called before, and told everybody about.
        """
        with self.lock:
            if settled is not None and settled in self.unsettled:
                self._told(settled)
            if hand.fresh:
                hand.fresh = False
                self._fresh -= 1
            task = self._choose(hand)
            if task is None:
                if hand.holds:
                    hand.holds = False
                    self.in_use -= 1
                if self.is_over():
                    hand.over = True
                else:
                    self._idle.append(hand)
                self.dispatch()  # when all is over, too: an abandoned task may want its token back
            else:
                hand.task = task
        if self.starts:
            self.launch()
        return task

    def _choose(self, hand: Hand) -> Task | None:
        queue = self._queue
        while queue:
            if not hand.holds:
                if self.in_use >= self.limit:
                    return None
                self.in_use += 1
                hand.holds = True
            if self._returning or self.in_use > self.limit:
                return None
            task = heappop(queue)[2]
            if task.status not in (PENDING, RETRYING):
                self._void -= 1
                continue
            self._begin(task)
            if not task.on_loop:
                task.thread_name = hand.name
                return task
            self.engine.spawn(task)
            hand.holds = False  # the token goes with the task
        return None

    def _begin(self, task: Task) -> None:
        now = monotonic()
        task.attempt_at = now
        task.attempts += 1
        task.status = RUNNING
        self.counts.running += 1
        if task.began_at is None:
            task.began_at = now
            if task.terms.timeout is not None:
                task.deadline = now + task.terms.timeout
                if task.deadline < self.engine.alarm and not task.on_loop:
                    self.engine.ring_by(task.deadline)

    def leave(self, hand: Hand) -> bool:
        """Let a hand go that was idle for long; False when it has just been woken."""
        with self.lock:
            if hand not in self._idle:
                return False
            self._idle.remove(hand)
            self.hands.discard(hand)
            return True

    def give_back(self) -> None:
        """Take a token back that was used in the loop, or is lent."""
        self.in_use -= 1
        self.dispatch()

    def line_up(self, gate: Gate) -> bool:
        """Take a lent token back; when none is free, ``gate`` is released once one is."""
        if self.in_use < self.limit:
            self.in_use += 1
            return True
        self._returning.append(gate)
        return False

    def leave_line(self, gate: Gate) -> None:
        """Wait for no token any more; give it back if it has just come."""
        if gate in self._returning:
            self._returning.remove(gate)
        else:
            self.give_back()

    def resize(self, limit: int) -> None:
        """Set how many tasks may run at once; what runs above it goes on to its end."""
        with self.lock:
            self.limit = limit
            self.dispatch()
        self.launch()

    # Tasks end -------------------------------------------------------------------------------

    def end(
        self,
        task: Task,
        status: TaskStatus,
        *,
        value: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """Record how a task ended; ``settle`` it after, without the lock."""
        self.pause(task, status)
        task.value, task.error = value, error
        self.open.discard(task)
        self.counts.end(task)
        task.forget_call()
        if task.future is not None or task.waits:
            self.unsettled.add(task)
        if task.listed and self._keep is not None:
            self._kept.append(task.id)
            if len(self._kept) > self._keep:
                self.tasks.pop(self._kept.popleft(), None)
        if self.closed and not self.open:
            self._dismiss()

    def pause(self, task: Task, status: TaskStatus) -> None:
        """Count an attempt as over, if one is being made; the task goes on as ``status``."""
        task.ended_at = now = monotonic()
        if task.status is RUNNING:
            self.counts.running -= 1
            task.ran += now - task.attempt_at
        task.status = status

    def told(self, task: Task) -> None:
        """Hear that the future of a task that ended is settled: whoever waits may go on."""
        with self.lock:
            self._told(task)

    def _told(self, task: Task) -> None:
        self.unsettled.discard(task)
        waits: list[Wait] | None = task.waits
        if waits:
            task.waits = None
            for each in waits:
                each.note(task)

    def void(self, task: Task) -> None:
        """Count the entry of a task that was cancelled as void; forget them if they are many."""
        self._void += 1
        if self._void > FEW and 2 * self._void > len(self._queue):
            self._queue = [each for each in self._queue if each[2].status in (PENDING, RETRYING)]
            heapify(self._queue)
            self._void = 0

    def take_waiting(self) -> list[Task]:
        """Empty the queue, and the waits between attempts; return the tasks, in their order."""
        found = {each[2] for each in self._queue if each[2].status in (PENDING, RETRYING)}
        found |= self.engine.take_waiting()
        self._queue, self._void = [], 0
        return sorted(found, key=lambda task: task.number)

    # The pool ends ---------------------------------------------------------------------------

    def close(self) -> None:
        """Accept nothing more; threads end with the last task."""
        with self.lock:
            self.closed = True
            if not self.open:
                self._dismiss()

    def is_over(self) -> bool:
        """Tell whether nothing is to be done any more."""
        return self.closed and not self.open

    def _dismiss(self) -> None:
        for hand in self._idle:
            hand.over = True
            hand.wake()
        self._idle.clear()
        self.engine.poke()
