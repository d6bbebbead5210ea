"""See that each mistake is refused before anything starts, in words that say what to do."""

import asyncio
import math
import re
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

import anabranch
from anabranch import (
    AnabranchError,
    BranchFailureStrategy,
    ConcurrencyConfig,
    ConfigurationError,
    DuplicateKeyError,
    ExecutionConfig,
    HostLoopError,
    Job,
    MergeStrategy,
    NotBuiltYetError,
    Pipeline,
    ResourceLimits,
    Retry,
    SchedulerClosedError,
    Step,
    UnknownOptionError,
    open_scheduler,
)


def each(names: str | tuple[str, ...], cases: Any) -> Any:
    """Parametrize with ids that differ, whatever the cases are."""
    return pytest.mark.parametrize(names, cases, ids=[str(i) for i, _ in enumerate(cases)])


async def echo(data: Any) -> Any:
    return data


def plain(data: Any) -> Any:
    return data


def two(first: Any, second: Any) -> Any:
    return first, second


def none_at_all() -> None:
    return None


def generator(data: Any) -> Any:
    yield data


async def async_generator(data: Any) -> Any:
    yield data


def never(data: Any) -> Any:
    raise AssertionError("it was started")


BRANCHES = {"a": echo}
LIMITS = [0, -1, 1.5, True, math.nan, "10", math.inf, 10.0]
SECONDS = [0, -1, True, math.nan, "10", object()]
NAMES = ["", 3, b"x", object()]

LATER_OF_STEP = {"cache": object()}


# Keywords ------------------------------------------------------------------------------------


@each(
    ("make", "nearest"),
    [
        (lambda: Step("a", echo, timout=3), "timeout"),
        (lambda: Step("a", echo, retries=3), "retry"),
        (lambda: Step.parallel(BRANCHES, max_concurency=3), "max_concurrency"),
        (lambda: Step.parallel("x", BRANCHES, max_concurrent=3), "max_concurrency"),
        (lambda: Step.parallel(BRANCHES, timeout_s=3), "timeout"),
        (lambda: Step.map_over("m", echo, item=[1]), "items"),
        (lambda: Step.map_over("m", echo, concurency=3), "concurrency"),
        (lambda: Pipeline([echo], nam="x"), "name"),
        (lambda: Pipeline([echo], config=None), "execution_config"),
        (lambda: ConcurrencyConfig(max_concurrent=3), "max_concurrent_branches"),
        (lambda: ExecutionConfig(max_parallel=3), "max_parallel_steps"),
        (lambda: ResourceLimits(max_memory=3), "max_memory_mb"),
        (lambda: Pipeline([echo]).run_sync(1, contex={}), "context"),
        (lambda: Pipeline([echo]).run_sync(1, lop="trio"), "loop"),
        (lambda: Pipeline([echo]).open(1, observr=print), "observer"),
        (lambda: anyio.run(partial(Pipeline([echo]).run, 1, limitr=3)), "limiter"),
    ],
)
def test_an_unknown_keyword_is_refused_and_the_nearest_named(make: Any, nearest: str) -> None:
    with pytest.raises(UnknownOptionError, match=f"did you mean '{nearest}'") as caught:
        make()
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


def test_a_keyword_near_to_none_is_refused_with_the_list() -> None:
    with pytest.raises(UnknownOptionError, match=r"it takes .*lane.*timeout"):
        Step("a", echo, zzzzzz=1)


@each(
    "make",
    [
        lambda: Step.parallel(BRANCHES, concurrency=ConcurrencyConfig(), max_concurrency=2),
        lambda: Step.parallel(BRANCHES, concurrency=ConcurrencyConfig(), track_completion=True),
        lambda: Step.map_over("m", echo, concurrency=ConcurrencyConfig(), max_concurrency=2),
    ],
)
def test_both_spellings_at_once_are_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"the same thing twice; give one"):
        make()


# Limits and times ----------------------------------------------------------------------------


@each("limit", LIMITS)
@each(
    ("make", "option"),
    [
        (lambda n: Step.parallel(BRANCHES, max_concurrency=n), "max_concurrency"),
        (lambda n: Step.map_over("m", echo, max_concurrency=n), "max_concurrency"),
        (ConcurrencyConfig, "max_concurrent_branches"),
        (lambda n: ExecutionConfig(max_parallel_steps=n), "max_parallel_steps"),
        (lambda n: ExecutionConfig(io_limit=n), "io_limit"),
    ],
)
def test_what_is_no_limit_is_refused(make: Any, option: str, limit: Any) -> None:
    seen = re.escape(f"{option}={limit!r}")
    with pytest.raises(ConfigurationError, match=f"{seen}.*give a whole number of at least 1"):
        make(limit)


@each("limit", [each for each in LIMITS if each != math.inf])
def test_a_scheduler_refuses_what_is_no_limit(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"give a whole number of at least 1"):
        open_scheduler(limit)


@each("seconds", SECONDS)
@each(
    "make",
    [
        lambda s: Step("a", echo, timeout=s),
        lambda s: Step.parallel(BRANCHES, timeout=s),
        lambda s: Step.map_over("m", echo, timeout=s),
        lambda s: Pipeline([never]).run_sync(1, timeout=s),
        lambda s: Pipeline([never]).open(1, timeout=s),
        lambda s: Job("a", echo, timeout=s),
    ],
)
def test_what_is_no_time_is_refused(make: Any, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"timeout=.*give a positive number"):
        make(seconds)


@each("value", [3, "many", {"max_concurrent_branches": 3}])
def test_a_concurrency_that_is_no_config_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no ConcurrencyConfig.*max_concurrency="):
        Step.parallel(BRANCHES, concurrency=value)


@each("flag", [field.name for field in attrs.fields(ConcurrencyConfig)][1:7])
def test_a_flag_is_true_or_false(flag: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{flag}=1 .*neither True nor False"):
        ConcurrencyConfig(**{flag: 1})


def test_track_completion_is_true_or_false() -> None:
    with pytest.raises(ConfigurationError, match=r"track_completion=1 is neither"):
        Step.parallel(BRANCHES, track_completion=1)


@each("value", ["propagate", None, True])
def test_a_failure_strategy_is_one_of_the_two(value: Any) -> None:
    for make in (partial(Step.parallel, BRANCHES), partial(Step.map_over, "m", echo)):
        with pytest.raises(ConfigurationError, match=r"BranchFailureStrategy.PROPAGATE or .IGNORE"):
            make(on_branch_failure=value)


@each("config", [3, ConcurrencyConfig(), {"max_parallel_steps": 3}])
def test_an_execution_config_is_one(config: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no ExecutionConfig"):
        Pipeline([echo], execution_config=config)


def test_resource_limits_of_an_execution_config_are_such() -> None:
    with pytest.raises(ConfigurationError, match=r"no ResourceLimits"):
        ExecutionConfig(resource_limits={"max_memory_mb": 3})


# Branches ------------------------------------------------------------------------------------


@each("branch", [3, None, "echo", [echo], object()])
def test_a_branch_that_cannot_be_called_is_refused(branch: Any) -> None:
    words = "neither callable nor a step; give a function, a Step"
    with pytest.raises(ConfigurationError, match=f"'a' is .*{words}"):
        Step.parallel({"a": branch})
    with pytest.raises(ConfigurationError, match=words):
        Step.map_over("m", branch)
    with pytest.raises(ConfigurationError, match=words):
        Pipeline([branch])


@each("branch", [3, None, "echo", object()])
def test_a_step_of_what_cannot_be_called_is_refused(branch: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"not callable; give a function"):
        Step("a", branch)


@each("function", [generator, async_generator, partial(generator), partial(async_generator)])
def test_a_generator_function_is_refused_as_a_branch(function: Any) -> None:
    for make in (
        lambda fn: Step("a", fn),
        lambda fn: Step.parallel({"a": fn}),
        lambda fn: Step.map_over("m", fn),
        lambda fn: Pipeline([fn]),
        lambda fn: Step("b", echo) >> fn,
    ):
        with pytest.raises(ConfigurationError, match=r"generator function.*return a value"):
            make(function)


@each("function", [two, none_at_all, partial(two, 1, 2), lambda *, data: data])
def test_a_function_of_the_wrong_arity_is_refused(function: Any) -> None:
    for make in (
        lambda fn: Step("a", fn),
        lambda fn: Step.parallel({"a": fn}),
        lambda fn: Step.map_over("m", fn),
        lambda fn: Pipeline([fn]),
    ):
        with pytest.raises(ConfigurationError, match=r"cannot be called with the data.*fn\(data\)"):
            make(function)


@each("branches", [[echo], {echo}, 3, "abc", iter([echo])])
def test_branches_that_are_no_mapping_are_refused(branches: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no mapping; give {key: branch}"):
        Step.parallel(branches=branches)


def test_a_parallel_step_without_branches_is_told_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match=r"no branches.*give a mapping"):
        Step.parallel("name")
    with pytest.raises(ConfigurationError, match=r"no branches.*give a mapping"):
        Step.parallel()


@each("name", NAMES)
def test_a_name_is_a_string_that_is_not_empty(name: Any) -> None:
    for make in (
        lambda: Step(name, echo),
        lambda: Step.parallel(name, BRANCHES),
        lambda: Step.map_over(name, echo),
        lambda: Pipeline([echo], name=name),
        lambda: Step.parallel({name: echo}),
    ):
        with pytest.raises(ConfigurationError, match=r"is no name; give a string"):
            make()


def test_a_key_with_a_slash_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'a/b' holds '/'"):
        Step.parallel({"a/b": echo})


# Steps and pipelines -------------------------------------------------------------------------


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(DuplicateKeyError, match=r"two steps are named 'a'"):
        Pipeline([Step("a", echo), Step("a", plain)])
    with pytest.raises(DuplicateKeyError, match=r"two steps are named 'a'"):
        Step("a", echo) >> Step.parallel("a", BRANCHES)


@each("steps", [[], ()])
def test_a_pipeline_of_no_steps_is_refused(steps: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no steps; give it at least one"):
        Pipeline(steps)


@each("steps", [3, None, "abc", {"a": echo}, {echo}, echo])
def test_steps_that_are_no_list_are_refused(steps: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"give a list of steps"):
        Pipeline(steps)


@each("items", [3, object()])
def test_items_that_are_none_are_refused(items: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"neither iterable nor callable; give items"):
        Step.map_over("m", echo, items=items)


@each("lane", ["thread", "", 3, None, object()])
def test_a_lane_that_is_none_is_refused(lane: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"lane=.*give one of"):
        Step("a", plain, lane=lane)


@each("lane", ["io", "cpu"])
def test_an_async_function_is_refused_by_a_lane_of_threads_or_processes(lane: str) -> None:
    with pytest.raises(ConfigurationError, match=r"async functions run on the loop"):
        Step("a", echo, lane=lane)


@each("word", ["kill", None, True])
def test_on_cancel_is_one_of_its_two_words(word: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"neither 'abandon' nor 'wait'"):
        Step("a", plain, on_cancel=word)


# Runs ----------------------------------------------------------------------------------------


@each("context", [3, "abc", [1], object()])
def test_a_context_that_cannot_be_copied_is_refused(context: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"give a dict, or an attrs, dataclass or pydantic"
    ):
        Pipeline([never]).run_sync(1, context=context)


@each("limiter", [3, "abc", object()])
def test_a_limiter_that_is_none_is_refused(limiter: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no limiter; give a CapacityLimiter"):
        Pipeline([never]).run_sync(1, limiter=limiter)


def test_an_observer_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"observer=3 is not callable"):
        Pipeline([never]).run_sync(1, observer=3)


@each("loop", ["uvloop", "", None, 3])
def test_run_sync_opens_one_of_two_loops(loop: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"give 'trio' or 'asyncio'"):
        Pipeline([never]).run_sync(1, loop=loop)


async def test_run_sync_is_refused_inside_a_running_loop() -> None:
    with pytest.raises(HostLoopError, match=r"await pipeline.run"):
        Pipeline([never]).run_sync(1)


def test_run_sync_is_refused_in_a_callback_of_a_running_loop() -> None:
    caught: list[BaseException] = []

    def call() -> None:
        try:
            Pipeline([never]).run_sync(1)
        except HostLoopError as error:
            caught.append(error)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(call)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert len(caught) == 1


def test_a_run_without_a_loop_says_how_to_get_one() -> None:
    coroutine = Pipeline([never]).run(1)
    with pytest.raises(HostLoopError, match=r"no loop runs here.*run_sync"):
        coroutine.send(None)


# A later version -----------------------------------------------------------------------------


def _refused(make: Any, options: dict[str, Any]) -> None:
    for option, value in options.items():
        with pytest.raises(NotBuiltYetError, match=rf"{option}=.* is not built yet"):
            make(**{option: value})


def test_what_a_later_version_brings_is_refused_by_name() -> None:
    _refused(partial(Step, "a", echo), LATER_OF_STEP)


def test_the_defaults_of_what_is_not_built_yet_may_be_written() -> None:
    Step("a", echo, retry=None, breaker=None, fallback=None, cache=None)
    Step.parallel(BRANCHES, merge_strategy=MergeStrategy.NO_MERGE, merge_order="declared")
    Step.parallel(BRANCHES, cancel_when=[], cancel_grace=5, breach_event=None)
    Step.map_over("m", echo, halt=None, reduce=None)
    ExecutionConfig(resource_limits=ResourceLimits())


# The scheduler -------------------------------------------------------------------------------


async def test_a_scheduler_is_refused_after_it_closed() -> None:
    async with open_scheduler(1) as scheduler:
        pass
    with pytest.raises(SchedulerClosedError, match=r"its block was left"):
        scheduler.submit(Job("a", echo, (1,)))
    with pytest.raises(SchedulerClosedError, match=r"open another one"):
        async with scheduler:
            pass


async def test_a_job_key_twice_is_refused() -> None:
    async with open_scheduler(1) as scheduler:
        scheduler.submit(Job("a", echo, (1,)))
        with pytest.raises(DuplicateKeyError, match=r"'a' is queued or running already"):
            scheduler.submit(Job("a", echo, (1,)))


def test_every_refusal_is_of_one_family() -> None:
    for name in anabranch.__all__:
        value = getattr(anabranch, name)
        if (
            isinstance(value, type)
            and issubclass(value, Exception)
            and not name.endswith("Warning")
        ):
            assert issubclass(value, anabranch.AnabranchError)
    assert BranchFailureStrategy.PROPAGATE.value == "propagate"


def test_branches_that_are_given_twice_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"branches are given twice.*give them once"):
        Step.parallel({"a": echo}, branches={"b": echo})


@each("make", [lambda: Job("k", echo, prio=3), lambda: open_scheduler(3, observr=print)])
def test_an_unknown_keyword_of_the_engine_is_refused(make: Any) -> None:
    with pytest.raises(UnknownOptionError, match=r"did you mean '(priority|observer)'"):
        make()


async def an_async_observer(event: Any) -> None:
    """Stand for one that would never be awaited."""


def test_an_async_observer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"is async.*give a plain function"):
        open_scheduler(1, observer=an_async_observer)
    with pytest.raises(ConfigurationError, match=r"is async.*give a plain function"):
        Pipeline([echo]).run_sync(1, observer=an_async_observer)


def test_the_state_of_a_run_that_was_not_started_is_refused() -> None:
    with pytest.raises(AnabranchError, match="was not started yet"):
        Pipeline([echo]).open(1).snapshot()


@pytest.mark.real_clock
async def test_a_job_from_another_thread_is_refused() -> None:
    async with open_scheduler(1) as scheduler:
        with pytest.raises(HostLoopError, match=r"from_thread\.run_sync"):
            await anyio.to_thread.run_sync(scheduler.submit, Job("k", echo))


@each(
    "make",
    [
        lambda: Step("a", echo, timeout=10**400),
        lambda: Step.parallel(BRANCHES, timeout=10**400),
        lambda: Step.parallel(BRANCHES, cancel_grace=10**400),
        lambda: Job("a", echo, queue_timeout=10**400),
        lambda: Retry(budget=10**400),
    ],
)
def test_a_number_that_no_clock_can_count_is_refused_in_words(make: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"more seconds than a clock|more retries"):
        make()
