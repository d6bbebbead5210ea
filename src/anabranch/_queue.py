"""Order the branches that wait: the most urgent first, first come first among equals.

A level for each priority in use, each a deque: threads may pop while the loop pushes,
because appending to a deque and popping from it are atomic.
A branch that was cancelled while queued is passed over, and forgotten with the next ``prune``.
"""

from __future__ import annotations

from collections import deque

from anabranch._branch import Branch


class Queue:
    """Keep queued branches in levels of equal priority."""

    __slots__ = ("_levels", "_order")

    def __init__(self) -> None:
        level: deque[Branch] = deque()  # most queues have one level, that of priority 0
        self._levels = {0: level}
        self._order: tuple[deque[Branch], ...] = (level,)  # replaced as a whole, never changed

    def __bool__(self) -> bool:
        return any(self._order)

    def push(self, branch: Branch) -> None:
        """Append ``branch`` to its level."""
        level = self._levels.get(branch.priority)
        if level is None:
            level = self._add_level(branch.priority)
        level.append(branch)

    def push_all(self, branches: list[Branch]) -> None:
        """Append branches that all have priority 0."""
        self._levels[0].extend(branches)

    def push_levels(self, branches: list[Branch]) -> None:
        """Append branches, as many at once as have the same priority."""
        levels: dict[int, list[Branch]] = {}
        for branch in branches:
            levels.setdefault(branch.priority, []).append(branch)
        for priority, alike in levels.items():
            level = self._levels.get(priority)
            (self._add_level(priority) if level is None else level).extend(alike)

    def pop(self) -> Branch | None:
        """Remove the most urgent branch that has not ended; None when there is none."""
        for level in self._order:
            while level:
                try:
                    branch = level.popleft()
                except IndexError:  # another thread was quicker
                    break
                if branch.status is None:
                    return branch
        return None

    def put_back(self, branch: Branch) -> None:
        """Return a branch that was just popped to the head of its level."""
        self._levels[branch.priority].appendleft(branch)

    def __len__(self) -> int:
        return sum(map(len, self._order))

    def waiting(self) -> list[Branch]:
        """List the branches that have not ended, in the order in which they would start."""
        return [branch for level in self._order for branch in list(level) if branch.status is None]

    def prune(self) -> None:
        """Forget the branches that have ended; whoever pops in a thread must be kept out."""
        for level in self._order:
            alive = [branch for branch in level if branch.status is None]
            level.clear()
            level.extend(alive)

    def _add_level(self, priority: int) -> deque[Branch]:
        level = self._levels[priority] = deque()
        self._order = tuple(self._levels[p] for p in sorted(self._levels, reverse=True))
        return level
