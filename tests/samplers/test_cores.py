"""Cores: the smallest of affinity and quotas, in trees as containers show them."""

import os

import pytest

from anabranch.samplers import _cores
from anabranch.samplers._cores import cores

LOTS = 64


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(_cores, "_affinity", lambda: LOTS)


@pytest.fixture
def tree(tmp_path):
    """Make a tree of files from a mapping; return the arguments for `cores`."""

    def make(files, own=None):
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        own_file = tmp_path / "own"
        if own is not None:
            own_file.write_text(own)
        return tmp_path / "cgroup", own_file

    return make


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
}


@pytest.mark.parametrize("name", TABLE)
def test_the_smallest_quota_counts(tree, name):
    files, own, expected = TABLE[name]
    assert cores(*tree(files, own)) == expected


def test_affinity_counts_where_it_is_smaller(tree, monkeypatch):
    monkeypatch.setattr(_cores, "_affinity", lambda: 1)
    assert cores(*tree({"cpu.max": "200000 100000"}, "0::/\n")) == 1


def test_without_affinity_the_machine_counts(monkeypatch):
    monkeypatch.undo()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert _cores._affinity() == os.cpu_count()


def test_this_machine_has_some(monkeypatch):
    monkeypatch.undo()
    assert 0 < cores() <= (os.cpu_count() or 1)
