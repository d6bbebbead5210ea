"""ResourceManager: what it says of a machine, and that no herd passes it."""

import threading
import time

import anyio
import pytest

from anabranch import ConcurrentExecutor, ConfigurationError, ResourceManager
from anabranch.executor import _following, _resources
from anabranch.executor._reserve import Reserve
from tests.executor.machine import GB, Machine, scripts

slow = [pytest.mark.real_clock, pytest.mark.slow]


@pytest.fixture(autouse=True)
def at_once(monkeypatch, request):
    """Take no time for the two first readings, but in the test that measures it."""
    if "real" not in request.node.name:
        monkeypatch.setattr(_resources, "FIRST_S", 0.0)
        monkeypatch.setattr(_resources, "SHARED_S", -1.0)


class Shows:
    """Show what it is told to."""

    def __init__(self, **signals):
        self.signals = {"cpu": 0.1, "cores": 4, "memory_total": 32 * GB, "memory_used": GB}
        self.signals |= signals

    def sample(self):
        return self.signals


@pytest.mark.parametrize(
    ("signals", "says"),
    [
        ({}, None),
        ({"cpu": 0.8}, None),
        ({"cpu": 0.95}, "CPU usage too high: 95.0% (threshold: 80.0%)"),
        ({"memory_used": 28 * GB}, None),
        ({"memory_used": 30 * GB}, "Not enough memory: 2.0 GB available (required: 4.0 GB)"),
        ({"memory_total": 2 * GB}, "Not enough memory: 2.0 GB in all (required: 4.0 GB)"),
        ({"cpu": None}, None),
        ({"memory_total": None}, None),
        ({"memory_used": None, "cpu": 0.9}, "CPU usage too high: 90.0% (threshold: 80.0%)"),
    ],
)
async def test_room_is_told_with_the_figure_that_speaks_against_it(signals, says):
    manager = ResourceManager(sampler=Shows(**signals))
    assert manager.check_resources_available() == (says is None, says)
    assert await manager.check_resources() is (says is None)


def test_gpu_memory_is_asked_for_only_where_it_is_required():
    gpu = {"gpu_memory_total": 24 * GB, "gpu_memory_used": 20 * GB}
    assert ResourceManager(sampler=Shows(**gpu)).check_resources_available()[0]
    manager = ResourceManager(gpu_memory_required_gb=6, sampler=Shows(**gpu))
    says = "Not enough GPU memory: 4.0 GB available (required: 6.0 GB)"
    assert manager.check_resources_available() == (False, says)
    assert manager.get_system_stats()["gpu_memory_available_gb"] == 4
    unknown = ResourceManager(gpu_memory_required_gb=6, sampler=Shows())
    assert unknown.check_resources_available() == (True, None)


def test_the_stats_have_the_keys_of_the_seed():
    stats = ResourceManager(sampler=Shows(cpu=0.25)).get_system_stats()
    assert stats["cpu_percent"] == 25
    assert stats["memory_available_gb"] == 31
    assert stats["memory_total_gb"] == 32
    assert stats["cpu_count"] == 4


@pytest.mark.slow
def test_the_real_first_call_takes_two_readings_and_knows_the_cpu():
    manager = ResourceManager()
    before = time.monotonic()
    stats = manager.get_system_stats()
    assert 0.1 <= time.monotonic() - before < 1
    assert 0 <= stats["cpu_percent"] <= 100
    assert stats["memory_available_gb"] > 0


@pytest.mark.real_clock
async def test_an_async_caller_is_not_held_while_a_sampler_reads():
    class Slow(Shows):
        def sample(self):
            threads.add(threading.current_thread())
            time.sleep(0.05)
            return super().sample()

    threads = set()
    assert await ResourceManager(sampler=Slow()).check_resources()
    assert threading.current_thread() not in threads


@pytest.mark.parametrize(
    ("args", "options", "says"),
    [
        ((0.8,), {}, "give 80"),
        ((0,), {}, "threshold"),
        ((101,), {}, "threshold"),
        (("80",), {}, "threshold"),
        ((80, -1), {}, "memory_required_gb"),
        ((80, 4_000_000_000), {}, "2\\^30"),
        ((80, 4), {"gpu_memory_required_gb": float("nan")}, "gpu_memory"),
        ((80, 4), {"sampler": 3}, "no sampler"),
        ((), {"cpu_treshold_percent": 80}, "cpu_threshold_percent"),
    ],
)
def test_what_cannot_be_meant_is_refused(args, options, says):
    with pytest.raises(ConfigurationError, match=says):
        ResourceManager(*args, **options)


def stats(cpu, left=20.0):
    return {"cpu_percent": cpu, "memory_available_gb": left, "cpu_count": 4}


def test_what_has_just_started_counts_as_a_core_until_it_was_seen():
    reserve = Reserve()
    reserve.seen(0.0, stats(50))
    reserve.start(1.0)
    assert reserve.held(1.0) == (25, 0)
    reserve.seen(1.2, stats(50))
    assert reserve.held(1.2) == (25, 0)
    reserve.seen(1.6, stats(53))
    assert reserve.held(1.6) == (0, 0)
    assert reserve.held(1.2) == (3, 0)  # whoever judges by an older sample


def test_what_was_seen_of_some_is_expected_of_others():
    reserve = Reserve()
    reserve.seen(0.0, stats(50, left=20))
    tokens = [reserve.start(1.0) for _ in range(2)]
    reserve.seen(2.0, stats(60, left=18))
    reserve.start(2.1)
    assert reserve.held(2.1) == (5, 1.0)
    for token in tokens:
        reserve.end(token, 2.2)
    reserve.seen(2.2, stats(50, left=20))
    assert reserve.held(2.2) == (5, 1.0)


class TestHerds:
    """Twenty scripts that are there at once, and a machine that shows them late."""

    pytestmark = slow

    @pytest.mark.parametrize("on_pressure", ["reject", "wait"])
    async def test_a_herd_on_a_machine_at_79_percent_does_not_pass_80_together(
        self, tmp_path, on_pressure
    ):
        script = scripts(tmp_path)
        machine = Machine(tmp_path, cpu=0.79, each=0.05)
        manager = ResourceManager(sampler=machine)
        executor = ConcurrentExecutor(20, manager, on_pressure=on_pressure)
        module = ("m", script("runs.py"), [str(tmp_path), "0.8"])
        peak, over = 0, anyio.Event()

        async def watch():
            nonlocal peak
            while not over.is_set():
                peak = max(peak, machine.running())
                await anyio.sleep(0.005)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            with anyio.move_on_after(4):
                results = await executor.execute_batch([module] * 20)
                kinds = {each["kind"] for each in results}
                assert kinds <= {"exit", "resources"}
                refused = [each for each in results if each["kind"] == "resources"]
                words = "Insufficient system resources: CPU usage too high: 84.0%"
                assert all(each["error"].startswith(words) for each in refused)
            over.set()
        assert peak == 1
        assert on_pressure == "wait" or refused

    async def test_light_scripts_pass_as_soon_as_it_is_seen_that_they_are(self, tmp_path):
        script = scripts(tmp_path)
        machine = Machine(tmp_path, cpu=0.1, each=0.01)
        executor = ConcurrentExecutor(20, ResourceManager(sampler=machine))
        module = ("m", script("runs.py"), [str(tmp_path), "2"])
        results = []

        async def runs():
            results.extend(await executor.execute_batch([module] * 12))

        async with anyio.create_task_group() as group:
            group.start_soon(runs)
            with anyio.fail_after(5):
                while machine.running() < 12:
                    await anyio.sleep(0.01)
        assert all(each["success"] for each in results)

    async def test_what_can_never_be_met_is_not_waited_for(self, tmp_path):
        script = scripts(tmp_path)
        manager = ResourceManager(memory_required_gb=64, sampler=Machine(tmp_path))
        executor = ConcurrentExecutor(2, manager, on_pressure="wait")
        with anyio.fail_after(2):
            result = await executor.execute_module("m", script("ok.py"))
        assert result["kind"] == "resources"
        assert result["error"].endswith("32.0 GB in all (required: 64.0 GB)")

    async def test_who_waits_starts_when_there_is_room_again(self, tmp_path):
        script = scripts(tmp_path)
        machine = Machine(tmp_path, cpu=0.9)
        executor = ConcurrentExecutor(2, ResourceManager(sampler=machine), on_pressure="wait")
        results = []

        async def runs():
            results.append(await executor.execute_module("m", script("ok.py")))

        async with anyio.create_task_group() as group:
            group.start_soon(runs)
            await anyio.sleep(0.5)
            assert not results
            machine.cpu = 0.2
        assert results[0]["success"]

    async def test_those_who_may_wait_begin_as_many_as_cores_bear_and_follow_the_load(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(_following, "cores", lambda: 1.5)
        script = scripts(tmp_path)
        machine = Machine(tmp_path, cpu=0.05, each=0, cores=64)
        executor = ConcurrentExecutor(20, ResourceManager(sampler=machine), on_pressure="wait")
        module = ("m", script("runs.py"), [str(tmp_path), "0.3"])
        peaks, results = [0, 0], []

        async def runs():
            results.extend(await executor.execute_batch([module] * 60))

        async with anyio.create_task_group() as group:
            group.start_soon(runs)
            began = time.monotonic()
            while len(results) < 60:
                late = time.monotonic() > began + 0.5
                peaks[late] = max(peaks[late], machine.running())
                await anyio.sleep(0.01)
        assert 1 <= peaks[0] <= 3
        assert 3 < peaks[1] <= 20
        assert all(each["success"] for each in results)

    async def test_a_machine_that_others_fill_is_waited_for_no_longer_than_the_timeout(
        self, tmp_path
    ):
        script = scripts(tmp_path)
        manager = ResourceManager(sampler=Machine(tmp_path, cpu=0.9))
        executor = ConcurrentExecutor(2, manager, on_pressure="wait", timeout=0.4)
        with anyio.fail_after(5):
            results = await executor.execute_batch([("m", script("ok.py"))] * 3)
        assert {each["kind"] for each in results} == {"resources"}
        words = "CPU usage too high: 90.0% (threshold: 80.0%), for 0.4 s (timeout=)"
        assert results[0]["error"] == f"Insufficient system resources: {words}"

    async def test_a_machine_that_is_full_of_our_own_scripts_is_waited_for(self, tmp_path):
        script = scripts(tmp_path)
        machine = Machine(tmp_path, cpu=0.1, each=0.75, cores=1)
        executor = ConcurrentExecutor(
            4, ResourceManager(sampler=machine), on_pressure="wait", timeout=2.5
        )
        module = ("m", script("runs.py"), [str(tmp_path), "1"])
        began = time.monotonic()
        results = await executor.execute_batch([module] * 4)
        assert [each["error"] for each in results] == [None] * 4
        assert time.monotonic() - began > 3.5, "one after the other, the last waited for too long"
