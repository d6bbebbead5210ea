"""Sound parts pass the checks, ours all of them; a broken one is told which promise it breaks."""

from __future__ import annotations

import inspect
import itertools
from functools import partial
from typing import Any

import anyio
import pytest
import trio

from anabranch import ConfigurationError
from anabranch._sampling import Realness
from anabranch.controllers import named
from anabranch.samplers import default_samplers
from anabranch.testing import (
    ConformanceError,
    FakeSampler,
    _check_lane,
    check_controller,
    check_lane,
    check_limiter,
    check_sampler,
)
from tests.conformance.lanes import SUBJECTS
from tests.lanes.scripts import python
from tests.testing import broken

# Lanes -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.parametrize(("lane", "promise"), broken.LANES)
@pytest.mark.leaves("thread", reason="one lane leaves its calls running, which is the fault")
async def test_a_broken_lane_is_told_which_promise_it_breaks(lane: Any, promise: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_lane(lane())
    assert any(promise in line for line in caught.value.broken), caught.value.broken
    assert lane.__name__ in str(caught.value)
    if lane is broken.LeavesCallRunning:
        await anyio.sleep(0.6)  # until it has ended


@pytest.mark.slow
@pytest.mark.real_clock
async def test_a_sound_lane_of_ones_own_passes() -> None:
    await check_lane(broken.InThreads())


def as_script(fn: Any, args: Any) -> Any:
    # By its file: to import its package would take each script a second.
    file = inspect.getsourcefile(fn)
    code = f"import runpy\nprint(runpy.run_path({file!r})[{fn.__name__!r}](*{args!r}))"
    return python, (code,)


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.parametrize(
    "subject",
    [each for each in SUBJECTS if each.name.startswith(("sub", "executor"))],
    ids=lambda subject: subject.name,
)
async def test_our_lanes_pass(subject: Any) -> None:
    with subject.opens() as lane:
        await check_lane(
            lane,
            says=as_script if subject.name == "subprocess" else None,
            value=subject.value,
            raises=subject.raises,
            stops=subject.name == "subprocess",  # nobody can stop another's executor
        )


@pytest.mark.slow
@pytest.mark.real_clock
async def test_a_lane_that_holds_the_loop_may_say_so() -> None:
    await check_lane(broken.HoldsLoop(), holds_loop=True)


async def test_in_virtual_time_a_lane_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    # However long the machine takes meanwhile: an hour, from one look at its clock to the next.
    slow = partial(Realness, machine=partial(next, itertools.count(step=3600)))
    monkeypatch.setattr(_check_lane, "Realness", slow)
    with pytest.raises(ConfigurationError, match=r"virtual time.*clock="):
        await check_lane(broken.InThreads())


@pytest.mark.parametrize("given", ["io", 3, broken.InThreads, object()])
async def test_what_is_no_lane_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"check_lane: .* is (no lane|a name);"):
        await check_lane(given)


# Limiters ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("make", [anyio.CapacityLimiter, broken.Limiter])
async def test_a_sound_limiter_passes(make: Any) -> None:
    await check_limiter(make)


@pytest.mark.slow
@pytest.mark.trio_only
async def test_the_limiter_of_trio_passes() -> None:
    await check_limiter(trio.CapacityLimiter)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "promise"), broken.LIMITERS)
async def test_a_broken_limiter_is_told_which_promise_it_breaks(make: Any, promise: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_limiter(make)
    assert any(promise in line for line in caught.value.broken), caught.value.broken


@pytest.mark.parametrize("given", [3, broken.Limiter(1), lambda tokens: tokens])
async def test_what_makes_no_limiter_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="check_limiter: "):
        await check_limiter(given)


# Laws --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weir", "aimd", "gradient", "fixed"])
def test_our_laws_pass(name: str) -> None:
    check_controller(named(name))


def test_a_sound_law_passes() -> None:
    check_controller(broken.Stays())


@pytest.mark.parametrize(("law", "promise"), broken.LAWS)
def test_a_broken_law_is_told_which_promise_it_breaks(law: Any, promise: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_controller(law(), runs=8)
    assert any(promise in line for line in caught.value.broken), caught.value.broken


@pytest.mark.parametrize("given", [3, broken.Stays, FakeSampler({"cpu": 0.5})])
def test_what_is_no_law_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="check_controller: "):
        check_controller(given)


# Samplers ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sampler", default_samplers(), ids=lambda each: type(each).__name__)
def test_our_samplers_pass(sampler: Any) -> None:
    check_sampler(sampler)


def test_a_sampler_that_says_what_a_test_says_passes() -> None:
    check_sampler(FakeSampler([{"cpu": 0.5}, {"cpu": None, "memory_used": 3e9}]))


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "promise"), broken.SAMPLERS)
@pytest.mark.leaves("thread", reason="one of them hangs for a while")
def test_a_broken_sampler_is_told_which_promise_it_breaks(sampler: Any, promise: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_sampler(sampler)
    assert any(promise in line for line in caught.value.broken), caught.value.broken


async def _async_sample(self: object) -> None:
    """Be a coroutine."""


@pytest.mark.parametrize("given", [3, broken.Hangs, type("Async", (), {"sample": _async_sample})()])
def test_what_is_no_sampler_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="check_sampler: "):
        check_sampler(given)
