"""Knots: limiters that are nested in one order here and in another order there."""

import anyio
import pytest

from anabranch import Job, Pipeline, Step, open_scheduler
from tests.branches import Watch


def nested(leaf, limiters):
    """Put two branches under each limiter, the first outermost."""
    node = leaf
    for limiter in reversed(limiters):
        node = Step.parallel({"x": node, "y": node}, max_concurrency=limiter, timeout=None)
    return node


@pytest.mark.parametrize(
    "orders", [("ab", "ba"), ("abc", "cba", "bca"), ("aba", "bab"), ("ab",) * 3]
)
@pytest.mark.parametrize("total", [1, 2])
async def test_limiters_nested_in_any_order_end(orders, total, all_home):
    limiters = {name: all_home(anyio.CapacityLimiter(total)) for name in "abc"}
    leaves = []
    watch = Watch()

    async def leaf(data):
        watch.begin()
        await anyio.sleep(0.01)
        watch.end()
        leaves.append(data)

    branches = {
        f"{number}": nested(leaf, [limiters[name] for name in order])
        for number, order in enumerate(orders)
    }
    with anyio.fail_after(1000):
        result = await Pipeline([Step.parallel(branches, timeout=None)]).run(1)
    assert result.success, result
    assert len(leaves) == sum(2 ** len(order) for order in orders)
    assert watch.peak <= total, "a branch whose token was let go went on without it"


async def test_nothing_is_lent_while_a_child_still_runs(all_home):
    """A branch that waits under another limiter keeps its token as long as that can end well."""
    outer, inner = all_home(anyio.CapacityLimiter(2)), all_home(anyio.CapacityLimiter(1))
    watch = Watch(outer)

    async def child():
        await anyio.sleep(0.01)

    async def branch():
        watch.begin()
        async with open_scheduler(inner) as scheduler:
            scheduler.submit(Job("child", child))
        watch.end()

    async with open_scheduler(outer) as scheduler:
        for number in range(8):
            scheduler.submit(Job(str(number), branch))
    assert watch.peak == 2


async def test_a_knot_that_is_cancelled_leaves_every_token_at_home(all_home):
    a, b = all_home(anyio.CapacityLimiter(1)), all_home(anyio.CapacityLimiter(1))

    async def leaf(data):
        await anyio.sleep(100)

    branches = {"ab": nested(leaf, [a, b]), "ba": nested(leaf, [b, a])}
    with anyio.move_on_after(150) as scope:
        await Pipeline([Step.parallel(branches, timeout=None)]).run(1)
    assert scope.cancelled_caught
