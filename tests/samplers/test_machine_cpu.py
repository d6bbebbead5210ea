"""CPU of the machine and of the container: differences, the larger of the two, iowait is idle."""

import os
import threading
from collections import namedtuple

import psutil
import pytest

from anabranch.samplers import Cpu
from anabranch.samplers._host import CpuTimes, allowed_cpus, cpu_times
from tests.samplers.trees import LOTS, mount_v1

V2 = "0::/a/b\n"


class Host:
    """CPU seconds of a host, in use and in all."""

    def __init__(self, cpus=1):
        self.cpus = cpus
        self.busy = 5000.0
        self.total = 90000.0

    def __call__(self, groups):
        return CpuTimes(tuple(range(self.cpus)), self.busy, self.total)

    def passes(self, clock, seconds, share):
        clock.now += seconds
        self.busy += seconds * self.cpus * share
        self.total += seconds * self.cpus


@pytest.fixture
def host():
    return Host(LOTS)


def stat(usec):
    return f"usage_usec {usec:.0f}\nuser_usec 1\nsystem_usec 2\nnr_periods 0\n"


def test_the_first_sample_is_unknown_and_never_0(tree, clock, host):
    sampler = Cpu(tree({"a/b/cpu.stat": stat(7e6)}), clock=clock, times=host)
    assert sampler.sample() == {"cores": LOTS, "cpu": None}


def test_a_host_that_others_fill_counts_although_the_own_group_is_idle(tree, clock, host):
    files = {"a/b/cpu.stat": stat(7e6), "a/b/cpu.max": "200000 100000"}
    sampler = Cpu(tree(files), clock=clock, times=host)
    sampler.sample()
    host.passes(clock, 1, 0.9)
    assert sampler.sample() == {"cores": 2, "cpu": pytest.approx(0.9)}


def test_a_quota_that_is_used_up_counts_although_the_host_is_idle(tree, clock, host):
    files = {"a/b/cpu.stat": stat(7e6), "a/b/cpu.max": "50000 100000"}
    sampler = Cpu(tree(files), clock=clock, times=host)
    sampler.sample()
    host.passes(clock, 1, 0.01)
    tree({"a/b/cpu.stat": stat(7.45e6)})
    assert sampler.sample() == {"cores": 0.5, "cpu": pytest.approx(0.9)}


def test_a_quota_above_counts_that_siblings_use_up(tree, clock, host):
    files = {"a/b/cpu.max": "400000 100000", "a/cpu.max": "800000 100000"}
    usage = {"a/b/cpu.stat": stat(0), "a/cpu.stat": stat(0)}
    sampler = Cpu(tree({**files, **usage}), clock=clock, times=host)
    sampler.sample()
    host.passes(clock, 1, 0.1)
    tree({"a/b/cpu.stat": stat(0.4e6), "a/cpu.stat": stat(7.2e6)})
    assert sampler.sample() == {"cores": 4, "cpu": pytest.approx(0.9)}


@pytest.mark.parametrize("account", ["cpu", "cpuacct"], ids=["beside the quota", "mounted apart"])
def test_version_1_counts_in_nanoseconds(tree, clock, host, account):
    own, mounts = "3:cpu:/a\n4:cpuacct:/a\n", mount_v1("cpu") + mount_v1("cpuacct")
    files = {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}
    usage = f"{account}/a/cpuacct.usage"
    sampler = Cpu(tree({**files, usage: "1000000000"}, own, mounts), clock=clock, times=host)
    sampler.sample()
    host.passes(clock, 1, 0.1)
    tree({usage: "2500000000"})
    assert sampler.sample()["cpu"] == pytest.approx(0.75)


def test_without_a_quota_and_without_a_host_the_own_group_counts(tree, clock):
    sampler = Cpu(tree({"a/b/cpu.stat": stat(0)}), clock=clock, times=lambda groups: None)
    sampler.sample()
    clock.now += 1
    tree({"a/b/cpu.stat": stat(16e6)})
    assert sampler.sample()["cpu"] == pytest.approx(16 / LOTS)


@pytest.mark.parametrize("text", ["", "usage_usec", "usage_usec -3", "usage_usec x\x00", None])
def test_a_broken_file_is_unknown(tree, clock, text):
    files = {} if text is None else {"a/b/cpu.stat": text}
    sampler = Cpu(tree(files), clock=clock, times=lambda groups: None)
    for _ in range(3):
        assert sampler.sample()["cpu"] is None
        clock.now += 1


def test_more_than_all_is_all(tree, clock, host):
    sampler = Cpu(tree({"a/b/cpu.max": "100000 100000", "a/b/cpu.stat": stat(0)}), clock=clock)
    sampler.sample()
    clock.now += 1
    tree({"a/b/cpu.stat": stat(1.2e6)})
    assert sampler.sample()["cpu"] == 1.0


def test_a_counter_that_begins_anew_is_unknown_once(tree, clock, host):
    sampler = Cpu(tree({}), clock=clock, times=host)
    sampler.sample()
    host.passes(clock, 1, 0.5)
    assert sampler.sample()["cpu"] == pytest.approx(0.5)
    host.busy, host.total = 1.0, 10.0  # the machine was moved, or the group made anew
    clock.now += 1
    assert sampler.sample()["cpu"] is None
    host.passes(clock, 1, 0.25)
    assert sampler.sample()["cpu"] == pytest.approx(0.25)


def test_nobody_asked_for_a_while_is_unknown(tree, clock, host):
    sampler = Cpu(tree({}), clock=clock, times=host)
    sampler.sample()
    host.passes(clock, 60, 1.0)
    assert sampler.sample()["cpu"] is None
    host.passes(clock, 1, 0.25)
    assert sampler.sample()["cpu"] == pytest.approx(0.25)


def test_five_threads_at_once_see_no_0(tree, clock, host):
    sampler = Cpu(tree({}), clock=clock, times=host)
    sampler.sample()
    seen = []
    for _ in range(10):
        host.passes(clock, 0.25, 0.5)
        threads = [
            threading.Thread(target=lambda: seen.append(sampler.sample()["cpu"])) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [pytest.approx(0.5)] * 50


# The host, through psutil ---------------------------------------------------------------------


# As Linux has them; guest is a part of user there.
Times = namedtuple("Times", ["user", "nice", "system", "idle", "iowait", "steal", "guest"])  # noqa: PYI024


def cpu(**fields):
    return Times(**{**dict.fromkeys(Times._fields, 0.0), **fields})


@pytest.fixture
def four(monkeypatch):
    """Four CPUs that have been up for a hundred seconds; the second is busy."""
    found = [cpu(idle=100), cpu(user=80, idle=20), cpu(iowait=90, idle=10), cpu(steal=5, idle=95)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: found)
    return found


def test_waiting_for_a_disk_is_idle_and_stolen_time_is_not(tree, four):
    assert cpu_times(tree({}), frozenset()) == CpuTimes((0, 1, 2, 3), 85, 400)


def test_only_cpus_count_that_this_process_may_run_on(tree, four):
    assert cpu_times(tree({}), frozenset({1})) == CpuTimes((1,), 80, 100)


def test_cpus_that_are_offline_have_no_line(tree, four):
    groups = tree({"/sys/devices/system/cpu/online": "0,2,4,6\n"})
    assert cpu_times(groups, frozenset({2})) == CpuTimes((2,), 80, 100)
    assert cpu_times(groups, frozenset({2, 3})).cpus == (0, 2, 4, 6)


def test_what_a_guest_runs_is_counted_once(tree, monkeypatch):
    found = [cpu(user=60, guest=50, idle=40)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: found)
    assert cpu_times(tree({}), frozenset()) == CpuTimes((0,), 60, 100)


@pytest.mark.parametrize(
    "error",
    [OSError(2, "no"), ValueError("x"), KeyError("cpu"), IndexError(), RuntimeError("x")],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_table_of_cpus_is_unknown(tree, monkeypatch, error):
    def fails(percpu):
        raise error

    monkeypatch.setattr(psutil, "cpu_times", fails)
    assert cpu_times(tree({}), frozenset()) is None
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [])
    assert cpu_times(tree({}), frozenset()) is None


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux has a /proc to break")
@pytest.mark.parametrize("text", [None, "", "cpu\n", "cpu0 x y z\n", "\x00\x00"])
def test_a_proc_that_is_broken_costs_the_signal_only(tree, clock, monkeypatch, tmp_path, text):
    (tmp_path / "proc").mkdir(exist_ok=True)
    if text is not None:
        (tmp_path / "proc/stat").write_text(text)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    sampler = Cpu(tree({"a/b/cpu.max": "100000 100000"}), clock=clock)
    for _ in range(3):
        assert sampler.sample() == {"cores": 1, "cpu": None}
        clock.now += 1


def test_without_affinity_all_cpus_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert allowed_cpus() == frozenset()
