"""Standing in line for a lane: no place is given twice, and none is lost."""

import threading

import anyio
import pytest

from anabranch._host import current_host
from anabranch.errors import QueueFull
from anabranch.manager._line import Line


def line_of(longest):
    return Line("io", longest, current_host().runtime)


async def test_a_place_that_is_left_twice_is_free_once():
    line = line_of(2)
    first = await line.enter(waits=False)
    await line.enter(waits=False)
    first()
    first()
    assert line.length == 1
    await line.enter(waits=False)
    with pytest.raises(QueueFull, match="2 calls wait in the io lane"):
        await line.enter(waits=False)


async def test_who_leaves_lets_in_the_one_who_has_waited_longest():
    line, let_in = line_of(1), []
    leave = await line.enter(waits=True)

    async def come(name):
        leaves.append(await line.enter(waits=True))
        let_in.append(name)

    leaves = []
    async with anyio.create_task_group() as group:
        for name in ("first", "second"):
            group.start_soon(come, name)
            await anyio.wait_all_tasks_blocked()
        assert let_in == []
        leave()
        await anyio.wait_all_tasks_blocked()
        assert let_in == ["first"]
        leaves[0]()


async def test_who_is_let_in_and_cancelled_at_once_passes_the_turn_on():
    line, let_in = line_of(1), []
    leave = await line.enter(waits=True)

    async def come(name, scope):
        with scope:
            await line.enter(waits=True)
            let_in.append(name)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(come, "first", scope)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(come, "second", anyio.CancelScope())
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        leave()  # in the same turn: the place is the first one's, who does not take it any more
        with anyio.move_on_after(1):
            while not let_in:
                await anyio.sleep(0.1)
        group.cancel_scope.cancel()
    assert let_in == ["second"]
    assert line.length == 1


@pytest.mark.parametrize("longest", [1, 2])
async def test_who_comes_while_another_is_let_in_does_not_overtake(longest):
    line, let_in = line_of(longest), []
    leaves = [await line.enter(waits=True) for _ in range(longest)]

    async def come(name):
        leaves.append(await line.enter(waits=True))
        let_in.append(name)

    async with anyio.create_task_group() as group:
        for name in ("first", "second"):
            group.start_soon(come, name)
            await anyio.wait_all_tasks_blocked()
        leaves.pop(0)()  # the place is the first one's from here on, who has not run yet
        with pytest.raises(QueueFull):
            await line.enter(waits=False)
        group.start_soon(come, "late")
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            leaves.pop(0)()
    assert let_in == ["first", "second", "late"]


class LeftMeanwhile:
    """Be a runtime in which the last place is left while somebody is about to wait for one."""

    def __init__(self, runtime):
        self.lowlevel = runtime.lowlevel
        self.leave = None
        self._event = runtime.Event

    def Event(self):  # noqa: N802
        thread = threading.Thread(target=self.leave)
        thread.start()
        thread.join(0.05)  # it ends later, where it must wait for the one who comes
        return self._event()


@pytest.mark.real_clock
async def test_a_place_that_is_left_in_a_thread_while_somebody_comes_is_not_lost():
    runtime = LeftMeanwhile(current_host().runtime)
    line = Line("io", 1, runtime)
    runtime.leave = await line.enter(waits=True)
    with anyio.fail_after(5):
        await line.enter(waits=True)
