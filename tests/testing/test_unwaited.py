"""Virtual time says so when it has passed over calls in threads, which it does not wait for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from anabranch import Pipeline, Step, SubprocessWrapper
from anabranch.testing import (
    ScheduleFailedError,
    VirtualLoop,
    VirtualTimeWarning,
    explore,
    run_virtual,
    virtual_time,
)

each_loop = pytest.mark.parametrize("loop", ["trio", "asyncio"])


class Held:
    """Be a plain function that goes on until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, data: object = None) -> object:
        self.go.wait(10)
        return data


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.go.set()


# The hardest three


@each_loop
def test_a_deadline_over_plain_functions_in_virtual_time_is_told(held: Held, loop: str) -> None:
    pipeline = Pipeline([Step.parallel({"a": held, "b": held})])
    with pytest.warns(VirtualTimeWarning, match="from 0 s to 30 s while 2 calls ran in threads"):
        result = run_virtual(pipeline.run, None, loop=loop)
    assert not result.success


@each_loop
def test_a_thread_that_is_waited_for_with_no_time_passing_is_not_worth_a_word(loop: str) -> None:
    async def main() -> int:
        await anyio.sleep(3)
        found = await anyio.to_thread.run_sync(sum, [1, 2])
        await anyio.sleep(3)
        return found

    assert anyio.run(main, **virtual_time(loop)) == 3


@each_loop
def test_it_is_told_once_however_often_time_jumps(held: Held, loop: str) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, held)
            for _ in range(5):
                await anyio.sleep(1)
            held.go.set()

    with pytest.warns(VirtualTimeWarning, match="from 0 s to 1 s while 1 call ran") as caught:
        anyio.run(main, **virtual_time(loop))
    assert len(caught) == 1


# And the others


@each_loop
def test_a_warning_that_is_an_error_is_raised(held: Held, loop: str) -> None:
    pipeline = Pipeline([Step.parallel({"a": held, "b": held})])
    with pytest.raises(VirtualTimeWarning):  # as the settings of these tests make it
        run_virtual(pipeline.run, None, loop=loop)


def test_the_loop_itself_tells_it_too(held: Held) -> None:
    async def main() -> None:
        with anyio.move_on_after(1):
            await anyio.to_thread.run_sync(held, abandon_on_cancel=True)

    told = pytest.warns(VirtualTimeWarning, match="from 0 s to 1 s")
    with told, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_a_call_of_asyncios_own_executor_counts() -> None:
    async def main() -> None:
        await asyncio.to_thread(sum, [1, 2])
        with anyio.move_on_after(1):
            await asyncio.to_thread(held)

    held = Held()
    threading.Timer(0.05, held.go.set).start()
    with pytest.warns(VirtualTimeWarning, match="while 1 call ran"):
        anyio.run(main, **virtual_time("asyncio"))


@each_loop
@pytest.mark.filterwarnings("default::anabranch.testing.VirtualTimeWarning")
def test_explore_tells_it_too(held: Held, loop: str) -> None:
    async def main() -> None:
        with anyio.fail_after(5):
            await anyio.to_thread.run_sync(held, abandon_on_cancel=True)

    with pytest.warns(VirtualTimeWarning), pytest.raises(ScheduleFailedError, match="TimeoutError"):
        explore(main, loops=loop)


@pytest.mark.slow
@each_loop
def test_a_process_of_the_cpu_lane_counts(loop: str) -> None:
    pipeline = Pipeline([Step("late", time.sleep, lane="cpu", timeout=60)])
    with pytest.warns(VirtualTimeWarning, match="to 60 s while 1 call ran"):
        anyio.run(pipeline.run, 30, **virtual_time(loop))


@pytest.mark.slow
@each_loop
def test_a_script_counts(loop: str) -> None:
    async def main() -> Any:
        return await SubprocessWrapper().run(["sleep", "30"], timeout=60)

    with pytest.warns(VirtualTimeWarning, match="to 60 s while 1 call ran"):
        assert anyio.run(main, **virtual_time(loop)).kind == "timeout"
