"""Pressure: the group's own first, then the machine's, then what a quota held back; or unknown."""

import pytest

from anabranch.samplers import Pressure
from anabranch.samplers._pressure import read_waiting
from tests.samplers.trees import mount_v1

QUOTA = {"a/b/cpu.max": "50000 100000"}
BOTH = {"cpu_pressure": None, "memory_pressure": None}


def psi(usec):
    return (
        f"some avg10=99.00 avg60=99.00 avg300=99.00 total={usec:.0f}\n"
        f"full avg10=99.00 avg60=99.00 avg300=99.00 total=1\n"
    )


def sampled(tree, clock, before, after, own="0::/a/b\n", mounts=None):
    sampler = Pressure(tree(before, own, mounts), clock=clock)
    assert sampler.sample() == BOTH
    clock.now += 2
    tree(after)
    return sampler.sample()


def test_it_is_the_difference_of_the_total_and_not_an_average(tree, clock):
    before = {"/proc/pressure/cpu": psi(7e6), "/proc/pressure/memory": psi(0)}
    after = {"/proc/pressure/cpu": psi(8.5e6), "/proc/pressure/memory": psi(0.2e6)}
    expected = {"cpu_pressure": pytest.approx(0.75), "memory_pressure": pytest.approx(0.1)}
    assert sampled(tree, clock, before, after) == expected


def test_the_groups_own_counts_before_the_machines(tree, clock):
    files = {"/proc/pressure/cpu": psi(0), "a/b/cpu.pressure": psi(0)}
    after = {"/proc/pressure/cpu": psi(2e6), "a/b/cpu.pressure": psi(0.5e6)}
    assert sampled(tree, clock, files, after)["cpu_pressure"] == pytest.approx(0.25)


@pytest.mark.parametrize("text", ["", "some avg10=0.00\n", "some total=x\n", "full total=3\n"])
def test_a_file_that_tells_nothing_leaves_it_to_the_next(tree, clock, text):
    files = {"/proc/pressure/cpu": psi(0), "a/b/cpu.pressure": text}
    after = {"/proc/pressure/cpu": psi(1e6)}
    assert sampled(tree, clock, files, after)["cpu_pressure"] == pytest.approx(0.5)


def test_pressure_that_is_switched_off_leaves_it_to_the_quota(tree, clock, tmp_path):
    """Reading the file fails then; a folder in its place fails likewise."""
    before = {"/proc/pressure/cpu/off": "", "a/b/cpu.stat": "throttled_usec 1000000\n"}
    after = {"a/b/cpu.stat": "throttled_usec 1500000\n"}
    assert sampled(tree, clock, {**QUOTA, **before}, after)["cpu_pressure"] == pytest.approx(0.25)


def test_a_quota_above_holds_back_too(tree, clock):
    before = {"a/cpu.max": "100000 100000", "a/cpu.stat": "throttled_usec 0\n"}
    after = {"a/cpu.stat": "throttled_usec 1000000\n"}
    assert sampled(tree, clock, before, after)["cpu_pressure"] == pytest.approx(0.5)


def test_version_1_tells_nanoseconds(tree, clock):
    before = {"cpu/cpu.cfs_quota_us": "1000", "cpu/cpu.cfs_period_us": "1000"}
    figures = [{"cpu/cpu.stat": f"nr_periods 3\nthrottled_time {n}\n"} for n in (0, 1_000_000_000)]
    found = sampled(tree, clock, {**before, **figures[0]}, figures[1], "3:cpu:/\n", mount_v1("cpu"))
    assert found == {"cpu_pressure": pytest.approx(0.5), "memory_pressure": None}


def test_without_a_quota_no_time_is_held_back_and_that_is_unknown_not_0(tree, clock):
    files = {"a/b/cpu.stat": "usage_usec 3\nthrottled_usec 0\n"}
    assert sampled(tree, clock, files, {}) == BOTH


def test_nothing_to_read_is_unknown(tree, clock):
    assert sampled(tree, clock, {}, {}) == BOTH


def test_more_than_the_whole_time_is_the_whole(tree, clock):
    """Throttled time is added up over CPUs."""
    before = {**QUOTA, "a/b/cpu.stat": "throttled_usec 0\n"}
    after = {"a/b/cpu.stat": "throttled_usec 9000000\n"}
    assert sampled(tree, clock, before, after)["cpu_pressure"] == 1.0


def test_another_file_begins_anew(tree, clock, tmp_path):
    before = {"/proc/pressure/cpu": psi(0), "a/b/cpu.pressure": psi(9e6)}
    sampler = Pressure(tree(before), clock=clock)
    sampler.sample()
    clock.now += 2
    tree({"/proc/pressure/cpu": psi(99e6), "a/b/cpu.pressure": "gone"})
    assert sampler.sample()["cpu_pressure"] is None
    clock.now += 2
    tree({"/proc/pressure/cpu": psi(100e6)})
    assert sampler.sample()["cpu_pressure"] == pytest.approx(0.5)


def test_a_total_that_falls_is_unknown(tree, clock):
    files = {"/proc/pressure/cpu": psi(5e6), "/proc/pressure/memory": psi(5e6)}
    assert sampled(tree, clock, files, {"/proc/pressure/cpu": psi(0)})["cpu_pressure"] is None


@pytest.mark.parametrize(("held", "share"), [(0.2e9, 0.25), (1.5e9, 0.75)])
def test_a_quota_of_version_1_counts_beside_the_machines_pressure(tree, clock, held, share):
    """What the whole machine tells says nothing of half a core, and nothing else is told there."""
    own, mounts = "3:cpu:/\n", mount_v1("cpu")
    quota = {"cpu/cpu.cfs_quota_us": "1000", "cpu/cpu.cfs_period_us": "1000"}
    before = {"/proc/pressure/cpu": psi(0), "cpu/cpu.stat": "throttled_time 0\n", **quota}
    after = {"/proc/pressure/cpu": psi(0.5e6), "cpu/cpu.stat": f"throttled_time {held:.0f}\n"}
    found = sampled(tree, clock, before, after, own, mounts)
    assert found["cpu_pressure"] == pytest.approx(share)


def test_a_group_that_tells_its_pressure_needs_no_quota_to_tell_it(tree, clock):
    before = {**QUOTA, "a/b/cpu.pressure": psi(0), "a/b/cpu.stat": "throttled_usec 0\n"}
    after = {"a/b/cpu.pressure": psi(0.5e6), "a/b/cpu.stat": "throttled_usec 2000000\n"}
    assert sampled(tree, clock, before, after)["cpu_pressure"] == pytest.approx(0.25)


def test_where_it_was_read_is_told(tree):
    groups = tree({"/proc/pressure/cpu": psi(0), "a/b/memory.pressure": psi(2e6)})
    ((name, seconds),) = read_waiting(groups, "memory_pressure")
    assert (name.endswith("a/b/memory.pressure"), seconds) == (True, 2.0)
    ((name, seconds),) = read_waiting(groups, "cpu_pressure")
    assert name.endswith("proc/pressure/cpu")
