"""Order the branches that wait: the most urgent first, first come first among equals.

A branch that is tried again comes ahead of those of its priority that were not begun yet, and
behind those that are tried again like itself: whoever has waited longest is next there too.

Most queues know one priority, 0: a deque, whose ends threads and the loop may use at once,
because appending to it and popping from it are atomic. A queue of several has a deque for each,
a heap of the priorities in use, and a lock: it costs the same with two priorities as with a
hundred thousand.
A branch that was cancelled while queued is passed over, and forgotten with the next ``prune``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import repeat, starmap

from anabranch._branch import Branch


class Queue:
    """Keep queued branches in levels: two for each priority, the upper one for further attempts."""

    __slots__ = ("_count", "_heap", "_levels", "_lock", "_plain")

    def __init__(self) -> None:
        self._plain: deque[Branch] = deque()  # the level of priority 0, while there is no other
        self._levels: dict[int, deque[Branch]] | None = None
        self._heap: list[int] = []  # of priorities in use, negated: the most urgent is the least
        self._count = 0
        self._lock: threading.Lock | None = None

    def __bool__(self) -> bool:
        return bool(self._plain if self._levels is None else self._count)

    def __len__(self) -> int:
        return len(self._plain) if self._levels is None else self._count

    def push(self, branch: Branch) -> None:
        """Append ``branch`` to its level."""
        plain = branch.tries is None and not branch.priority
        if self._levels is None and (plain or not _level_of(branch)):
            self._plain.append(branch)
        else:
            self.push_levels([branch])

    def push_all(self, branches: list[Branch]) -> None:
        """Append branches that all have priority 0, to a queue that knows no other."""
        self._plain.extend(branches)

    def push_levels(self, branches: Iterable[Branch]) -> None:
        """Append branches of any priority."""
        levels = self._levels if self._levels is not None else self._begin_levels()
        with self._locked():
            for branch in branches:
                # Mostly a branch is new: to ask `_level_of` would cost more than all the rest.
                number = 2 * branch.priority if branch.tries is None else _level_of(branch)
                level = levels.get(number)
                if level is None:
                    level = self._add_level(number)
                level.append(branch)
                self._count += 1

    def pop(self) -> Branch | None:
        """Remove the most urgent branch that has not ended; None when there is none."""
        if self._levels is not None:
            with self._locked():
                return self._pop_level(self._levels)
        plain = self._plain
        while plain:
            try:
                branch = plain.popleft()
            except IndexError:  # another thread was quicker
                break
            if branch.status is None:
                return branch
        return None

    def put_back(self, branch: Branch) -> None:
        """Put a branch at the head of its level."""
        number = _level_of(branch)
        if self._levels is None and not number:
            self._plain.appendleft(branch)
            self._take_late()
            return
        levels = self._levels if self._levels is not None else self._begin_levels()
        with self._locked():
            level = levels.get(number)
            (self._add_level(number) if level is None else level).appendleft(branch)
            self._count += 1

    def waiting(self) -> list[Branch]:
        """List the branches that have not ended, in the order in which they would start."""
        if self._levels is None:
            return [branch for branch in list(self._plain) if branch.status is None]
        with self._locked():
            ordered = [self._levels[number] for number in sorted(self._levels, reverse=True)]
            return [branch for level in ordered for branch in level if branch.status is None]

    def prune(self) -> None:
        """Forget the branches that have ended; whoever pops in a thread must be kept out."""
        if self._levels is None:
            alive = self.waiting()
            self._plain.clear()
            self._plain.extend(alive)
            return
        alive = self.waiting()
        with self._locked():
            self._levels.clear()
            self._heap.clear()
            self._count = 0
        self.push_levels(alive)

    def trim(self) -> None:
        """Forget those at the head that have ended; whoever pops in a thread must be kept out."""
        branch = self.pop()
        if branch is not None:
            self.put_back(branch)

    def _pop_level(self, levels: dict[int, deque[Branch]]) -> Branch | None:
        heap = self._heap
        while heap:
            level = levels[-heap[0]]
            while level:
                branch = level.popleft()
                self._count -= 1
                if branch.status is None:
                    return branch
            del levels[-heappop(heap)]
        return None

    def _begin_levels(self) -> dict[int, deque[Branch]]:
        """Go over to several levels, one by one: a thread may be popping from the plain one."""
        self._lock = threading.Lock()
        levels: dict[int, deque[Branch]] = {}
        with self._lock:
            self._levels = levels
            level = self._add_level(0)
            try:
                level.extend(starmap(self._plain.popleft, repeat((), len(self._plain))))
            except IndexError:  # the thread was quicker
                pass
            self._count = len(level)
        return levels

    def _take_late(self) -> None:
        """Take what a thread has put back while the loop went over to several levels."""
        if self._levels is None:
            return
        with self._locked():
            while self._plain:
                level = self._levels.get(0)
                (self._add_level(0) if level is None else level).appendleft(self._plain.pop())
                self._count += 1

    def _add_level(self, number: int) -> deque[Branch]:
        assert self._levels is not None, "there are levels by now"
        level = self._levels[number] = deque()
        heappush(self._heap, -number)
        return level

    def _locked(self) -> threading.Lock:
        assert self._lock is not None, "it comes with the levels"
        return self._lock


def _level_of(branch: Branch) -> int:
    """Return the number of a branch's level; larger is more urgent."""
    tries = branch.tries
    return 2 * branch.priority + (tries is not None and tries.begun > 0)
