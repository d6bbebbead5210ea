"""Say what a wait for tasks is waiting for: when it has enough, and what would never end."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION

from anabranch.errors import DeadlockError
from anabranch.workerpool._task import CANCELLED, COMPLETED, Task


def is_enough(task: Task, word: str) -> bool:
    """Tell whether the end of this one task ends a wait of that kind."""
    if word == FIRST_COMPLETED:
        return True
    return word == FIRST_EXCEPTION and task.status not in (COMPLETED, CANCELLED)


def without_knots(own: Task, missing: list[Task], *, alone: bool) -> list[Task]:
    """Leave out the tasks that wait for the one that is about to wait for them."""
    knotted = {task for task in missing if _leads_to(task, own)}
    if knotted and alone:
        other = missing[0]
        what = "itself" if other is own else f"{other.name!r}, which waits for it"
        raise DeadlockError(
            f"task {own.name!r} waits for {what}, and neither would ever end; "
            f"wait for it outside of the task"
        )
    return [task for task in missing if task not in knotted]


def _leads_to(task: Task, own: Task) -> bool:
    seen: set[Task] = set()
    ahead = [task]
    while ahead:
        each = ahead.pop()
        if each is own:
            return True
        if each not in seen and each.waits_for:
            seen.add(each)
            ahead += each.waits_for
    return False
