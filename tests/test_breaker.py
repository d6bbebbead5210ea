"""A circuit breaker: what it lets through, what it refuses, and what moves it."""

import contextvars
import pickle
import threading
from concurrent.futures import CancelledError

import anyio
import anyio.from_thread
import pytest

from anabranch import (
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Pipeline,
    Retry,
    Step,
)
from tests.branches import Watch


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def fails(error=None):
    raise error or ConnectionError("no route")


async def works(value=1):
    await anyio.sleep(0)
    return value


async def opened(clock, **options):
    breaker = CircuitBreaker(2, 60, clock=clock, **options)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await breaker.call(fails)
    return breaker


# The three hardest ---------------------------------------------------------------------------


@pytest.mark.parametrize("probes", [1, 3])
async def test_of_fifty_who_come_while_it_is_half_open_exactly_the_probes_pass(clock, probes):
    breaker = await opened(clock, probes=probes)
    clock.now = 60
    watch, refused, gate = Watch(), [], anyio.Event()

    async def probe():
        watch.begin()
        await gate.wait()
        watch.end()

    async def come():
        try:
            await breaker.call(probe)
        except CircuitOpenError as error:
            refused.append(error.retry_after)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(come)
        await anyio.wait_all_tasks_blocked()
        assert (len(watch.started), len(refused)) == (probes, 50 - probes)
        gate.set()
    assert breaker.state == "closed"
    assert set(refused) == {60}


@pytest.mark.parametrize("probes", [1, 3])
def test_of_fifty_threads_exactly_the_probes_pass(clock, probes):
    breaker = CircuitBreaker(1, 60, probes=probes, clock=clock)
    with pytest.raises(ValueError):
        breaker.guard(int, "x")
    clock.now = 61
    watch, refused, start, end = Watch(), [], threading.Barrier(50), threading.Event()

    @breaker
    def probe():
        watch.begin()
        end.wait(10)

    def come():
        start.wait(10)
        try:
            probe()
        except CircuitOpenError:
            refused.append(1)
            if len(refused) == 50 - probes:
                end.set()

    threads = [threading.Thread(target=come) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(watch.started), len(refused)) == (probes, 50 - probes)
    assert breaker.state == "closed"


async def test_a_cancelled_probe_is_no_failure_and_its_place_is_free_again(clock):
    breaker = await opened(clock)
    clock.now = 60
    with anyio.move_on_after(1) as scope:
        await breaker.call(anyio.sleep, 100)
    assert scope.cancelled_caught
    assert breaker.state == "half_open"
    assert await breaker.call(works) == 1
    assert breaker.state == "closed"


# The rest ------------------------------------------------------------------------------------


async def test_it_opens_after_so_many_failures_in_a_row(clock):
    breaker = CircuitBreaker(2, 60, clock=clock, name="db")
    for fn in (fails, works, fails):
        try:
            await breaker.call(fn)
        except ConnectionError:
            pass
    assert breaker.state == "closed"
    with pytest.raises(ConnectionError):
        await breaker.call(fails)
    clock.now = 12
    with pytest.raises(CircuitOpenError, match=r"db opened after .*try again in 48 s") as caught:
        await breaker.call(works)
    assert caught.value.retry_after == 48
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.retry_after, str(copy)) == (48, str(caught.value))


async def test_a_probe_that_fails_opens_it_again_for_the_whole_time(clock):
    breaker = await opened(clock)
    clock.now = 60
    with pytest.raises(ConnectionError):
        await breaker.call(fails)
    clock.now = 119
    with pytest.raises(CircuitOpenError) as caught:
        await breaker.call(works)
    assert caught.value.retry_after == 1


async def test_it_closes_when_all_probes_have_succeeded(clock):
    breaker = await opened(clock, probes=2)
    clock.now = 60
    await breaker.call(works)
    assert breaker.state == "half_open"
    await breaker.call(works)
    assert breaker.state == "closed"


async def test_probes_that_never_end_make_way_for_others(clock):
    breaker = await opened(clock)
    clock.now = 60
    async with anyio.create_task_group() as group:
        group.start_soon(breaker.call, anyio.sleep, 1000)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(CircuitOpenError):
            await breaker.call(works)
        clock.now = 120
        assert await breaker.call(works) == 1
        assert breaker.state == "closed"
        group.cancel_scope.cancel()
    assert breaker.state == "closed"


async def test_cancellations_never_open_it(clock):
    breaker = CircuitBreaker(1, 60, clock=clock)
    for _ in range(5):
        with anyio.move_on_after(0.1):
            await breaker.call(anyio.sleep, 100)
    assert breaker.state == "closed"


async def test_a_future_that_was_cancelled_is_no_failure_and_its_place_is_free_again(clock):
    breaker = await opened(clock)
    clock.now += 60
    for _ in range(3):
        with pytest.raises(CancelledError):
            await breaker.call(fails, CancelledError())
    assert await breaker.call(works) == 1


async def test_a_call_of_an_earlier_circuit_changes_nothing(clock):
    breaker = CircuitBreaker(1, 60, clock=clock)
    gate = anyio.Event()

    async def late():
        await gate.wait()
        raise ConnectionError

    async def expect():
        with pytest.raises(ConnectionError):
            await breaker.call(late)

    async with anyio.create_task_group() as group:
        group.start_soon(expect)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ConnectionError):
            await breaker.call(fails)
        clock.now = 60
        await breaker.call(works)
        gate.set()
    assert breaker.state == "closed"


@pytest.mark.real_clock
async def test_a_plain_function_runs_in_a_thread_with_its_keywords():
    breaker = CircuitBreaker()
    here = threading.get_ident()

    def where(one, *, two):
        return threading.get_ident(), one + two

    ident, value = await breaker.call(where, 1, two=2)
    assert (ident != here, value) == (True, 3)
    assert await breaker.call(lambda: works(7)) == 7


VARIABLE = contextvars.ContextVar("variable")


@pytest.mark.real_clock
async def test_a_plain_function_sees_the_context_and_may_call_back_into_the_loop():
    VARIABLE.set("set")

    def call():
        return VARIABLE.get(), anyio.from_thread.run(works, 3)

    assert await CircuitBreaker().call(call) == ("set", 3)


async def test_a_decorated_function_is_of_its_kind(clock):
    breaker = CircuitBreaker(1, 60, clock=clock)

    @breaker
    async def decorated():
        """Say so."""
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await decorated()
    assert (decorated.__name__, decorated.__doc__) == ("decorated", "Say so.")
    with pytest.raises(CircuitOpenError):
        await decorated()


async def test_only_errors_that_are_named_are_failures(clock):
    breaker = CircuitBreaker(1, 60, clock=clock, on=(ConnectionError,))
    with pytest.raises(KeyError):
        await breaker.call(fails, KeyError("k"))
    assert breaker.state == "closed"
    breaker = CircuitBreaker(1, 60, clock=clock, on=lambda error: "k" in str(error))
    for error in (ValueError("v"), KeyError("k")):
        assert breaker.state == "closed"
        with pytest.raises(type(error)):
            await breaker.call(fails, error)
    assert breaker.state == "open"


async def test_listeners_hear_of_each_change_and_cost_no_call(clock, caplog):
    heard = []

    def bad(_):
        raise RuntimeError("bad listener")

    breaker = await opened(clock, listeners=[bad, heard.append])
    clock.now = 60
    await breaker.call(works)
    assert [(each.old, each.new, each.at) for each in heard] == [
        ("closed", "open", 0),
        ("open", "half_open", 60),
        ("half_open", "closed", 60),
    ]
    assert heard[0].reason == "2 failures in a row, at last ConnectionError"
    assert "a listener of circuit raised" in caplog.text


async def test_a_question_that_raises_is_answered_by_a_failure(clock, caplog):
    breaker = CircuitBreaker(1, 60, clock=clock, on=lambda error: error.missing)
    with pytest.raises(ConnectionError):
        await breaker.call(fails)
    assert breaker.state == "open"


async def test_it_may_be_reset(clock):
    breaker = await opened(clock)
    breaker.reset()
    assert await breaker.call(works) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"failure_threshold": 0},
        {"failure_threshold": True},
        {"failure_threshold": 2.5},
        {"recovery_timeout": 0},
        {"recovery_timeout": None},
        {"recovery_timeout": float("nan")},
        {"probes": 0},
        {"on": ()},
        {"on": KeyboardInterrupt},
        {"on": 3},
        pytest.param({"on": works}, id="on a function"),
        {"listeners": [3]},
        {"listeners": 3},
        {"clock": 3},
        {"name": 3},
        {"threshold": 3},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(options):
    with pytest.raises(ConfigurationError, match="CircuitBreaker"):
        CircuitBreaker(**options)


# In a step -----------------------------------------------------------------------------------


async def test_the_calls_of_a_step_go_through_its_breaker(clock):
    breaker = CircuitBreaker(3, 60, clock=clock)
    calls = []

    async def work(n):
        calls.append(n)
        raise ConnectionError

    step = Step.map_over("s", Step("w", work, breaker=breaker), max_concurrency=1)
    result = (await Pipeline([step]).run(range(10))).step_history[0]
    assert calls == [0, 1, 2]
    kinds = [type(branch.error).__name__ for branch in result.branches.values()]
    assert kinds == 3 * ["ConnectionError"] + 7 * ["CircuitOpenError"]


async def test_half_open_with_fifty_branches_lets_the_probes_through(clock):
    breaker = await opened(clock, probes=2)
    clock.now = 60
    watch = Watch()
    step = Step("w", lambda data: watch.sleeps(data, 1), breaker=breaker, lane="inline")
    result = await Pipeline([Step.parallel("s", dict.fromkeys(map(str, range(50)), step))]).run(1)
    assert len(watch.started) == 2
    succeeded = [branch for branch in result.step_history[0].branches.values() if branch.success]
    assert len(succeeded) == 2
    assert breaker.state == "closed"


@pytest.mark.real_clock
@pytest.mark.parametrize("lane", ["auto", "inline"])
async def test_plain_functions_of_a_step_go_through_it_too(clock, lane):
    breaker = CircuitBreaker(1, 60, clock=clock)
    step = Step("w", int, breaker=breaker, lane=lane)
    for kind in (ValueError, CircuitOpenError):
        result = await Pipeline([step]).run("x")
        assert isinstance(result.step_history[0].error, kind)


@pytest.mark.real_clock
@pytest.mark.slow
async def test_processes_of_a_step_go_through_it_too(clock):
    breaker = CircuitBreaker(1, 60, clock=clock)
    step = Step("w", int, breaker=breaker, lane="cpu")
    for kind in (ValueError, CircuitOpenError):
        result = await Pipeline([step]).run("x")
        assert isinstance(result.step_history[0].error, kind)


async def test_each_attempt_asks_and_an_open_circuit_falls_back(clock):
    breaker = CircuitBreaker(2, 60, clock=clock)
    calls = []

    async def work(n):
        calls.append(n)
        raise ConnectionError

    retry = Retry(attempts=4, wait=0, jitter=0)
    step = Step("w", work, breaker=breaker, retry=retry, fallback=lambda _, error: repr(error))
    result = await Pipeline([step]).run(1)
    assert len(calls) == 2
    assert "CircuitOpenError" in result.output


def test_a_step_refuses_what_is_no_breaker():
    with pytest.raises(ConfigurationError, match="is no CircuitBreaker"):
        Step("a", works, breaker=object())
