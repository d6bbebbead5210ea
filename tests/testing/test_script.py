"""Scripted branches do what is said and tell what they did; fakes tell a law what a test says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import pytest

from anabranch import (
    Budget,
    ConcurrencyConfig,
    ConfigurationError,
    HostLoopError,
    LimitChanged,
    Pipeline,
    Retry,
    Step,
    UnknownOptionError,
    UsageLimitExceededError,
)
from anabranch.controllers import named, replay
from anabranch.testing import (
    Call,
    FakeSampler,
    attempts,
    charges,
    checkpoints,
    fake_loads,
    raises,
    returns,
    run_virtual,
    script,
    sleep,
    stubborn,
    virtual_time,
    waits_for,
)
from tests.pipeline.adaptive import Halving

each_loop = pytest.mark.parametrize("loop", ["trio", "asyncio"])

# Scripts -----------------------------------------------------------------------------------------


async def test_branches_return_raise_and_pass_on_as_the_script_says() -> None:
    branches = script({"a": [sleep(1), returns(3)], "b": [raises(ValueError("no"))], "c": []})
    result = await Pipeline([Step.parallel(branches)]).run("data")
    ends = result.step_history[0].branches
    assert (ends["a"].output, ends["c"].output) == (3, "data")
    assert isinstance(ends["b"].error, ValueError)
    assert {call.key: call.how for call in branches.calls} == {
        "a": "returned", "b": "raised", "c": "returned",
    }  # fmt: skip


async def test_the_peak_of_scripted_branches_is_the_limit() -> None:
    branches = script({str(number): sleep(1) for number in range(9)})
    began = anyio.current_time()
    await Pipeline([Step.parallel(branches, max_concurrency=4)]).run(None)
    assert branches.peak == 4
    assert branches.running == ()
    assert {call.began - began for call in branches.calls} == {0, 1, 2}


async def test_a_cancelled_branch_is_told_as_such_and_a_stubborn_one_goes_on() -> None:
    branches = script({"quick": sleep(9), "deaf": [stubborn(3), returns(1)]})
    with anyio.move_on_after(1):
        async with anyio.create_task_group() as group:
            for branch in branches.values():
                group.start_soon(branch)
    assert [(call.key, call.how, round((call.ended or 0) - call.began)) for call in
            sorted(branches.calls, key=lambda call: call.key)] == [
        ("deaf", "cancelled", 3), ("quick", "cancelled", 1)
    ]  # fmt: skip


async def test_a_branch_waits_for_another_however_it_ends() -> None:
    order: list[str] = []

    async def note(call: Call) -> None:
        order.append(call.key)

    branches = script({"a": [waits_for("b"), note], "b": [checkpoints(3), note, raises(KeyError)]})
    await Pipeline([Step.parallel(branches)]).run(None)
    assert order == ["b", "a"]


async def test_each_attempt_has_its_own_line() -> None:
    branches = script({"a": attempts(raises(OSError), [sleep(1), returns(3)])})
    step = Step("a", branches["a"], retry=Retry(attempts=3, on=OSError))
    result = await Pipeline([step]).run(None)
    assert result.output == 3
    assert [(call.number, call.how) for call in branches.calls] == [(0, "raised"), (1, "returned")]


async def test_a_scripted_branch_charges_the_budget() -> None:
    branches = script({str(n): [sleep(n), charges(cost_usd=2)] for n in range(5)})
    with pytest.raises(UsageLimitExceededError):
        await Pipeline([Step.parallel(branches)]).run(None, budget=Budget(cost_usd=5))
    assert sum(call.how == "cancelled" for call in branches.calls) >= 2


def test_a_script_prints_as_what_made_it() -> None:
    line = [sleep(1), returns(3), raises(ValueError), waits_for("b"), checkpoints(2), stubborn(1)]
    text = "script({'a': (sleep(1), returns(3), raises(ValueError), waits_for('b'), "
    assert repr(script({"a": line})).startswith(text)
    made = attempts([raises(OSError)], returns(1), [charges(tokens=3)])
    assert repr(made) == "attempts([raises(OSError)], [returns(1)], [charges(tokens=3)])"


@pytest.mark.parametrize(
    "given", [3, [], {"": []}, {3: []}, {"a": 3}, {"a": [print]}, {"a": "sleep"}, {"a": sleep}]
)
def test_what_is_no_script_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="script: "):
        script(given)


@pytest.mark.parametrize(
    ("make", "given"),
    [(sleep, -1), (sleep, "1"), (sleep, True), (stubborn, None), (checkpoints, 0), (raises, 3)],
)
def test_a_behaviour_that_cannot_be_meant_is_refused(make: Any, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{make.__name__}: "):
        make(given)
    with pytest.raises(ConfigurationError, match="attempts: "):
        attempts()


async def test_waiting_for_a_branch_that_is_not_there_is_refused() -> None:
    branches = script({"a": waits_for("c")})
    with pytest.raises(ConfigurationError, match="no such branch"):
        await branches["a"]()


# Fakes -------------------------------------------------------------------------------------------


@each_loop
def test_a_fake_sampler_moves_the_limit_in_virtual_time(loop: str) -> None:
    heard: list[Any] = []

    async def main() -> None:
        busy = FakeSampler(lambda seconds: {"cpu": 0.99 if seconds < 3 else 0.1})
        config = ConcurrencyConfig(8, controller=Halving(), samplers=busy)
        branches = script({str(number): sleep(1) for number in range(60)})
        step = Step.parallel(branches, concurrency=config, timeout=None)
        await Pipeline([step]).run(None, observer=heard.append)
        assert busy.asked > 3

    run_virtual(main, loop=loop)
    moved = [(each.old, each.new) for each in heard if isinstance(each, LimitChanged)]
    assert moved[:2] == [(8, 4), (4, 2)]
    assert (2, 4) in moved


def test_a_fake_sampler_tells_one_thing_after_another_and_then_the_last() -> None:
    sampler = FakeSampler([{"cpu": 0.1}, {"cpu": None}])
    assert [sampler.sample()["cpu"] for _ in range(4)] == [0.1, None, None, None]
    assert sampler.asked == 4
    assert FakeSampler({"cores": 4}).sample() == {"cores": 4}


@pytest.mark.parametrize(
    "given", [3, "cpu", [], [3], {"cpus": 4}, {"cpu": 95}, {"cpu": "high"}, {"memory_used": -1}]
)
def test_what_no_sampler_could_tell_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="FakeSampler: "):
        FakeSampler(given)


def test_a_function_of_time_needs_a_loop() -> None:
    with pytest.raises(HostLoopError, match="within the test's async function"):
        FakeSampler(lambda seconds: {})


def test_fake_loads_are_what_a_law_is_told() -> None:
    loads = fake_loads([{"cpu": 0.99}, {"cpu": 0.1}], every=0.5, limit=8, cores=4.0)
    assert [(load.t, load.cpu, load.limit) for load in loads] == [(0.5, 0.99, 8), (1.0, 0.1, 8)]
    assert len(list(replay(named("aimd"), loads))) == 2
    with pytest.raises(UnknownOptionError, match="cpu"):
        fake_loads([{"cpus": 4}])


# Virtual time ------------------------------------------------------------------------------------


@each_loop
def test_a_day_passes_at_once(loop: str) -> None:
    async def main(seconds: float) -> float:
        await anyio.sleep(seconds)
        return anyio.current_time()

    assert run_virtual(main, 86400.0, loop=loop) == 86400
    assert anyio.run(main, 86400.0, **virtual_time(loop)) == 86400


@each_loop
def test_without_a_seed_who_is_ready_first_goes_first(loop: str) -> None:
    async def main() -> str:
        order = ""

        async def child(name: str) -> None:
            nonlocal order
            for _ in range(3):
                order += name
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for name in "abcd":
                group.start_soon(child, name)
        return order

    assert run_virtual(main, loop=loop) == "abcd" * 3
    assert len({run_virtual(main, loop=loop, seed=seed) for seed in range(20)}) > 10


@pytest.mark.parametrize("options", [{"loop": "curio"}, {"loop": None}, {"seed": 1.5}])
def test_what_run_virtual_cannot_mean_is_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError, match="run_virtual: "):
        run_virtual(anyio.sleep, 1, **options)
    with pytest.raises(ConfigurationError, match="virtual_time: "):
        virtual_time("curio")


async def test_run_virtual_is_refused_where_a_loop_runs() -> None:
    with pytest.raises(HostLoopError, match="plain function"):
        run_virtual(anyio.sleep, 1)


# What it needs -----------------------------------------------------------------------------------

BARE = """
import sys
sys.modules["hypothesis"] = sys.modules["pytest"] = None
import anabranch.testing
try:
    anabranch.testing.limits
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.slow
def test_the_kit_needs_neither_pytest_nor_hypothesis_until_it_draws() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True)
    assert "draws limits, resizes and step_trees with Hypothesis" in done.stdout
    assert "install hypothesis" in done.stdout


def test_every_public_name_is_there() -> None:
    import anabranch.testing

    for name in anabranch.testing.__all__:
        assert getattr(anabranch.testing, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'limit'"):
        _ = anabranch.testing.limit
