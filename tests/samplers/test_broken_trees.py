"""Whatever stands in the files of a kernel, what is sampled can be meant, or is unknown."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch._load import SIGNALS
from anabranch.samplers import Cpu, Groups, Memory, Pressure, descriptors
from anabranch.samplers._checked import Checked
from tests.samplers.trees import CGROUP, LOTS, Clock, mount_v1, mount_v2

pytestmark = pytest.mark.slow

V2 = ("cpu.max", "cpu.stat", "cpu.pressure", "cpuset.cpus.effective", "memory.max")
V2 += ("memory.high", "memory.current", "memory.stat", "memory.pressure")
V1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpuacct.usage", "cpu.stat", "cpuset.cpus")
V1 += ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
FOLDERS = ("", "a/", "a/b/", "unified/", "cpu/", "cpu,cpuacct/a/", "cpuset/", "memory/a/b/")
MACHINE = ("proc/self/cgroup", "proc/self/mountinfo", "proc/pressure/cpu", "proc/sys/fs/file-nr")
FILES = [f"{CGROUP}/{folder}{name}" for folder in FOLDERS for name in {*V2, *V1}] + list(MACHINE)

numbers = st.integers(-(2**65), 2**65).map(str) | st.sampled_from(["max", "-1", "0", "nan", "1e9"])
words = st.sampled_from(["usage_usec", "throttled_usec", "nr_periods", "inactive_file", "some"])
words |= st.sampled_from(["total=12", "0-3,5", "avg10=0.00", "0::/a/b", "3:cpu,cpuacct:/a", "-"])
lines = st.lists(numbers | words | st.text(max_size=5), max_size=5).map(" ".join)
texts = st.lists(lines, max_size=4).map("\n".join).map(lambda text: text.encode("utf-8", "replace"))
MOUNTS = [mount_v2(), mount_v2(top="/a"), mount_v2(f"/{CGROUP}/unified"), mount_v1("cpu")]
MOUNTS += [mount_v1("cpu,cpuacct"), mount_v1("memory", top="/a"), mount_v1("cpuset")]
mounts = st.lists(st.sampled_from(MOUNTS)).map(lambda each: "".join(each).encode())
trees = st.dictionaries(st.sampled_from(FILES), texts | st.binary(max_size=40), max_size=12)


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@settings(max_examples=60)
@given(trees, trees, mounts | texts, st.floats(0, 10))
def test_broken_files_break_nothing(first, second, mountinfo, pause) -> None:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, {**first, "proc/self/mountinfo": mountinfo})
        groups = Groups(root)
        samplers = [
            Cpu(groups, clock=clock, times=lambda groups: None),
            Pressure(groups, clock=clock),
            Memory(groups, host=lambda: None),
        ]
        for _ in range(2):
            for sampler in samplers:
                sample = sampler.sample()
                assert Checked(sampler, None).sample().keys() == sample.keys()
                check(dict(sample))
            found = descriptors(root)
            assert found.limit is None or found.limit > 0
            clock.now += pause
            write(root, second)


def check(sample: dict[str, float | None]) -> None:
    for name, value in sample.items():
        assert name in SIGNALS
        assert value is None or (math.isfinite(value) and value >= 0), (name, value)
    cores = sample.get("cores", 1)
    assert cores is not None
    assert 0 < cores <= max(LOTS, 4096)
    for name in ("cpu", "cpu_pressure", "memory_pressure"):
        assert (sample.get(name) or 0) <= 1
    if sample.get("memory_total") is not None:
        assert sample["memory_used"] is not None
        assert sample["memory_total"] > 0
