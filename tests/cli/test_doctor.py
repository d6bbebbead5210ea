"""The doctor says what a container offers, what is missing and what that costs."""

from __future__ import annotations

import json
import os
import subprocess
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from anabranch.cli import _doctor, main
from anabranch.cli._doctor import Findings, examine
from anabranch.cli._doctor_words import as_json, in_words, missing
from anabranch.samplers import Nvml, _cores, _descriptors
from tests.cli.shell import PROGRAM, environment, shell
from tests.samplers import nvml as fake
from tests.samplers.trees import Clock, plant

GIB = 2**30
CONTAINER = {
    "a/cpu.max": "50000 100000",
    "a/cpu.stat": "usage_usec 1\n",
    "a/cpu.pressure": "some avg10=0.00 total=5\n",
    "a/memory.pressure": "some avg10=0.00 total=5\n",
    "a/memory.max": str(2 * GIB),
    "a/memory.current": str(GIB // 2),
}
Times = namedtuple("Times", ["user", "idle"])  # noqa: PYI024  # as psutil has them
HEALTHY = {
    "/proc/pressure/cpu": "some total=1",
    "/proc/pressure/memory": "some total=1",
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Examine a machine of eight CPUs and sixteen gigabytes, with a container in it."""
    monkeypatch.setattr(_cores, "_affinity", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(_descriptors, "_soft_limit", lambda: 10_000)
    monkeypatch.setattr(_doctor, "size_mb", lambda: 50.0)

    clock, host = Clock(), (4 * GIB, 16 * GIB)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [Times(clock.now / 4, clock.now)])

    def look(
        files=HEALTHY, *, lag=0.0001, own="0::/a\n", cards=(), words=None, host=host
    ) -> Findings:
        def listen(name: str) -> float | str:
            clock.now += 0.3
            return lag

        plant(tmp_path, files, own, None)
        module = fake.Nvml(*cards)
        if not cards:
            module.fails["init"] = fake.LIBRARY_NOT_FOUND
        gpus = Nvml(
            load=lambda: module,
            environ={} if words is None else {"CUDA_VISIBLE_DEVICES": words},
        )
        return examine(tmp_path, listen=listen, nvml=gpus, host=lambda: host, clock=clock)

    return look


def lacks(found: Findings) -> list[str]:
    return [each.what for each in missing(found)]


def test_a_container_with_half_a_core_begins_with_one(machine) -> None:
    found = machine(CONTAINER)
    assert (found.cores.cores, found.initial) == (0.5, 1)
    text = in_words(found)
    assert "cores             0.5 by " in text
    assert "512 MiB of 2.0 GiB in use, by " in text
    assert "A step with ConcurrencyConfig() begins with 1 at once" in text
    assert "1 is min(10, 2 x 0.5 cores)" in text
    assert "1.5 GiB are left, 1.5 GiB for each." in text
    assert lacks(found) == ["cores"]
    assert "OMP_NUM_THREADS=1" in text


def test_a_machine_that_offers_all_lacks_nothing(machine) -> None:
    found = machine()
    assert (found.cores.source, found.initial) == ("affinity", 10)
    assert lacks(found) == []
    assert (found.cpu, found.pressure) == (
        pytest.approx(0.2),
        {"cpu_pressure": 0, "memory_pressure": 0},
    )
    assert (found.floor, found.ceiling, found.controller) == (1, 256, "weir")


def test_less_than_half_a_core_begins_with_one_and_says_so(machine) -> None:
    text = in_words(machine({**CONTAINER, "a/cpu.max": "10000 100000"}))
    assert "1 is min(10, 2 x 0.1 cores)" in text
    assert "and at least 1" in text


def test_without_cpu_figures_it_says_what_that_costs(machine, monkeypatch) -> None:
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [])
    found = machine()
    assert lacks(found) == ["CPU in use"]
    assert "CPU in use        unknown" in in_words(found)


def test_without_pressure_it_says_what_that_costs(machine) -> None:
    found = machine({})
    assert {"CPU pressure", "memory pressure"} <= set(lacks(found))
    text = in_words(found)
    assert "cpu pressure      unknown" in text
    assert "no /proc/pressure/memory (Linux with PSI)" in text


def test_without_memory_figures_it_says_what_that_costs(machine, monkeypatch) -> None:
    monkeypatch.setattr(_doctor, "size_mb", lambda: None)
    found = machine(host=None)
    assert {"memory", "own memory"} <= set(lacks(found))
    assert "are left" not in in_words(found)
    memory = json.loads(as_json(found))["memory"]
    assert (memory["total"], memory["own"]) == (None, None)


def test_devices_are_told_one_by_one(machine) -> None:
    cards = [fake.Card("GPU-a"), fake.Card("GPU-b", busy=None), fake.Card("GPU-c")]
    cards[1].fails["memory"] = fake.NOT_SUPPORTED
    found = machine(cards=cards, words="0,1")
    text = in_words(found)
    assert "GPUs              H200 GPU-a: 1.0 GiB of 8.0 GiB in use, busy 50 %\n" in text
    assert "H200 GPU-b: memory unknown (memory: code 3" in text
    assert found.gpus.hidden == 1
    assert "memory of GPU GPU-b" in lacks(found)


def test_a_gpu_that_is_lost_is_missing(machine) -> None:
    cards = [fake.Card("GPU-a"), fake.Card("GPU-b")]
    cards[0].fails["handle"] = fake.GPU_IS_LOST
    assert "a GPU" in lacks(machine(cards=cards))
    text = in_words(machine(cards=[fake.Card("GPU-a")], words="-1"))
    assert "none visible; 1 hidden by CUDA_VISIBLE_DEVICES" in text


def test_a_driver_that_fails_is_missing_and_none_at_all_is_not(machine, monkeypatch) -> None:
    assert lacks(machine()) == []
    monkeypatch.setattr(fake, "LIBRARY_NOT_FOUND", 9)  # the driver is there, and not loaded
    found = machine()
    assert lacks(found) == ["a GPU"]
    assert "none visible (NVML: code 9)" in in_words(found)


def test_few_descriptors_are_scarce(machine, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(_descriptors, "_soft_limit", lambda: 64)
    monkeypatch.setattr(psutil.Process, "num_fds", lambda process: 4)
    found = machine()
    assert "descriptors" in lacks(found)
    assert "about 20 run at once" in in_words(found)


@pytest.mark.parametrize("lag", [0.2, "cannot be opened: Too many open files"])
def test_a_loop_that_lags_or_cannot_be_opened_is_told(machine, lag) -> None:
    found = machine(lag=lag)
    assert lacks(found)[-2:] == ["loop trio", "loop asyncio"]
    loops = json.loads(as_json(found))["loops"]
    assert loops["trio"] == (
        {"lag": None, "why": lag} if isinstance(lag, str) else {"lag": lag, "why": ""}
    )


def test_what_a_driver_calls_a_device_cannot_steer_a_terminal(machine, monkeypatch) -> None:
    monkeypatch.setattr(fake.Nvml, "nvmlDeviceGetName", lambda self, card: "\x1b[31mred\nline")
    text = in_words(machine(cards=[fake.Card("GPU-a")]))
    assert "\x1b" not in text
    assert "\\x1b[31mred\\nline" in text


def test_json_has_all_that_the_words_have(machine) -> None:
    found = json.loads(as_json(machine(CONTAINER, cards=[fake.Card("GPU-a")])))
    assert set(found) == {
        "cores",
        "descriptors",
        "gpus",
        "limit",
        "loops",
        "memory",
        "missing",
        "pressure",
        "versions",
    }
    assert found["cores"]["count"] == 0.5
    assert found["cores"]["source"].endswith("a/cpu.max")
    assert found["memory"]["total"] == 2 * GIB
    assert found["memory"]["own"] == 50 * 2**20  # bytes, as all sizes are
    assert found["pressure"]["cpu"]["sources"][0].endswith("a/cpu.pressure")
    assert found["gpus"]["devices"][0]["uuid"] == "GPU-a"
    assert {"what", "why", "costs"} == set(found["missing"][0])
    assert found["limit"]["initial"] == 1


# The program ------------------------------------------------------------------------------------

slow = pytest.mark.slow


@slow
@pytest.mark.real_clock
def test_it_examines_this_machine(tmp_path: Path) -> None:
    done = shell("doctor", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("anabranch ")
    assert "A step with ConcurrencyConfig() begins with" in done.stdout


@slow
@pytest.mark.real_clock
def test_json_is_one_line(tmp_path: Path) -> None:
    done = shell("doctor", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    found = json.loads(done.stdout)
    assert found["cores"]["count"] > 0
    assert set(found["loops"]) == {"trio", "asyncio"}


@slow
def test_a_stdout_that_takes_nothing_is_said(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "doctor"],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("anabranch: stdout cannot be written")


def test_an_option_that_there_is_not_is_wrong_usage(capsys) -> None:
    assert main(["doctor", "--jsno"]) == 2
    assert "--jsno" in capsys.readouterr().err
