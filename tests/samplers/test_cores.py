"""Cores: the least of affinity, cpusets and quotas, in trees as containers show them."""

import os

import pytest

from anabranch.samplers import _cores
from anabranch.samplers._cores import core_limits, cores
from anabranch.samplers._files import ranges
from tests.samplers.trees import LOTS, mount_v1, mount_v2

V2 = "0::/a/b\n"
V1 = "5:memory:/x\n3:cpu,cpuacct:/a/b\n1:name=systemd:/\n"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"
TABLE = {
    "nothing": ({}, None, LOTS),
    "empty files": ({"cpu.max": "", "a/b/cpu.max": ""}, V2, LOTS),
    "v2 without a limit": ({"a/b/cpu.max": "max 100000\n"}, V2, LOTS),
    "v2, own group": ({"a/b/cpu.max": "200000 100000\n"}, V2, 2),
    "v2, half a core": ({"a/b/cpu.max": "50000 100000\n"}, V2, 0.5),
    "v2, another period": ({"a/b/cpu.max": "30000 20000\n"}, V2, 1.5),
    "v2, the parent's is smaller": (
        {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000", "cpu.max": "max 100000"},
        V2,
        3,
    ),
    "v2, namespaced: the root is our own": ({"cpu.max": "150000 100000"}, "0::/\n", 1.5),
    "v2, a path that is not mounted here": ({"cpu.max": "150000 100000"}, "0::/else/where\n", 1.5),
    "v2, out of the namespace": ({"cpu.max": "150000 100000"}, "0::/../sibling\n", 1.5),
    "v2, no /proc/self/cgroup": ({"cpu.max": "150000 100000"}, None, 1.5),
    "v2, more than there is": ({"cpu.max": "9900000 100000"}, "0::/\n", LOTS),
    "v2, nonsense": ({"cpu.max": "many few"}, "0::/\n", LOTS),
    "v2, nothing per nothing": ({"cpu.max": "100000 0"}, "0::/\n", LOTS),
    "v1, own group": (
        {f"cpu,cpuacct/a/b/{QUOTA}": "250000\n", f"cpu,cpuacct/a/b/{PERIOD}": "100000\n"},
        V1,
        2.5,
    ),
    "v1, at cpu": ({f"cpu/{QUOTA}": "100000", f"cpu/{PERIOD}": "100000"}, V1, 1),
    "v1 without a limit": ({f"cpu/{QUOTA}": "-1", f"cpu/{PERIOD}": "100000"}, V1, LOTS),
    "v1, the period is missing": ({f"cpu/{QUOTA}": "100000"}, V1, LOTS),
    "v1, nonsense": ({f"cpu/{QUOTA}": "x", f"cpu/{PERIOD}": "y"}, V1, LOTS),
    "both": (
        {"cpu.max": "300000 100000", f"cpu/{QUOTA}": "100000", f"cpu/{PERIOD}": "100000"},
        V1 + "0::/\n",
        1,
    ),
    "a line that is none": ({"cpu.max": "200000 100000"}, "garbage\n\n0::/\n", 2),
    "v2, a cpuset": ({"a/b/cpuset.cpus.effective": "0-2,8\n"}, V2, 4),
    "v2, the cpuset of the nearest that has one": (
        {"a/cpuset.cpus.effective": "0-7", "cpuset.cpus.effective": "0-1"},
        V2,
        8,
    ),
    "v2, an empty cpuset": ({"a/b/cpuset.cpus.effective": "\n"}, V2, LOTS),
    "v2, a cpuset of nonsense": ({"a/b/cpuset.cpus.effective": "0-,x"}, V2, LOTS),
    "v2, a cpuset without end": ({"a/b/cpuset.cpus.effective": f"0-{'9' * 25}"}, V2, LOTS),
    "v2, a number without end": ({"cpu.max": f"{'9' * 5000} 100000"}, V2, LOTS),
    "v1, a cpuset": ({"cpuset/a/cpuset.cpus": "0,1,2"}, "4:cpuset:/a\n", 3),
    "v1, what is in effect of a cpuset": (
        {"cpuset/cpuset.cpus": "0-15", "cpuset/cpuset.effective_cpus": "4-5"},
        "4:cpuset:/\n",
        2,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_smallest_quota_counts(tree, name):
    files, own, expected = TABLE[name]
    assert cores(tree(files, own)) == expected


@pytest.mark.parametrize("name", TABLE)
def test_mounts_at_the_usual_places_change_nothing(tree, name):
    files, own, expected = TABLE[name]
    mounts = mount_v2() + mount_v1("cpu") + mount_v1("cpu,cpuacct") + mount_v1("cpuset")
    assert cores(tree(files, own, mounts)) == expected


HALF = "50000 100000\n"
MOUNTED = {
    "a hybrid: v2 has a place of its own": (
        {"unified/a/cpu.max": HALF},
        "0::/a\n",
        mount_v2("/sys/fs/cgroup/unified"),
        0.5,
    ),
    "somewhere else, with a blank": (
        {"/cg roups/a/b/cpu.max": HALF},
        V2,
        mount_v2("/cg\\040roups"),
        0.5,
    ),
    "v1 in a container: the mount's root is the own group": (
        {f"cpu/{QUOTA}": "50000", f"cpu/{PERIOD}": "100000"},
        "3:cpu:/docker/4711\n",
        mount_v1("cpu", top="/docker/4711"),
        0.5,
    ),
    "a group below the one that is mounted": (
        {"inner/cpu.max": HALF, "docker/4711/inner/cpu.max": "1 1"},
        "0::/docker/4711/inner\n",
        mount_v2(top="/docker/4711"),
        0.5,
    ),
    "a sibling of the one that is mounted": (
        {"cpu.max": "300000 100000", "other/cpu.max": HALF},
        "0::/other\n",
        mount_v2(top="/docker/4711"),
        3,
    ),
    "a mount of another namespace": ({"a/b/cpu.max": HALF}, V2, mount_v2(top="/../.."), 0.5),
    "another controller's mount says nothing": (
        {f"memory/{QUOTA}": "50000", f"memory/{PERIOD}": "100000"},
        V1,
        mount_v1("memory"),
        LOTS,
    ),
    "a table of mounts that is none": ({"a/cpu.max": HALF}, V2, "- - -\ncgroup2\n\x00\n", 0.5),
}


@pytest.mark.parametrize("name", MOUNTED)
def test_groups_are_found_where_they_are_mounted(tree, name):
    files, own, mounts, expected = MOUNTED[name]
    assert cores(tree(files, own, mounts)) == expected


def test_files_that_cannot_be_read_limit_nothing(tree, tmp_path):
    groups = tree({"a/cpu.max/a folder": "", "cpuset.cpus.effective/too": ""})
    assert cores(groups) == LOTS


def test_bytes_that_are_no_text_limit_nothing(tree, tmp_path):
    groups = tree({"cpu.max": ""})
    (tmp_path / "sys/fs/cgroup/cpu.max").write_bytes(b"\xff\xfe 100000")
    assert cores(groups) == LOTS


def test_each_limit_says_where_it_stands(tree):
    limits = core_limits(tree({"a/b/cpu.max": HALF, "cpuset.cpus.effective": "0-3"}, V2))
    ends = [(limit.cores, limit.source.partition("cgroup/")[2]) for limit in limits]
    assert ends == [(LOTS, ""), (0.5, "a/b/cpu.max"), (4, "cpuset.cpus.effective")]
    assert limits[0].source == "affinity"


def test_affinity_counts_where_it_is_smaller(tree, monkeypatch):
    groups = tree({"cpu.max": "200000 100000"}, "0::/\n")
    monkeypatch.setattr(_cores, "_affinity", lambda: 1)
    assert cores(groups) == 1


def test_without_affinity_the_machine_counts(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert _cores._affinity() == os.cpu_count()


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", [0]), ("0-2,5", [0, 1, 2, 5]), ("", []), ("3-1", []), ("a", []), ("-1", [])],
)
def test_lists_of_cpus(text, cpus):
    assert [cpu for each in ranges(text) for cpu in each] == cpus


def test_this_machine_has_some():
    assert 0 < cores() <= (os.cpu_count() or 1)
