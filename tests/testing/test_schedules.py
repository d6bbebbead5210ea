"""See that a seed draws an order, always the same one, and that no loop's promise is broken."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
from trio._core import _run

from anabranch.testing._schedules import SeededOrder, run_asyncio, run_trio

SEEDS = 300
both = pytest.mark.parametrize("run", [run_trio, run_asyncio], ids=["trio", "asyncio"])
Run = Callable[..., Any]


async def checkpoints() -> str:
    order = ""

    async def child(name: str) -> None:
        nonlocal order
        for _ in range(3):
            order += name
            await anyio.sleep(0)

    async with anyio.create_task_group() as group:
        for name in "abcd":
            group.start_soon(child, name)
    return order


async def woken_at_once(wake: Callable[[anyio.abc.TaskGroup, anyio.Event], None]) -> str:
    order, event = "", anyio.Event()

    async def child(name: str) -> None:
        nonlocal order
        try:
            await event.wait()
        finally:
            order += name

    async with anyio.create_task_group() as group:
        for name in "abcde":
            group.start_soon(child, name)
        await anyio.sleep(1)
        wake(group, event)
    return order


async def cancelled() -> str:
    return await woken_at_once(lambda group, _: group.cancel_scope.cancel())


async def notified() -> str:
    return await woken_at_once(lambda _, event: event.set())


async def same_deadline() -> str:
    order = ""

    async def child(name: str) -> None:
        nonlocal order
        with anyio.move_on_after(5):
            await anyio.sleep_forever()
        order += name

    async with anyio.create_task_group() as group:
        for name in "abcde":
            group.start_soon(child, name)
    return order


PROGRAMS = [checkpoints, cancelled, notified, same_deadline]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)


@both
@programs
@pytest.mark.slow
def test_seeds_draw_many_orders_and_the_same_ones_again(run: Run, program: Run) -> None:
    drawn = [run(program, seed=seed) for seed in range(SEEDS)]
    assert len(set(drawn)) >= 100
    assert [run(program, seed=seed) for seed in range(SEEDS)] == drawn


@both
def test_every_order_of_four_comes_up(run: Run) -> None:
    firsts = {run(checkpoints, seed=seed)[:4] for seed in range(SEEDS)}
    assert len(firsts) == 4 * 3 * 2


DRAW = """
import sys
sys.path[:0] = {path!r}
junk = [object() for _ in range({junk})]  # other addresses
from tests.testing.test_schedules import PROGRAMS, run_asyncio, run_trio
print([run(program, seed=seed)
       for run in (run_trio, run_asyncio) for program in PROGRAMS for seed in range(20)])
"""


@pytest.mark.slow
@pytest.mark.real_clock
def test_another_process_with_other_hashes_draws_the_same() -> None:
    drawn = [
        subprocess.run(
            [sys.executable, "-c", DRAW.format(path=sys.path, junk=junk)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed, junk in (("1", 0), ("2", 12_345))
    ]
    runs = [(run, program) for run in (run_trio, run_asyncio) for program in PROGRAMS]
    here = [run(program, seed=seed) for run, program in runs for seed in range(20)]
    assert drawn == [f"{here}\n"] * 2


@both
def test_an_hour_costs_nothing(run: Run) -> None:
    async def main() -> float:
        await anyio.sleep(3600)
        return anyio.current_time()

    assert run(main, seed=1) == 3600


def test_a_sleep_and_a_deadline_of_the_same_instant_may_each_win_on_asyncio() -> None:
    async def main() -> bool:
        with anyio.move_on_after(1) as scope:
            await anyio.sleep(1)
        return scope.cancelled_caught

    assert {run_asyncio(main, seed=seed) for seed in range(20)} == {True, False}


# What is promised


def test_callbacks_that_are_no_steps_keep_their_order() -> None:
    async def main() -> list[int]:
        loop, seen = asyncio.get_running_loop(), []
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        for n in range(5):
            loop.call_soon(seen.append, n)
        await asyncio.gather(*tasks)
        return seen

    assert all(run_asyncio(main, seed=seed) == list(range(5)) for seed in range(50))


def test_a_call_of_a_method_of_a_task_is_no_step() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        sleeper = asyncio.create_task(asyncio.sleep(1), name="first")
        await asyncio.sleep(0)
        for name in ("second", "third"):
            loop.call_soon(sleeper.set_name, name)
        await sleeper
        return sleeper.get_name()

    assert {run_asyncio(main, seed=seed) for seed in range(50)} == {"third"}


def test_a_future_calls_back_in_the_order_of_asking() -> None:
    async def main() -> list[str]:
        future, seen = asyncio.get_running_loop().create_future(), []

        async def wait(name: str) -> None:
            await future
            seen.append(name)

        first = asyncio.create_task(wait("step"))
        await asyncio.sleep(1)
        future.add_done_callback(lambda _: seen.append("callback"))
        second = asyncio.create_task(wait("late step"))
        await asyncio.sleep(1)
        future.set_result(None)
        await asyncio.gather(first, second)
        return seen

    orders = {tuple(run_asyncio(main, seed=seed)) for seed in range(50)}
    assert orders == {("step", "callback", "late step")}


def test_what_a_thread_sends_while_an_order_is_drawn_is_not_lost() -> None:
    class Sneaky:
        """A callback that, as soon as it is looked at, does what a thread could do just then."""

        @property
        def __self__(self) -> None:
            if not sent:
                sent.append(loop.call_soon(arrived.append, "sent"))

        def __call__(self) -> None:
            """Do nothing more."""

    sent: list[asyncio.Handle] = []
    arrived: list[str] = []

    async def main() -> list[str]:
        nonlocal loop
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        loop.call_soon(Sneaky())
        await asyncio.gather(*tasks)
        return arrived

    loop: asyncio.AbstractEventLoop
    assert run_asyncio(main, seed=1) == ["sent"]


def test_what_a_callback_raises_is_not_lost() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "x")
        await asyncio.sleep(0)

    with pytest.raises(ExceptionGroup) as caught:
        run_asyncio(main, seed=1)
    assert caught.group_contains(ValueError)


@both
@pytest.mark.parametrize("seed", range(30))
def test_primitives_keep_their_promises_under_any_order(run: Run, seed: int) -> None:
    peak = running = 0

    async def child(limiter: anyio.CapacityLimiter, lock: anyio.Lock, seconds: int) -> None:
        nonlocal peak, running
        with anyio.move_on_after(seconds):
            async with limiter:
                running += 1
                peak = max(peak, running)
                try:
                    await anyio.sleep(1)
                finally:
                    running -= 1
            async with lock:
                await anyio.sleep(seconds % 2)

    async def main() -> tuple[float, bool]:
        limiter, lock = anyio.CapacityLimiter(3), anyio.Lock()
        async with anyio.create_task_group() as group:
            for n in range(9):
                group.start_soon(child, limiter, lock, 1 + n % 4)
        return limiter.borrowed_tokens, lock.locked()

    assert run(main, seed=seed) == (0, False)
    assert peak == 3


# trio's own dice


def dice_of_trio() -> tuple[object, bool]:
    return _run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING


def test_trio_gets_its_own_dice_back() -> None:
    async def fail() -> None:
        raise KeyError

    before = dice_of_trio()
    run_trio(checkpoints, seed=1)
    assert dice_of_trio() == before
    with pytest.raises(KeyError):
        run_trio(fail, seed=1)
    assert dice_of_trio() == before


def test_runs_in_two_threads_do_not_disturb_each_other() -> None:
    alone = {seed: [run_trio(checkpoints, seed=seed) for _ in range(20)] for seed in (1, 2)}
    together: dict[int, list[str]] = {}

    def draw(seed: int) -> None:
        together[seed] = [run_trio(checkpoints, seed=seed) for _ in range(20)]

    threads = [threading.Thread(target=draw, args=[seed]) for seed in alone]
    for thread in threads:
        thread.start()
    for _ in range(20):
        trio.run(checkpoints)  # one without a seed between them
    for thread in threads:
        thread.join()
    assert together == alone


def test_the_instrument_serves_one_run_after_the_other() -> None:
    order = SeededOrder(7)
    drawn = {trio.run(checkpoints, instruments=[order]) for _ in range(5)}
    assert drawn == {run_trio(checkpoints, seed=7)}
