"""See that a budget is refused when it cannot be meant, and that sums are exact."""

import contextvars
import copy
import gc
import math
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

from anabranch import (
    Budget,
    ConfigurationError,
    OutsideRunError,
    Pipeline,
    Step,
    UnknownOptionError,
    UsageLimitExceededError,
    UsageLimits,
    charge,
)
from anabranch._amounts import amount, passes, plus
from anabranch._pool import Account, Pool, book

NO_AMOUNTS = [-1, -0.1, math.nan, math.inf, -math.inf, True, "3", [], Decimal("NaN"), 10**400]
NO_AMOUNTS += [Decimal("1e-9999"), Decimal(-1), 3j, Decimal("sNaN"), 10**5000]
FRACTIONS = [1.5, Decimal("0.5"), 2.0, Fraction(1, 2)]
EVENTS = [object(), 3, True, "event", threading.Event()]


def each(names: str | tuple[str, ...], cases: Any) -> Any:
    """Parametrize with ids that differ, whatever the cases are."""
    return pytest.mark.parametrize(names, cases, ids=[str(i) for i, _ in enumerate(cases)])


async def charges(_: Any, **amounts: Any) -> None:
    charge(**amounts)


def run_with(**amounts: Any) -> None:
    Pipeline([partial(charges, **amounts)]).run_sync().unwrap()


# What cannot be meant ------------------------------------------------------------------------


@each("value", NO_AMOUNTS)
@each("unit", ["cost_usd", "tokens", "requests"])
def test_what_is_no_amount_is_refused_as_a_budget(value: Any, unit: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^Budget: {unit}=.*give a .*number"):
        Budget(**{unit: value})


@each("value", [*NO_AMOUNTS, *FRACTIONS])
def test_what_is_no_number_of_tokens_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Budget: tokens=.*give a .*number"):
        Budget(tokens=value)
    with pytest.raises(ConfigurationError, match=r"^UsageLimits: total_tokens_limit=.*number"):
        UsageLimits(total_tokens_limit=value)


@each("value", NO_AMOUNTS)
def test_what_is_no_amount_is_refused_as_a_charge(value: Any) -> None:
    seen: list[str] = []

    async def refused(_: Any) -> None:
        for unit in ("cost_usd", "tokens", "requests"):
            with pytest.raises(ConfigurationError, match=rf"^charge: {unit}=.*number"):
                charge(**{unit: value})
            with (
                charge(cost_usd=1, reserve=True) as held,
                pytest.raises(ConfigurationError, match=rf"^settle: {unit}=.*number"),
            ):
                held.settle(**{unit: value})
            seen.append(unit)

    result = Pipeline([refused]).run_sync()
    assert seen == ["cost_usd", "tokens", "requests"], result
    assert result.usage.cost_usd == 3  # the three reservations ended by themselves
    assert result.usage.custom == {}


@each("make", [Budget, UsageLimits, lambda: Budget(cost_usd=None), run_with])
def test_nothing_is_no_budget_and_no_charge(make: Callable[[], Any]) -> None:
    with pytest.raises((ConfigurationError, ExceptionGroup)) as caught:
        make()
    error = caught.value
    if isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert "there is nothing in it" in str(error)


@each(
    ("make", "nearest"),
    [
        (lambda: UsageLimits(total_cost_limit=3), "total_cost_usd_limit"),
        (lambda: UsageLimits(total_token_limit=3), "total_tokens_limit"),
        (lambda: Budget(cost=3), "cost_usd"),
        (lambda: Budget(usd=3), "cost_usd"),
        (lambda: Budget(token=3), "tokens"),
        (lambda: Budget(total_tokens_limit=3), "tokens"),
        (lambda: Budget(cost_used=3), "cost_usd"),
        (lambda: Pipeline([charges]).run_sync(buget=Budget(3)), "budget"),
        (lambda: Pipeline([charges]).open(breach_evnt=None), "breach_event"),
        (lambda: Step.parallel({"a": charges}, breach_evnt=None), "breach_event"),
    ],
)
def test_a_slip_is_refused_and_the_nearest_named(make: Callable[[], Any], nearest: str) -> None:
    with pytest.raises(UnknownOptionError, match=f"did you mean '{nearest}'"):
        make()


@each(("unit", "nearest"), [("token", "tokens"), ("cost", "cost_usd"), ("request", "requests")])
def test_a_charge_of_a_unit_that_is_nearly_another_is_refused(unit: str, nearest: str) -> None:
    run = partial(Pipeline([partial(charges, **{unit: 1})]).run_sync, budget=Budget(requests=9))
    error = run().step_history[0].error
    assert isinstance(error, UnknownOptionError)
    assert f"did you mean {nearest!r}" in str(error)


def test_units_of_ones_own_are_counted_with_and_without_a_limit() -> None:
    own = {"images": 2, "tokens_in": 3, "cost_eur": 0.5}
    for budget in (None, Budget(images=2)):
        usage = Pipeline([partial(charges, **own)]).run_sync(budget=budget).usage
        assert usage.custom == own
    with pytest.raises(UsageLimitExceededError, match=r"spent 2 of 1 images"):
        Pipeline([partial(charges, **own)]).run_sync(budget=Budget(images=1))


def test_reserve_is_no_unit_and_a_flag() -> None:
    with pytest.raises(ConfigurationError, match="'reserve' is an option of charge"):
        Budget(reserve=3)
    error = Pipeline([partial(charges, cost_usd=1, reserve=3)]).run_sync().step_history[0].error
    assert "reserve=3 is neither True nor False" in str(error)


@each("budget", [3, 3.0, {"cost_usd": 3}, "3", Budget, object()])
def test_what_is_no_budget_is_refused(budget: Any) -> None:
    pipeline = Pipeline([charges])
    for run in (pipeline.run_sync, pipeline.open):
        with pytest.raises(ConfigurationError, match=r"budget=.* is no Budget; give Budget\("):
            run(1, budget=budget)


@each("event", EVENTS)
def test_what_is_no_event_is_refused(event: Any) -> None:
    pipeline = Pipeline([charges])
    blocks = "blocks whoever waits" if isinstance(event, threading.Event) else "is no event"
    for make in (pipeline.run_sync, pipeline.open, partial(Step.parallel, {"a": charges})):
        with pytest.raises(ConfigurationError, match=rf"breach_event=.* {blocks}.*give an Event"):
            make(breach_event=event)


# Values --------------------------------------------------------------------------------------


def test_a_budget_is_a_value() -> None:
    budget = Budget(cost_usd=10, tokens=1000, requests=5)
    assert budget == Budget(10, 1000, requests=5)
    assert budget != Budget(10, 1000)
    assert repr(budget) == "Budget(cost_usd=10, tokens=1000, requests=5)"
    assert repr(Budget(tokens=3)) == "Budget(tokens=3)"
    assert pickle.loads(pickle.dumps(budget)) == copy.deepcopy(budget) == budget
    assert attrs.evolve(budget, tokens=3) == Budget(10, 3, requests=5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        budget.tokens = 3  # type: ignore[misc]  # that is the test


def test_the_other_spelling_says_the_same() -> None:
    limits = UsageLimits(total_cost_usd_limit=0.5, total_tokens_limit=7)
    assert limits.limits == Budget(0.5, 7).limits == {"cost_usd": Decimal("0.5"), "tokens": 7}


def test_a_breach_is_pickled_with_what_it_carries() -> None:
    with pytest.raises(UsageLimitExceededError) as caught:
        Pipeline([partial(charges, cost_usd=3)]).run_sync(budget=Budget(2))
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == str(caught.value)
    assert error.result.usage.cost_usd == 3


# Sums ----------------------------------------------------------------------------------------


def total(values: list[Any]) -> Any:
    found: Any = 0
    for value in values:
        found = plus(found, amount("test", "cost_usd", value))
    return found


@each(
    ("values", "limit", "over"),
    [
        ([0.1] * 10, 1.0, False),
        ([0.1] * 3, 0.3, False),
        ([0.1] * 11, 1.0, True),
        ([1 / 11] * 11, 1.0, False),  # over by a hundredth of a millionth of a millionth
        ([1e-9] * 1000, 1e-6, False),
        ([1.0, 1e-12], 1.0, True),
        ([1e300, 1e-300], 1e300, False),
        ([2**53, 1], 2**53, True),
        ([2**53, 1.0], 2**53, False),  # what a float cannot say
        ([Decimal("0.1")] * 10, Decimal(1), False),
        ([Fraction(1, 4)] * 4, 1, False),
        ([0], 0, False),
        ([1e-320], 0, True),
    ],
)
def test_a_sum_is_over_only_when_it_is(values: list[Any], limit: Any, over: bool) -> None:
    assert passes(total(values), amount("test", "cost_usd", limit)) is over
    assert total(values) == total(list(reversed(values)))


@pytest.mark.real_clock
def test_threads_that_take_turns_at_every_step_lose_no_charge() -> None:
    pool, usual = Pool(), sys.getswitchinterval()
    account = Account(Account(pool))

    def spend() -> None:
        for _ in range(300):
            book(lambda: account, {"tokens": 1, "images": 2})

    threads = [threading.Thread(target=spend) for _ in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    usage = pool.usage()
    assert usage is not None
    assert (usage.tokens, usage.custom) == (2400, {"images": 4800})
    assert account.sums == account.above.sums == pool.sums


# Outside -------------------------------------------------------------------------------------


def test_a_charge_outside_of_a_run_says_so() -> None:
    with pytest.raises(OutsideRunError, match=r"finds no run here: call it below a branch"):
        charge(cost_usd=1)


async def test_a_charge_after_the_run_is_outside_again() -> None:
    await Pipeline([partial(charges, cost_usd=1)]).run()
    with pytest.raises(OutsideRunError):
        charge(cost_usd=1)


@pytest.mark.real_clock
async def test_a_thread_that_knows_no_context_is_outside() -> None:
    found: list[BaseException] = []

    def bare() -> None:
        try:
            charge(cost_usd=1)
        except OutsideRunError as error:
            found.append(error)

    async def branch(_: Any) -> None:
        thread = threading.Thread(target=bare)
        thread.start()
        await anyio.to_thread.run_sync(thread.join)

    await Pipeline([branch]).run()
    assert "threading.Thread" in str(found[0])


def charge_there(_: Any) -> None:
    charge(cost_usd=1)


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.leaves("process", "descriptor", reason="the lane keeps its worker for the next call")
async def test_a_charge_in_another_process_says_to_return_it() -> None:
    result = await Pipeline([Step("a", charge_there, lane="cpu")]).run()
    error = result.step_history[0].error
    assert isinstance(error, OutsideRunError)
    assert "return an object that has cost_usd or token_counts" in str(error)


async def test_a_charge_after_its_run_ended_is_told_and_harms_nobody(caplog: Any) -> None:
    kept: list[contextvars.Context] = []

    async def branch(_: Any) -> None:
        kept.append(contextvars.copy_context())

    result = await Pipeline([branch]).run(budget=Budget(1))
    kept[0].run(charge, cost_usd=3)
    assert result.usage.cost_usd == 0
    assert "charged after the run had ended" in caplog.text


class Large:
    """Be seen when nobody keeps it."""


async def test_a_context_that_outlives_its_branch_keeps_no_results(anyio_backend_name: str) -> None:
    kept: list[contextvars.Context] = []

    async def branch(_: Any) -> Large:
        kept.append(contextvars.copy_context())
        charge(cost_usd=1)
        return Large()

    step = Step.parallel({"a": branch, "b": branch}, max_concurrency=1)
    result = await Pipeline([step, Step("s", branch)]).run(budget=Budget(9))
    seen = [weakref.ref(value) for value in result.step_history[0].output.values()]
    seen.append(weakref.ref(result.output))
    del result
    gc.collect()
    assert [ref() for ref in seen] == [None, None, None]
    assert len(kept) == 3
