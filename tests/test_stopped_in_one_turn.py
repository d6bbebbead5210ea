"""See that nobody goes on who was woken in the very turn of the loop in which all were stopped."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anabranch import (
    Budget,
    CancelWhen,
    Halt,
    Job,
    Pipeline,
    Step,
    UsageLimitExceededError,
    charge,
    open_scheduler,
)

MANY = 40


class Wait:
    """Make all that wait for it go on at once: in one turn of the loop."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    async def by_sleep(self) -> None:
        await anyio.sleep(1)

    async def by_event(self) -> None:
        await self.event.wait()

    async def in_a_generator(self) -> None:
        async def ticks() -> Any:
            await anyio.sleep(1)
            yield 1

        async for _ in ticks():
            pass

    async def open(self, _: Any) -> None:
        await anyio.sleep(1)
        self.event.set()
        await anyio.sleep(30)


each_wait = pytest.mark.parametrize("how", [Wait.by_sleep, Wait.by_event, Wait.in_a_generator])


@each_wait
async def test_after_a_breach_no_branch_of_the_same_turn_goes_on(how: Callable[..., Any]) -> None:
    wait, charged = Wait(), []

    async def spend(_: Any) -> None:
        await how(wait)
        charged.append(1)
        charge(cost_usd=1)

    step = Step.parallel({"opens": wait.open, **{f"b{i}": spend for i in range(MANY)}})
    with pytest.raises(UsageLimitExceededError) as caught:
        await Pipeline([step]).run(budget=Budget(cost_usd=10))
    assert len(charged) == 11
    assert caught.value.result.usage.cost_usd == 11


@each_wait
@pytest.mark.parametrize("nested", [False, True])
async def test_the_first_success_is_the_only_one(how: Callable[..., Any], nested: bool) -> None:
    wait = Wait()

    async def answer(_: Any) -> int:
        await how(wait)
        return 1

    branch: Any = Step.parallel({"only": answer}) if nested else answer
    branches = {"opens": wait.open, **{f"b{i}": branch for i in range(MANY)}}
    result = await Pipeline([Step.parallel(branches, halt=Halt(on="success"))]).run()
    assert sum(branch.success for branch in result.step_history[0].branches.values()) == 1


@each_wait
async def test_a_rule_stops_what_would_go_on_in_the_same_turn(how: Callable[..., Any]) -> None:
    wait, went_on = Wait(), []

    def named(name: str) -> Any:
        async def run(_: Any) -> None:
            await how(wait)
            went_on.append(name)

        return run

    # In whichever order the loop wakes them: each stops all the others.
    rule = CancelWhen("b*", "succeeded", cancel="b*")
    branches = {"opens": wait.open, **{f"b{i}": named(f"b{i}") for i in range(MANY)}}
    await Pipeline([Step.parallel(branches, cancel_when=[rule], timeout=5)]).run()
    assert len(went_on) == 1


async def test_a_lock_that_was_handed_over_is_not_lost() -> None:
    lock, order = anyio.Lock(), []

    async def first() -> None:
        async with lock:
            await anyio.sleep(1)
        # The one that waits for it holds it from here on, although it has not been resumed.
        order.append(scheduler.cancel("second", reason="too late"))

    async def second() -> None:
        async with lock:
            order.append("held")
            await anyio.sleep(1)

    async with open_scheduler(2) as scheduler:
        scheduler.submit(Job("first", first))
        scheduler.submit(Job("second", second))
    assert order == [1, "held"]
    assert not lock.statistics().locked


async def test_a_shielded_sleep_ends_in_its_own_time() -> None:
    ended = []

    async def branch(_: Any) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1)
            ended.append(1)
        await anyio.sleep(1)

    async def fails(_: Any) -> None:
        await anyio.sleep(1)
        raise ValueError

    branches = {"fails": fails, **{f"b{i}": branch for i in range(MANY)}}
    result = await Pipeline([Step.parallel(branches, halt=Halt())]).run()
    assert len(ended) == MANY
    assert not any(branch.success for branch in result.step_history[0].branches.values())
