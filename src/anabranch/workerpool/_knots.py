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
    """Leave out the tasks that wait for the one that is about to wait for them.

    Raises:
        DeadlockError: there is ``alone`` one that is waited for, and it is left out.
    """
    knotted = {task for task in missing if _ends_after(task, own)}
    if knotted and alone:
        raise _knot(own, missing[0])
    return [task for task in missing if task not in knotted]


def check_knots(own: Task, missing: list[Task], *, all_of_them: bool) -> None:
    """Refuse a wait for all of these tasks, or for any, that would never end.

    Raises:
        DeadlockError: it would wait for the task that waits.
    """
    knotted = [task for task in missing if _ends_after(task, own)]
    if knotted and (all_of_them or len(knotted) == len(missing)):
        raise _knot(own, knotted[0])


def _knot(own: Task, other: Task) -> DeadlockError:
    what = "itself" if other is own else f"{other.name!r}, which waits for it"
    return DeadlockError(
        f"task {own.name!r} waits for {what}, and neither would ever end; "
        f"wait for it outside of the task"
    )


def _ends_after(task: Task, own: Task) -> bool:
    """Tell whether a task can only end after ``own`` has.

    It can if it waits for nothing, or if what it waits for can: all of it, or any.
    """
    if task is own:
        return True
    seen, reached, ahead = {own}, [], [task]
    leads_back = False
    while ahead:
        each = ahead.pop()
        leads_back |= each is own
        if each not in seen:
            seen.add(each)
            reached.append(each)
            ahead += each.waits_for or ()
    if not leads_back:
        return False
    able = {each for each in reached if not each.waits_for}
    before = -1
    while before < len(able):
        before = len(able)
        able |= {each for each in reversed(reached) if each not in able and _is_able(each, able)}
    return task not in able


def _is_able(task: Task, able: set[Task]) -> bool:
    assert task.waits_for, "it would be able"
    those = [each in able for each in task.waits_for]
    return any(those) if task.waits_for_any else all(those)
