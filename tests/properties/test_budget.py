"""Draw charges and how they are spread: sums are exact, and only what is passed is breached."""

import contextlib
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from anabranch import Budget, Pipeline, Step, UsageLimitExceededError, charge
from anabranch._amounts import amount, amounts, passes, plus, together
from anabranch._charge import Reservation
from anabranch._pool import Pool, book
from anabranch.testing._schedules import run_asyncio, run_trio

LOOPS = pytest.mark.parametrize("run", [run_trio, run_asyncio])

cents = st.integers(0, 10_000).map(lambda value: value / 100)
tiny = st.integers(0, 10_000).map(lambda value: value / 10**9)
money = st.one_of(cents, tiny, st.integers(0, 100), cents.map(lambda value: Decimal(str(value))))
HOW = ("charge", "child", "reserve", "settle", "give back")
charges = st.lists(st.tuples(money, st.sampled_from(HOW), st.integers(0, 3)), max_size=4)
trees = st.recursive(
    charges, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, min_size=1), max_leaves=8
)


def exact(value: Any) -> Fraction:
    """Read a number as people write it, by other means than the code does."""
    return Fraction(str(value))


def spent_in(tree: Any) -> list[Any]:
    """List what a tree comes to spend; at no time has it reserved more than that."""
    if isinstance(tree, dict):
        return [value for inner in tree.values() for value in spent_in(inner)]
    return [value for value, how, _ in tree if how != "give back"]


async def spend(value: Any, how: str, made: list[int]) -> None:
    if how == "charge":
        charge(cost_usd=value, tokens=1)
        made.append(1)
    elif how == "child":
        async with anyio.create_task_group() as group:
            group.start_soon(spend, value, "charge", made)
    elif how == "reserve":
        async with charge(cost_usd=value, tokens=1, reserve=True):
            await anyio.sleep(0)
        made.append(1)
    elif how == "settle":
        with charge(cost_usd=value, tokens=1, reserve=True) as held:
            await anyio.sleep(0)
            held.settle()
            made.append(1)
    else:
        with contextlib.suppress(KeyError), charge(cost_usd=0, reserve=True):
            raise KeyError


def node_of(tree: Any, made: list[int]) -> Any:
    """Make a step of a tree, whose leaves note each charge that they have made."""
    if isinstance(tree, dict):
        return Step.parallel({key: node_of(inner, made) for key, inner in tree.items()})

    async def branch(_: Any) -> None:
        for value, how, moments in tree:
            await anyio.sleep(moments)
            await spend(value, how, made)

    return branch


def check_sums(tree: Any, result: Any) -> None:
    """Compare what each branch was charged with what it spent."""
    for key, inner in tree.items():
        found, values = result.branches[key], spent_in(inner)
        assert exact(found.cost_usd or 0) == exact(float(sum(map(exact, values))))
        assert (found.token_counts or 0) == len(values)
        if isinstance(inner, dict):
            check_sums(inner, found)


@pytest.mark.drawn
@pytest.mark.slow
@LOOPS
@given(tree=st.dictionaries(st.sampled_from("abcd"), trees, min_size=1), seed=st.integers(0, 2**16))
def test_a_budget_that_is_not_passed_never_breaches_however_it_is_spread(
    run: Callable[..., Any], tree: Any, seed: int
) -> None:
    values = spent_in(tree)
    total = sum(map(exact, values))
    limit = Decimal(total.numerator) / Decimal(total.denominator)
    budget = Budget(cost_usd=limit, tokens=len(values))

    async def main() -> Any:
        return await Pipeline([node_of(tree, [])]).run(budget=budget)

    result = run(main, seed=seed)
    assert result.success
    assert result.usage.tokens == len(values)
    assert result.usage.cost_usd == float(total)
    check_sums(tree, result.step_history[0])


@pytest.mark.drawn
@pytest.mark.slow
@LOOPS
@given(
    tree=st.dictionaries(st.sampled_from("abcd"), trees, min_size=1),
    seed=st.integers(0, 2**16),
    share=st.integers(0, 99),
)
def test_a_breach_ends_what_is_left_and_every_charge_is_counted_once(
    run: Callable[..., Any], tree: Any, seed: int, share: int
) -> None:
    values = spent_in(tree)
    tokens = len(values) * share // 100
    made: list[int] = []

    async def main() -> Any:
        try:
            return await Pipeline([node_of(tree, made)]).run(budget=Budget(tokens=tokens))
        except UsageLimitExceededError as error:
            return error.result

    result = run(main, seed=seed)
    step = result.step_history[0]
    assert result.usage.tokens == len(made)
    assert step.token_counts == (len(made) if made else None)
    assert sum(branch.token_counts or 0 for branch in step.branches.values()) == len(made)
    assert result.success is (not result.reason)
    if result.reason:
        assert len(values) > tokens
        assert result.reason.startswith("breach: spent ")
        left = [leaf for leaf in _leaves(step) if not leaf.success]
        assert {leaf.reason for leaf in left} <= {result.reason}


def _leaves(result: Any) -> Any:
    if not result.branches:
        yield result
    for branch in result.branches.values():
        yield from _leaves(branch)


@given(st.lists(money), st.randoms(use_true_random=False))
def test_the_order_of_charges_makes_no_difference(values: list[Any], dice: Any) -> None:
    def total(some: list[Any]) -> Any:
        found: Any = 0
        for value in some:
            found = plus(found, amount("test", "cost_usd", value))
        return found

    shuffled = list(values)
    dice.shuffle(shuffled)
    assert total(values) == total(shuffled)
    assert exact(total(values)) == sum(map(exact, values))


@given(st.floats(0, 1e300), st.floats(0, 1e300))
def test_what_is_over_by_what_a_float_can_say_is_over(spent: float, limit: float) -> None:
    assert passes(amount("t", "c", spent), amount("t", "c", limit)) is (spent > limit)


class Model:
    """Do what a pool does, with fractions."""

    def __init__(self, limit: Fraction) -> None:
        self.limit = limit
        self.spent = Fraction(0)
        self.held: list[Fraction] = []
        self.breached = False

    def look(self) -> None:
        self.breached = self.breached or self.spent + sum(self.held) > self.limit


OPS = st.lists(st.tuples(st.sampled_from(("charge", "reserve", "settle", "back")), cents, cents))


@pytest.mark.drawn
@pytest.mark.slow
@settings(max_examples=300)
@given(limit=cents, ops=OPS)
def test_a_pool_breaches_exactly_when_what_is_spent_and_reserved_passes(
    limit: float, ops: list[tuple[str, float, float]]
) -> None:
    pool, tripped = Pool(), list[str]()
    place = (pool, None)
    pool.watch(Budget(limit).limits, tripped.append, None)
    model, held = Model(exact(limit)), []
    for what, value, other in ops:
        if what == "charge":
            book(lambda: pool, amounts("t", {"cost_usd": value}))
            model.spent += exact(value)
        elif what == "reserve":
            held.append(Reservation(place, amounts("t", {"cost_usd": value})))
            model.held.append(exact(value))
        elif held:
            reservation = held.pop()
            model.held.pop()
            if what == "settle":
                reservation.settle(cost_usd=other)
                model.spent += exact(other)
            else:
                reservation.__exit__(KeyError, KeyError(), None)
        model.look()
        assert bool(pool.reason) == model.breached
        assert len(tripped) == model.breached
        if model.breached:
            break
    usage = pool.usage()
    assert exact(usage.cost_usd if usage else 0) == exact(float(model.spent))


@given(st.lists(st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9))))
def test_amounts_are_added_by_unit(charged: list[dict[str, int]]) -> None:
    sums: Any = {}
    for each in charged:
        sums = together(sums, each)
    assert Counter(sums) == sum(map(Counter, charged), Counter())
