"""Memory: the limit with the least left, of the group, of those above it, or of the host."""

import psutil
import pytest

from anabranch.samplers import Memory, _host
from anabranch.samplers._machine_memory import rooms
from tests.samplers.trees import mount_v1

GIB = 2**30
HOST = (4 * GIB, 16 * GIB)
V1 = "4:memory:/docker/x\n"
NONE_V1 = str(2**63 - 4096)


def v2(folder, used, limit="max", *, cache=0, high="max"):
    prefix = f"{folder}/" if folder else ""
    return {
        f"{prefix}memory.current": f"{used}\n",
        f"{prefix}memory.max": f"{limit}\n",
        f"{prefix}memory.high": f"{high}\n",
        f"{prefix}memory.stat": f"anon 1\nfile 2\ninactive_file {cache}\nactive_file 7\n",
    }


def v1(folder, used, limit, cache, above=2**63 - 4096):
    return {
        f"memory/{folder}memory.usage_in_bytes": f"{used}\n",
        f"memory/{folder}memory.limit_in_bytes": f"{limit}\n",
        f"memory/{folder}memory.stat": f"cache 9\ninactive_file 1\ntotal_inactive_file {cache}\n"
        f"hierarchical_memory_limit {above}\n",
    }


TABLE = {
    "nothing": ({}, "0::/a/b\n", HOST),
    "v2, no limit": (v2("a/b", GIB), "0::/a/b\n", HOST),
    "v2, own limit": (v2("a/b", GIB, 2 * GIB), "0::/a/b\n", (GIB, 2 * GIB)),
    "v2, the cache is not in use": (
        v2("a/b", GIB, 2 * GIB, cache=GIB // 2),
        "0::/a/b\n",
        (GIB / 2, 2 * GIB),
    ),
    "v2, a cache larger than what is used": (
        v2("a/b", 5, GIB, cache=9),
        "0::/a/b\n",
        (0, GIB),
    ),
    "v2, in a namespace": (v2("", GIB, 2 * GIB), "0::/\n", (GIB, 2 * GIB)),
    "v2, what slows down counts as what kills": (
        v2("a/b", GIB, 4 * GIB, high=2 * GIB),
        "0::/a/b\n",
        (GIB, 2 * GIB),
    ),
    "v2, a smaller limit above": (
        {**v2("a/b", GIB, 4 * GIB), **v2("a", GIB, 2 * GIB)},
        "0::/a/b\n",
        (GIB, 2 * GIB),
    ),
    "v2, a larger limit above that siblings have used up": (
        {**v2("a/b", GIB, 2 * GIB), **v2("a", 15 * GIB // 2, 8 * GIB)},
        "0::/a/b\n",
        (7.5 * GIB, 8 * GIB),
    ),
    "v2, more than the host has left": (v2("a/b", GIB, 64 * GIB), "0::/a/b\n", HOST),
    "v2, a limit of nothing": (v2("a/b", 0, 0), "0::/a/b\n", HOST),
    "v2, nonsense": (v2("a/b", "x", "y", cache="z"), "0::/a/b\n", HOST),
    "v2, use is missing": ({"a/b/memory.max": str(2 * GIB)}, "0::/a/b\n", HOST),
    "v2, what is cached is missing": (
        {"a/b/memory.max": str(2 * GIB), "a/b/memory.current": str(GIB)},
        "0::/a/b\n",
        (GIB, 2 * GIB),
    ),
    "v1, none is near 2^63": (v1("docker/x/", GIB, NONE_V1, 0), V1, HOST),
    "v1": (v1("docker/x/", GIB, 2 * GIB, GIB // 4), V1, (0.75 * GIB, 2 * GIB)),
    "v1, a smaller limit above that is not mounted": (
        v1("", GIB, 4 * GIB, 0, above=2 * GIB),
        V1,
        (GIB, 2 * GIB),
    ),
    "v1, the mount is the own group": (v1("", GIB, 2 * GIB, 0), V1, (GIB, 2 * GIB)),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_limit_with_the_least_left_counts(tree, name):
    files, own, (used, total) = TABLE[name]
    mounts = mount_v1("memory") if own == V1 else None
    sampler = Memory(tree(files, own, mounts), host=lambda: HOST)
    assert sampler.sample() == {"memory_used": used, "memory_total": total}


def test_a_host_without_figures_leaves_the_group(tree):
    sampler = Memory(tree(v2("a/b", GIB, 2 * GIB)), host=lambda: None)
    assert sampler.sample() == {"memory_used": GIB, "memory_total": 2 * GIB}


def test_nothing_to_read_is_unknown(tree):
    sampler = Memory(tree({}), host=lambda: None)
    assert sampler.sample() == {"memory_used": None, "memory_total": None}


def test_what_the_kernel_writes_for_no_limit_is_none(tree):
    groups = tree(v1("docker/x/", GIB, NONE_V1, 0), V1, mount_v1("memory"))
    assert rooms(groups, lambda: None) == []
    unknown = {"memory_used": None, "memory_total": None}
    assert Memory(groups, host=lambda: None).sample() == unknown


def test_each_limit_says_where_it_stands(tree):
    found = rooms(tree(v2("a/b", GIB, 4 * GIB, high=2 * GIB)), lambda: HOST)
    assert [room.source.rpartition("/")[2] for room in found] == ["the host", "memory.high"]


def test_what_is_above_a_soft_limit_is_told_as_it_is(tree):
    sampler = Memory(tree(v2("a/b", 3 * GIB, high=2 * GIB)), host=lambda: HOST)
    assert sampler.sample() == {"memory_used": 3 * GIB, "memory_total": 2 * GIB}


# The host, through psutil ---------------------------------------------------------------------


class Figures:
    total = 100
    available = 30


def test_what_is_available_is_not_in_use(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", Figures)
    assert _host.memory() == (70, 100)


@pytest.mark.parametrize(
    "error",
    [OSError(2, "no"), ValueError("x"), KeyError("MemTotal"), RuntimeWarning("no 'shared'")],
    ids=lambda error: type(error).__name__,
)
def test_a_host_that_cannot_be_read_is_unknown(monkeypatch, error):
    def fails():
        raise error

    monkeypatch.setattr(psutil, "virtual_memory", fails)
    assert _host.memory() is None


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux has a /proc to break")
@pytest.mark.parametrize("text", [None, "", "MemTotal:\n", "MemTotal: x kB\n", "MemTotal: 0 kB\n"])
def test_a_proc_that_is_broken_costs_the_signal_only(monkeypatch, tmp_path, tree, text):
    (tmp_path / "proc").mkdir()
    if text is not None:
        (tmp_path / "proc/meminfo").write_text(text)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    assert Memory(tree({})).sample() == {"memory_used": None, "memory_total": None}
