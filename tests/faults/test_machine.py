"""Faults 28, 29, 30 and 33: a machine that is misread, and limits that follow it badly."""

import threading
import time
from types import SimpleNamespace

import anyio
import anyio.to_thread
import psutil
import pytest

from anabranch.controllers import Fixed, Weir
from anabranch.samplers import Cpu, Groups, Memory, Nvml, _cores, _host
from anabranch.samplers._cores import cores
from anabranch.samplers._cpu import CpuPercent
from anabranch.testing import simulate
from tests.samplers import nvml as fake
from tests.samplers.trees import LOTS, Clock, mount_v1, plant

GIB = 2**30


class Process:
    """A process whose CPU seconds are set."""

    def __init__(self):
        self.seconds = 50.0

    def cpu_times(self):
        return SimpleNamespace(
            user=self.seconds, system=0.0, children_user=0.0, children_system=0.0
        )


def test_fault_28_the_first_cpu_is_unknown_and_no_thread_sees_a_0():
    clock, process, seen = Clock(), Process(), []
    reader = CpuPercent(clock, lambda: 1.0)
    assert reader.percent([process]) is None, "a difference needs two readings"
    for _ in range(10):
        clock.now += 0.1
        process.seconds += 0.05
        threads = [
            threading.Thread(target=lambda: seen.append(reader.percent([process])))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [pytest.approx(50.0)] * 50


def test_fault_28_the_machines_cpu_is_unknown_first_and_never_asked_of_cpu_percent(monkeypatch):
    def lies(*_, **__):
        raise AssertionError("cpu_percent() keeps its state per thread")

    monkeypatch.setattr(psutil, "cpu_percent", lies)
    monkeypatch.setattr(psutil.Process, "cpu_percent", lies)
    sampler = Cpu()
    assert sampler.sample()["cpu"] is None
    figures = []
    thread = threading.Thread(target=lambda: figures.append(sampler.sample()["cpu"]))
    thread.start()
    thread.join()
    assert figures != [0.0]


QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"
V1 = "5:memory:/x\n3:cpu,cpuacct:/a\n"
CORES = {
    "missing": ({}, None, LOTS),
    "empty": ({"a/cpu.max": ""}, "0::/a\n", LOTS),
    "v2, max": ({"a/cpu.max": "max 100000\n"}, "0::/a\n", LOTS),
    "v2, half a core": ({"a/cpu.max": "50000 100000\n"}, "0::/a\n", 0.5),
    "v2, nested: the parent's": (
        {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000"},
        "0::/a/b\n",
        3,
    ),
    "v2, cpuset": ({"a/cpuset.cpus.effective": "0-2,8\n"}, "0::/a\n", 4),
    "v1": ({f"cpu,cpuacct/a/{QUOTA}": "250000", f"cpu,cpuacct/a/{PERIOD}": "100000"}, V1, 2.5),
    "v1, no limit": ({f"cpu,cpuacct/a/{QUOTA}": "-1", f"cpu,cpuacct/a/{PERIOD}": "1"}, V1, LOTS),
}


@pytest.mark.parametrize("name", CORES)
def test_fault_29_the_containers_cpus_count_and_not_the_hosts(name, tmp_path, monkeypatch):
    files, own, expected = CORES[name]
    monkeypatch.setattr(_cores, "_affinity", lambda: LOTS)
    assert cores(plant(tmp_path, files, own, None)) == expected


def test_fault_29_affinity_and_quota_hold_together(tmp_path, monkeypatch):
    groups = plant(tmp_path, {"cpu.max": "200000 100000"}, "0::/\n", None)
    for affinity, expected in ((1, 1), (2, 2), (64, 2)):
        monkeypatch.setattr(_cores, "_affinity", lambda affinity=affinity: affinity)
        assert cores(groups) == expected


MEMORY = {
    "missing": ({}, None, None, 16 * GIB),
    "v2": ({"a/memory.max": f"{2 * GIB}", "a/memory.current": "5"}, "0::/a\n", None, 2 * GIB),
    "v2, max": ({"a/memory.max": "max", "a/memory.current": "5"}, "0::/a\n", None, 16 * GIB),
    "v2, nested": (
        {
            "a/b/memory.max": "max",
            "a/b/memory.current": "5",
            "a/memory.max": f"{GIB}",
            "a/memory.current": "7",
        },
        "0::/a/b\n",
        None,
        GIB,
    ),
    "v1": (
        {"memory/x/memory.limit_in_bytes": f"{GIB}", "memory/x/memory.usage_in_bytes": "5"},
        "5:memory:/x\n",
        mount_v1("memory"),
        GIB,
    ),
}


@pytest.mark.parametrize("name", MEMORY)
def test_fault_29_the_containers_memory_counts_and_not_the_hosts(name, tmp_path, monkeypatch):
    files, own, mounts, expected = MEMORY[name]
    host = type("Host", (), {"total": 16 * GIB, "available": 12 * GIB})
    monkeypatch.setattr(_host.psutil, "virtual_memory", lambda: host)
    found = Memory(plant(tmp_path, files, own, mounts)).sample()
    assert found["memory_total"] == expected


def test_fault_29_this_machine_is_read_without_a_tree():
    assert 0 < cores(Groups()) <= (psutil.cpu_count() or 1)


def test_fault_30_whatever_nvml_raises_at_whichever_call_costs_a_signal_at_most():
    for call in fake.CALLS:
        for code in fake.CODES:
            module = fake.Nvml(fake.Card("GPU-a"))
            module.fails[call] = code
            found = Nvml(load=lambda module=module: module, environ={}).sample()
            assert set(found) == {"gpu_memory_used", "gpu_memory_total"}


def test_fault_30_without_a_driver_or_the_module_there_is_no_gpu_and_no_error():
    def missing():
        raise ImportError("no pynvml")

    found = Nvml(load=missing, environ={}).sample()
    assert found == {"gpu_memory_used": None, "gpu_memory_total": None}


@pytest.mark.real_clock
@pytest.mark.slow
async def test_fault_30_a_driver_that_hangs_holds_no_loop():
    module, go_on, lags = fake.Nvml(fake.Card("GPU-a")), threading.Event(), []
    module.before = lambda name: go_on.wait(5) if name == "memory" else None
    sampler = Nvml(load=lambda: module, environ={}, limit=0.1)
    found = []

    async def sample():
        found.append(await anyio.to_thread.run_sync(sampler.sample))

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(sample)
            while not found:
                before = time.monotonic()
                await anyio.sleep(0.002)
                lags.append(time.monotonic() - before - 0.002)
        assert found == [{"gpu_memory_used": None, "gpu_memory_total": None}]
        assert sorted(lags)[len(lags) // 2] < 0.05
    finally:
        go_on.set()


@pytest.mark.slow
def test_fault_33_the_limit_does_not_oscillate():
    scenarios = ["mixed", "knee", "heavy-tail", "flapping", "neighbour-cpu"]
    plays = [simulate(each, Weir(), seed, oracle=False) for each in scenarios for seed in range(2)]
    reversals = sorted(play.reversals for play in plays)  # of direction a minute, in steady state
    assert reversals[len(reversals) // 2] <= 4
    assert reversals[-2] <= 6


@pytest.mark.parametrize("seed", range(3))
def test_fault_33_no_herd_is_let_in_that_the_memory_cannot_hold(seed):
    assert simulate("herd", Weir(), seed, oracle=False).kills == 0


def test_fault_33_a_limit_that_does_not_see_them_grow_lets_the_herd_in():
    assert simulate("herd", Fixed(80), 0, oracle=False).kills > 0


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["outage", "plain-errors", "incident"])
def test_fault_33_neither_a_burst_of_errors_nor_a_long_incident_leaves_the_limit_wrong(scenario):
    play = simulate(scenario, Weir(), 0)
    assert play.ratio is not None
    assert play.ratio >= 0.7
