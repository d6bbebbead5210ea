"""Faults 31 and 32: retries of what must not be tried again, breakers that let all through."""

import anyio
import pytest

from anabranch import (
    CircuitBreaker,
    CircuitOpenError,
    Halt,
    Job,
    Pipeline,
    Retry,
    Status,
    Step,
    open_scheduler,
)
from tests.branches import read

AT_ONCE = Retry(5, wait=0, jitter=0, budget=None)


class Count:
    """Count calls, and see how many run at once."""

    def __init__(self, seconds=0.0, error=None, *, at_cancel=None):
        self.calls = 0
        self.cancelled = 0
        self._seconds = seconds
        self._error = error
        self._at_cancel = at_cancel

    async def __call__(self, *_):
        self.calls += 1
        try:
            await anyio.sleep(self._seconds)
        except BaseException:
            self.cancelled += 1
            if self._at_cancel is not None:
                raise self._at_cancel from None
            raise
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("how", ["scheduler", "halt", "outside"])
@pytest.mark.parametrize("at_cancel", [None, ConnectionError("cut off")])
async def test_fault_31_a_cancellation_is_never_tried_again_whatever_it_turns_into(how, at_cancel):
    call = Count(seconds=100, at_cancel=at_cancel)
    if how == "scheduler":
        async with open_scheduler(1) as scheduler:
            scheduler.submit(Job("a", call, retry=AT_ONCE))
            await anyio.sleep(1)
            scheduler.cancel("a")
            assert (await read(scheduler))["a"].status is Status.CANCELLED
    elif how == "halt":
        branches = {"a": Step("a", call, retry=AT_ONCE), "b": Count()}
        await Pipeline([Step.parallel(branches, halt=Halt(on="success"))]).run(1)
    else:
        with anyio.move_on_after(1):
            await Pipeline([Step.parallel({"a": Step("a", call, retry=AT_ONCE)})]).run(1)
    assert (call.calls, call.cancelled) == (1, 1)


async def test_fault_31_nothing_is_tried_again_unless_that_was_asked_for():
    call = Count(error=ConnectionError())
    async with open_scheduler(1) as scheduler:
        scheduler.submit(Job("a", call))
    await Pipeline([Step.parallel({"a": call})]).run(1)
    assert call.calls == 2


async def test_fault_31_a_branch_that_waits_for_its_next_attempt_holds_no_token():
    limiter, call = anyio.CapacityLimiter(1), Count(error=ConnectionError())
    async with open_scheduler(limiter) as scheduler:
        scheduler.submit(Job("a", call, retry=Retry(2, wait=10, wait_max=10, jitter=0)))
        await anyio.sleep(5)
        assert (call.calls, limiter.borrowed_tokens) == (1, 0)
        began = anyio.current_time()
        scheduler.submit(Job("b", Count(seconds=1)))
        async for outcome in scheduler.outcomes:
            assert outcome.key == "b"
            break
        assert anyio.current_time() - began == pytest.approx(1)


async def test_fault_31_retries_stop_at_the_deadline():
    call = Count(error=ConnectionError())
    retry = Retry(1000, wait=1, wait_max=1, jitter=0, budget=None)
    step = Step.parallel({"a": Step("a", call, retry=retry, timeout=4.5)}, timeout=60)
    began = anyio.current_time()
    result = await Pipeline([step]).run(1)
    assert anyio.current_time() - began <= 4.5
    assert call.calls == 5
    assert isinstance(result.step_history[0].branches["a"].error, ConnectionError)


@pytest.mark.slow
async def test_fault_31_a_storm_of_failures_makes_no_storm_of_retries():
    call = Count(error=ConnectionError())
    retry = Retry(10, wait=0, jitter=0, budget=0.1)
    async with open_scheduler(50) as scheduler:
        for i in range(2000):
            scheduler.submit(Job(str(i), call, retry=retry))
    assert 2000 < call.calls <= 2200


@pytest.mark.parametrize("probes", [1, 3])
async def test_fault_32_of_fifty_who_wait_for_a_half_open_circuit_the_probes_pass(probes):
    down, up = Count(error=ConnectionError()), Count(seconds=1)
    breaker = CircuitBreaker(2, 10, probes=probes, clock=anyio.current_time)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await breaker.call(down)
    refused = []

    async def comes():
        try:
            await breaker.call(up)
        except CircuitOpenError as error:
            refused.append(error)

    await comes()
    assert (up.calls, len(refused)) == (0, 1)
    await anyio.sleep(10)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(comes)
    assert (up.calls, len(refused)) == (probes, 51 - probes)
    await breaker.call(up)
    assert breaker.state == "closed"


async def test_fault_32_cancellations_open_no_circuit():
    breaker = CircuitBreaker(1, 10, clock=anyio.current_time)
    for _ in range(5):
        with anyio.move_on_after(1):
            await breaker.call(Count(seconds=100))
    assert breaker.state == "closed"
