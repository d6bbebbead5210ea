"""See that a parallel step keeps its promises: who runs, when, how it ends, and in what order."""

import math
import threading
import time
import warnings
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from anabranch import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ExecutionConfig,
    Pipeline,
    PipelineResult,
    Status,
    Step,
    StepResult,
    UnboundedWarning,
)
from anabranch._host import current_host
from anabranch.lanes._thread import IO_LIMIT, io_lane
from tests.branches import with_begun

IGNORE = BranchFailureStrategy.IGNORE


async def echo(data: Any) -> Any:
    await anyio.sleep(0)
    return data


async def fail(data: Any) -> Any:
    raise ValueError(data)


def sleeper(seconds: float) -> Any:
    async def sleep(_: Any) -> float:
        await anyio.sleep(seconds)
        return seconds

    return sleep


async def run(step: Any, data: Any = 1, **options: Any) -> StepResult[Any]:
    result = await Pipeline([step]).run(data, **options)
    return result.step_history[-1]


# Spellings -----------------------------------------------------------------------------------


async def test_three_spellings_say_the_same() -> None:
    branches = {"a": echo, "b": echo}
    for step, name in (
        (Step.parallel(branches), "parallel"),
        (Step.parallel(branches=branches), "parallel"),
        (Step.parallel("both", branches), "both"),
        (Step.parallel("both", branches=branches), "both"),
        (Step.parallel(name="both", branches=branches), "both"),
    ):
        result = await run(step)
        assert (result.name, result.output) == (name, {"a": 1, "b": 1})


async def test_a_mapping_changed_afterwards_changes_nothing() -> None:
    branches = {"a": echo}
    step = Step.parallel(branches)
    branches["b"] = fail
    assert (await run(step)).output == {"a": 1}


async def test_every_branch_gets_the_steps_input() -> None:
    marker = object()
    result = await run(
        Step.parallel({"a": echo, "b": Step("x", echo), "c": Pipeline([echo])}), marker
    )
    assert list(result.output.values()) == [marker] * 3


async def test_no_branches_is_no_success_and_says_so() -> None:
    result = await run(Step.parallel({}))
    assert not result.success
    assert result.status is Status.FAILED
    assert "no branches" in result.feedback


# Ends ----------------------------------------------------------------------------------------


async def test_a_failed_branch_fails_the_step_and_its_siblings_finish() -> None:
    result = await run(Step.parallel({"a": sleeper(2), "bad": fail, "c": sleeper(1)}), "words")
    assert not result.success
    assert result.status is Status.FAILED
    assert result.feedback == "2 of 3 branches succeeded"
    assert result.output["a"] == 2
    assert result.output["bad"] is result.branches["bad"]
    assert isinstance(result.output["bad"].error, ValueError)
    assert isinstance(result.error, ExceptionGroup)
    assert result.latency_s == pytest.approx(2, abs=0.01)


async def test_ignore_succeeds_if_one_did() -> None:
    some = await run(Step.parallel({"a": echo, "bad": fail}, on_branch_failure=IGNORE))
    assert some.success
    assert some.error is None
    assert isinstance(some.output["bad"], StepResult)
    none = await run(Step.parallel({"a": fail, "bad": fail}, on_branch_failure=IGNORE))
    assert not none.success
    assert len(none.error.exceptions) == 2


async def test_the_order_of_completion_is_told() -> None:
    seconds = {"slow": 3, "fast": 1, "middle": 2}
    branches = {key: sleeper(value) for key, value in seconds.items()}
    result = await run(Step.parallel(branches))
    assert result.completion_order == ("fast", "middle", "slow")
    assert list(result.branches) == list(result.output) == ["slow", "fast", "middle"]
    assert result.branches["slow"].latency_s == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize(
    "options",
    [{"track_completion": False}, {"concurrency": ConcurrencyConfig(completion_tracking=False)}],
    ids=["short", "config"],
)
async def test_the_order_is_left_out_if_asked(options: dict[str, Any]) -> None:
    result = await run(Step.parallel({"a": echo, "b": echo}, **options))
    assert result.success
    assert result.completion_order == ()


async def test_branches_start_in_declared_order() -> None:
    started = []

    def branch(key: str) -> Any:
        async def start(_: Any) -> None:
            started.append(key)
            await anyio.sleep(1)

        return start

    keys = [f"b{i}" for i in range(20)]
    result = await run(Step.parallel({key: branch(key) for key in keys}, max_concurrency=1))
    assert started == keys
    assert [result.branches[key].queued_s for key in keys] == pytest.approx(range(20), abs=0.1)


async def test_a_nested_step_is_a_branch_with_branches() -> None:
    inner = Step.parallel("inner", {"x": echo, "y": fail})
    result = await run(Step.parallel("outer", {"a": inner, "b": echo}), "words")
    nested = result.branches["a"]
    assert (nested.name, nested.success, nested.status) == ("a", False, Status.FAILED)
    assert list(nested.branches) == ["x", "y"]
    assert nested.branches["x"].output == "words"
    assert result.output["a"] is nested
    good = await run(Step.parallel({"a": Step.parallel({"x": echo, "y": echo}), "b": echo}))
    assert good.output == {"a": {"x": 1, "y": 1}, "b": 1}


async def test_a_nested_failure_is_unwrapped_to_its_leaves() -> None:
    inner = Step.parallel("inner", {"x": echo, "y": fail})
    result = await Pipeline([Step.parallel("outer", {"a": inner, "b": fail})]).run("words")
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    leaves = list(_leaves(caught.value))
    assert len(leaves) == 2
    notes = sorted(note for leaf in leaves for note in leaf.__notes__)
    assert notes == ["branch b of step outer", "branch y of step inner"]


def _leaves(error: BaseException) -> Any:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


async def test_a_branchs_contextvars_are_its_own() -> None:
    var: ContextVar[Any] = ContextVar("var", default="outside")

    async def sets(data: Any) -> Any:
        seen = var.get()
        var.set(data)
        await anyio.sleep(0)
        return seen, var.get()

    var.set("caller's")
    branches = {f"b{i}": sets for i in range(50)}
    for limit in (1, 10):
        result = await run(Step.parallel(branches, max_concurrency=limit), "branch's")
        assert set(result.output.values()) == {("caller's", "branch's")}
    assert var.get() == "caller's"


# The simple path -----------------------------------------------------------------------------


async def test_without_a_limit_every_branch_runs_at_once_and_many_are_warned_of() -> None:
    branches = {f"b{i}": sleeper(1) for i in range(65)}
    with pytest.warns(UnboundedWarning, match="65 branches at once.*max_concurrency="):
        result = await run(Step.parallel(branches))
    assert result.latency_s == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("options", "config"),
    [({"max_concurrency": 65}, None), ({}, ExecutionConfig(max_parallel_steps=70))],
    ids=["step", "pipeline"],
)
async def test_what_is_bounded_is_not_warned_of(options: Any, config: Any) -> None:
    step = Step.parallel({f"b{i}": echo for i in range(65)}, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (await Pipeline([step], execution_config=config).run(1)).success
        assert (await run(Step.parallel({f"b{i}": echo for i in range(64)}))).success


# Deadlines -----------------------------------------------------------------------------------


async def test_a_steps_timeout_cancels_its_branches_and_names_the_option() -> None:
    step = Step.parallel({"quick": sleeper(1), "slow": sleeper(100), "bad": fail}, timeout=2)
    result = await run(step)
    assert result.status is Status.TIMED_OUT
    assert result.reason == "deadline: 2 s (timeout=)"
    assert not result.success
    assert result.latency_s == pytest.approx(2, abs=0.01)
    assert result.output["quick"] == 1
    assert result.branches["bad"].status is Status.FAILED
    slow = result.branches["slow"]
    assert slow.status is Status.CANCELLED
    assert slow.reason == "deadline: 2 s (timeout=)"
    assert slow.latency_s == pytest.approx(2, abs=0.01)
    assert "deadline: 2 s (timeout=)" in result.feedback


async def test_the_default_timeout_is_half_a_minute() -> None:
    result = await run(Step.parallel({"a": sleeper(100)}))
    assert result.status is Status.TIMED_OUT
    assert result.branches["a"].reason == "deadline: 30 s (timeout=)"
    assert (await run(Step.parallel({"a": sleeper(100)}, timeout=None))).success


async def test_branches_queued_at_the_deadline_never_start() -> None:
    started = []

    async def start(data: Any) -> None:
        started.append(data)
        await anyio.sleep(3)

    step = Step.parallel({f"b{i}": start for i in range(20)}, max_concurrency=2, timeout=4)
    result = await run(step)
    assert len(started) == 4
    statuses = [branch.status for branch in result.branches.values()]
    assert statuses == [Status.SUCCEEDED] * 2 + [Status.CANCELLED] * 18
    assert [branch.attempts for branch in result.branches.values()] == [1] * 4 + [0] * 16
    assert {branch.reason for branch in result.branches.values()} == {
        "",
        "deadline: 4 s (timeout=)",
    }
    assert len(result.completion_order) == 20
    await anyio.sleep(10)
    assert len(started) == 4


async def test_ignore_does_not_make_a_timeout_a_success() -> None:
    step = Step.parallel({"a": echo, "b": sleeper(9)}, timeout=2, on_branch_failure=IGNORE)
    result = await run(step)
    assert (result.success, result.status) == (False, Status.TIMED_OUT)


async def test_a_branchs_own_timeout_ends_it_alone() -> None:
    branches = {"a": Step("a", sleeper(9), timeout=1), "b": sleeper(2)}
    result = await run(Step.parallel(branches, on_branch_failure=IGNORE))
    assert result.success
    assert result.branches["a"].status is Status.TIMED_OUT
    assert result.branches["a"].reason == "deadline: 1 s (timeout= of the branch)"
    assert result.output["b"] == 2


async def test_one_branch_alone_times_out_as_several_do() -> None:
    result = await run(Step.parallel({"a": sleeper(9)}, timeout=2))
    assert result.status is Status.TIMED_OUT
    assert result.branches["a"].status is Status.CANCELLED
    own = await run(Step.parallel({"a": Step("a", sleeper(9), timeout=1)}, timeout=2))
    assert own.status is Status.FAILED
    assert own.branches["a"].status is Status.TIMED_OUT


async def test_a_nested_timeout_is_its_branchs_result_and_the_outer_step_goes_on() -> None:
    inner = Step.parallel({"x": sleeper(9), "y": sleeper(1)}, timeout=2)
    result = await run(Step.parallel({"a": inner, "b": sleeper(3)}, on_branch_failure=IGNORE))
    assert result.success
    nested = result.branches["a"]
    assert not nested.success
    assert nested.branches["y"].success
    assert nested.branches["x"].reason == "deadline: 2 s (timeout=)"
    assert "deadline: 2 s" in nested.feedback


async def test_an_outer_timeout_cancels_what_is_nested() -> None:
    ran: list[str] = []

    async def late(_: Any) -> None:
        try:
            await anyio.sleep(9)
        finally:
            ran.append("cleanup")

    inner = Step.parallel({"x": late, "y": late}, timeout=None)
    result = await run(Step.parallel({"a": inner, "b": sleeper(1)}, timeout=2))
    assert result.status is Status.TIMED_OUT
    assert result.branches["a"].status is Status.CANCELLED
    assert result.branches["a"].reason == "deadline: 2 s (timeout=)"
    assert result.branches["b"].success
    assert ran == ["cleanup", "cleanup"]


async def test_a_pipelines_timeout_keeps_what_has_ended() -> None:
    steps = [Step("first", sleeper(1)), Step.parallel("p", {"a": sleeper(1), "b": sleeper(9)})]
    result = await Pipeline(steps).run(timeout=3)
    assert not result.success
    assert result.reason == "deadline: 3 s (timeout= of the pipeline)"
    assert [step.name for step in result.step_history] == ["first", "p"]
    assert result.step_history[1].branches["a"].success
    assert result.step_history[1].branches["b"].status is Status.CANCELLED
    assert result.duration == pytest.approx(3, abs=0.01)
    with pytest.raises(ExceptionGroup):
        result.unwrap()


async def test_a_pipelines_timeout_shows_no_step_twice() -> None:
    innermost = Step.parallel("innermost", {"x": sleeper(9)})
    middle = Step.parallel("middle", {"i": innermost}, timeout=1)
    steps = [
        Step.parallel("outer", {"m": middle, "ok": echo}, on_branch_failure=IGNORE),
        Step("last", sleeper(9)),
    ]
    result = await Pipeline(steps).run(timeout=5)
    assert [step.name for step in result.step_history] == ["outer", "last"]
    assert result.step_history[1].status == "cancelled"
    assert result.reason == "deadline: 5 s (timeout= of the pipeline)"
    assert result.step_history[1].feedback == f"cancelled: {result.reason}"


async def test_a_deadline_from_outside_goes_on_its_way() -> None:
    started: list[Any] = []

    async def start(_: Any) -> None:
        started.append(1)
        await anyio.sleep(3)

    step = Step.parallel({f"b{i}": start for i in range(9)}, max_concurrency=2)
    before = anyio.current_time()
    with anyio.move_on_after(4) as scope:
        await Pipeline([step]).run()
        raise AssertionError("the cancellation was swallowed")
    assert scope.cancelled_caught
    assert anyio.current_time() - before == pytest.approx(4, abs=0.01)
    count = len(started)
    await anyio.sleep(20)
    assert len(started) == count == 4


async def test_a_branch_that_catches_cancellation_keeps_the_step_open() -> None:
    async def stubborn(_: Any) -> str:
        try:
            await anyio.sleep(100)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
            return "swallowed"

    result = await run(Step.parallel({"a": stubborn, "b": sleeper(1)}, timeout=2))
    assert result.latency_s == pytest.approx(5, abs=0.01)
    assert result.status is Status.TIMED_OUT
    assert result.branches["a"].output in (None, "swallowed")
    assert result.branches["b"].success


async def test_errors_beside_a_cancellation_are_kept_and_the_cancellation_goes_on() -> None:
    async def both(_: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 100)
            try:
                await anyio.sleep(100)
            finally:
                raise KeyError("beside it")

    result = await run(Step.parallel({"a": both, "b": sleeper(1)}, timeout=2))
    assert result.status is Status.TIMED_OUT
    branch = result.branches["a"]
    assert any(isinstance(leaf, KeyError) for leaf in _leaves(branch.error))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_that_a_branch_raises_goes_on_its_way(kind: Any) -> None:
    started = []

    async def interrupts(_: Any) -> None:
        await anyio.sleep(1)
        raise kind

    async def start(_: Any) -> None:
        started.append(1)
        await anyio.sleep(5)

    branches = {"a": interrupts, **{f"b{i}": start for i in range(9)}}
    with pytest.raises(kind):
        await run(Step.parallel(branches, max_concurrency=2))
    assert len(started) == 1


# Threads -------------------------------------------------------------------------------------


@pytest.mark.real_clock
async def test_plain_functions_run_in_threads_under_the_limit() -> None:
    lock, now, most = threading.Lock(), 0, 0
    meet = threading.Barrier(3)  # as many as may run wait for each other

    def call(_: Any) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        meet.wait(10)
        with lock:
            now -= 1
        return threading.get_ident()

    result = await run(Step.parallel({f"b{i}": call for i in range(12)}, max_concurrency=3))
    assert result.success
    assert most == 3
    assert threading.get_ident() not in result.output.values()


@pytest.mark.real_clock
@pytest.mark.leaves("thread", reason="an abandoned thread ends when it likes")
async def test_a_thread_that_cannot_be_stopped_is_abandoned_and_the_step_returns() -> None:
    release = threading.Event()

    async def attempt(seconds: float, begun: threading.Event) -> tuple[float, Any]:
        def stuck(_: Any) -> None:
            begun.set()
            release.wait(60)

        with anyio.fail_after(seconds + 10):
            return seconds, await run(Step.parallel({"a": stuck, "b": echo}, timeout=seconds))

    try:
        seconds, result = await with_begun(attempt)
        assert result.status is Status.TIMED_OUT
        assert result.branches["a"].status is Status.ABANDONED
        assert result.branches["a"].reason == f"deadline: {seconds:g} s (timeout=)"
        assert io_lane(current_host()).abandoned == ["a"]
    finally:
        release.set()
    while io_lane(current_host()).abandoned:
        await anyio.sleep(0.001)
    assert io_lane(current_host()).limiter.borrowed_tokens == 0


@pytest.mark.real_clock
async def test_a_thread_that_is_waited_for_keeps_the_step_open() -> None:
    step = Step("a", lambda _: time.sleep(0.1) or "ended", on_cancel="wait")
    result = await run(Step.parallel({"a": step}, timeout=0.02))
    assert result.latency_s >= 0.1
    assert result.branches["a"].status is not Status.ABANDONED


@pytest.mark.real_clock
async def test_a_larger_limit_of_a_step_raises_the_io_lanes_while_it_runs() -> None:
    lane = io_lane(current_host())
    assert lane.limiter.total_tokens == IO_LIMIT
    seen = []
    step = Step.parallel(
        {f"b{i}": lambda _: seen.append(lane.limiter.total_tokens) for i in range(101)},
        max_concurrency=100,
    )
    assert (await run(step)).success
    assert set(seen) == {100}
    assert lane.limiter.total_tokens == IO_LIMIT


@pytest.mark.real_clock
async def test_an_io_limit_bounds_the_threads_of_a_pipeline() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def call(_: Any) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    step = Step.parallel({f"b{i}": call for i in range(10)})
    pipeline = Pipeline([step], execution_config=ExecutionConfig(io_limit=2))
    assert (await pipeline.run()).success
    assert most == 2
    assert io_lane(current_host()).limiter.total_tokens == IO_LIMIT


@pytest.mark.real_clock
async def test_a_thread_may_run_a_pipeline_of_its_own() -> None:
    def call(data: Any) -> Any:
        result: PipelineResult[Any] = Pipeline([echo]).run_sync(data, loop="asyncio")
        return result.output

    assert (await run(Step.parallel({"a": call, "b": call}))).output == {"a": 1, "b": 1}


async def test_numbers_of_time_are_never_negative() -> None:
    result = await run(
        Step.parallel({f"b{i}": sleeper(i / 10) for i in range(9)}, max_concurrency=2)
    )
    for branch in result.branches.values():
        assert branch.latency_s >= 0
        assert branch.queued_s >= 0
        assert not math.isnan(branch.latency_s)
