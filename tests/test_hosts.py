"""See that one pipeline gives the same on every host, and keeps the host's rules."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import fastapi
import httpx
import pytest
import trio
import uvloop

from anabranch import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ExecutionConfig,
    Pipeline,
    Step,
)


async def double(data: int) -> int:
    await anyio.sleep(0.001 * (5 - data % 5))
    return data * 2


async def odd_fails(data: int) -> int:
    if data % 2:
        raise ValueError(f"{data} is odd")
    return data


def plain(data: int) -> int:
    return data + 1


INNER = Step.parallel("inner", {"d": double, "p": plain}, max_concurrency=1)
PIPELINE = Pipeline(
    [
        Step("first", double),
        Step.parallel(
            "wide",
            {"a": double, "bad": odd_fails, "inner": INNER, "thread": plain},
            concurrency=ConcurrencyConfig(max_concurrent_branches=2),
            on_branch_failure=BranchFailureStrategy.IGNORE,
        ),
        Step("keys", lambda data: [data["a"], data["inner"]["p"], data["thread"]]),
        Step.map_over("map", odd_fails, on_branch_failure=BranchFailureStrategy.IGNORE),
    ],
    name="everywhere",
    execution_config=ExecutionConfig(max_parallel_steps=2),
)


def told(result: Any) -> Any:
    """Return what is to be the same everywhere: all but the times."""

    def without_times(value: Any) -> Any:
        if isinstance(value, dict):
            hidden = ("latency_s", "queued_s", "duration", "completion_order")
            return {key: without_times(each) for key, each in value.items() if key not in hidden}
        return [without_times(each) for each in value] if isinstance(value, list) else value

    return without_times(result.to_dict())


def uvloop_run(main: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main(*args))


HOSTS = {
    "trio.run": trio.run,
    "asyncio.run": lambda main, *args: asyncio.run(main(*args)),
    "anyio.run on trio": lambda main, *args: anyio.run(main, *args, backend="trio"),
    "anyio.run on asyncio": lambda main, *args: anyio.run(main, *args, backend="asyncio"),
    "uvloop": uvloop_run,
    "run_sync": lambda main, *args: main.__self__.run_sync(*args),
    "run_sync on asyncio": lambda main, *args: main.__self__.run_sync(*args, loop="asyncio"),
}
ON_ASYNCIO = ("asyncio.run", "anyio.run on asyncio", "uvloop")


@pytest.mark.leaves("descriptor", reason="libuv keeps a pipe for signals, once for the process")
def test_the_same_pipeline_gives_the_same_on_every_host() -> None:
    results = {name: told(run(PIPELINE.run, 3)) for name, run in HOSTS.items()}
    first = results.pop("trio.run")
    assert first["output"][0] == 12
    assert first["step_history"][1]["branches"]["bad"]["success"]
    for name, result in results.items():
        assert result == first, name


@pytest.mark.leaves("descriptor", reason="libuv keeps a pipe for signals, once for the process")
def test_it_runs_in_threads_side_by_side_on_different_loops() -> None:
    results: list[Any] = []

    def call(name: str) -> None:
        results.append(told(HOSTS[name](PIPELINE.run, 3)))

    threads = [threading.Thread(target=call, args=(name,)) for name in HOSTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(HOSTS)
    assert all(result == results[0] for result in results)


# In an application ---------------------------------------------------------------------------


async def with_asyncios_own(data: int) -> int:
    queue: asyncio.Queue[int] = asyncio.Queue()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(queue.put(data))
        found = group.create_task(asyncio.wait_for(queue.get(), 5))
    await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(plain, data))
    return found.result()


@pytest.mark.parametrize("name", ON_ASYNCIO)
@pytest.mark.leaves("descriptor", reason="libuv keeps a pipe for signals, once for the process")
def test_inside_a_fastapi_endpoint_a_branch_uses_asyncios_own(name: str) -> None:
    app = fastapi.FastAPI()
    step = Step.parallel({f"b{i}": with_asyncios_own for i in range(5)}, max_concurrency=2)
    pipeline = Pipeline([step])

    @app.get("/{number}")
    async def endpoint(number: int) -> Any:
        result = await pipeline.run(number)
        return {"success": result.success, "output": result.unwrap()}

    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.gather(*[client.get(f"/{number}") for number in range(5)])

    for number, response in enumerate(HOSTS[name](main)):
        assert response.status_code == 200
        wanted = {f"b{i}": number for i in range(5)}
        assert response.json() == {"success": True, "output": wanted}


# The hosts' ways to end something ------------------------------------------------------------


class Watched:
    """Count branches that start, and see that none runs on."""

    def __init__(self) -> None:
        self.started = self.running = 0

    async def __call__(self, _: Any) -> None:
        self.started += 1
        self.running += 1
        try:
            await anyio.sleep(30)
        finally:
            self.running -= 1

    def pipeline(self) -> Pipeline[Any, Any]:
        inner = Step.parallel("inner", {"x": self, "y": self}, max_concurrency=1)
        branches = {**{f"b{i}": self for i in range(9)}, "n": inner}
        step = Step.parallel("p", {"n": inner, **branches}, max_concurrency=3, timeout=None)
        return Pipeline([step, self])


async def by_wait_for(run: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run(), 2)


async def by_timeout(run: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await run()


async def by_cancel(run: Callable[[], Awaitable[Any]]) -> None:
    running = asyncio.ensure_future(run())
    await asyncio.sleep(2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()


async def by_task_group(run: Callable[[], Awaitable[Any]]) -> None:
    async def breaks() -> None:
        await asyncio.sleep(2)
        raise KeyError("a sibling's")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            group.create_task(breaks())
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def by_trio_move_on(run: Callable[[], Awaitable[Any]]) -> None:
    with trio.move_on_after(2) as scope:
        await run()
        raise AssertionError("swallowed")
    assert scope.cancelled_caught


async def by_trio_fail(run: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(trio.TooSlowError), trio.fail_after(2):
        await run()


async def by_nursery(run: Callable[[], Awaitable[Any]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()


async def by_anyio_move_on(run: Callable[[], Awaitable[Any]]) -> None:
    with anyio.move_on_after(2) as scope:
        await run()
        raise AssertionError("swallowed")
    assert scope.cancelled_caught


async def by_anyio_fail(run: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(2):
            await run()


async def by_anyio_scope(run: Callable[[], Awaitable[Any]]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(2)
        group.cancel_scope.cancel()


async def ends_at_once(end: Callable[..., Awaitable[None]]) -> None:
    for opened in (False, True):
        watched = Watched()
        pipeline = watched.pipeline()

        async def run(pipeline: Any = pipeline, opened: bool = opened) -> Any:
            if not opened:
                return await pipeline.run()
            async with pipeline.open() as live:
                return [outcome async for outcome in live.outcomes]

        start = anyio.current_time()
        await end(run)
        assert anyio.current_time() - start == pytest.approx(2, abs=0.1)
        assert watched.running == 0
        started = watched.started
        assert 0 < started < 6
        await anyio.sleep(60)
        assert (watched.running, watched.started) == (0, started)


ENDS = (by_anyio_move_on, by_anyio_fail, by_anyio_scope)
ASYNCIO_ENDS = (by_wait_for, by_timeout, by_cancel, by_task_group)
TRIO_ENDS = (by_trio_move_on, by_trio_fail, by_nursery)


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_from_outside_is_at_once_and_not_swallowed(end: Any) -> None:
    await ends_at_once(end)


@pytest.mark.asyncio_only
@pytest.mark.parametrize("end", ASYNCIO_ENDS)
async def test_asyncios_ends_are_at_once_and_not_swallowed(end: Any) -> None:
    await ends_at_once(end)


@pytest.mark.trio_only
@pytest.mark.parametrize("end", TRIO_ENDS)
async def test_trios_ends_are_at_once_and_not_swallowed(end: Any) -> None:
    await ends_at_once(end)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.leaves("descriptor", reason="libuv keeps a pipe for signals, once for the process")
def test_ctrl_c_in_a_branch_ends_the_run(name: str) -> None:
    watched = Watched()

    async def interrupts(_: Any) -> None:
        await anyio.sleep(0.01)
        raise KeyboardInterrupt

    step = Step.parallel({"a": watched, "b": interrupts, "c": watched}, max_concurrency=2)
    with pytest.raises(KeyboardInterrupt):
        HOSTS[name](Pipeline([step]).run, 1)
    assert (watched.running, watched.started) == (0, 1)
