"""GPUs: absent, lost, not supported, slow; the scarcest of the visible ones; never a crash."""

import logging
import threading
import time

import anyio
import anyio.to_thread
import pytest

from anabranch.samplers import Nvml
from tests.samplers import nvml as fake
from tests.samplers.nvml import CALLS, CODES, GIB, Card

UNKNOWN = {"gpu_memory_used": None, "gpu_memory_total": None}


def sampler(module, clock=time.monotonic, words=None, **options):
    environ = {} if words is None else {"CUDA_VISIBLE_DEVICES": words}
    return Nvml(load=lambda: module, environ=environ, clock=clock, **options)


def told(used, total):
    return {"gpu_memory_used": used * GIB, "gpu_memory_total": total * GIB}


def test_the_device_with_the_least_left_counts():
    module = fake.Nvml(Card("GPU-a", GIB, 8 * GIB), Card("GPU-b", 70 * GIB, 80 * GIB))
    assert sampler(module).sample() == told(1, 8)
    module.cards[1].used = 79 * GIB
    assert sampler(module).sample() == told(79, 80)


def test_all_that_is_known_of_a_device_is_told():
    (gpu,) = sampler(fake.Nvml(Card("GPU-a", busy=25))).read().devices
    assert (gpu.uuid, gpu.name, gpu.utilisation, gpu.why) == ("GPU-a", "H200", 0.25, "")


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("call", CALLS)
def test_whatever_a_call_raises_costs_a_signal_at_most(call, code):
    module = fake.Nvml(Card("GPU-a", GIB, 8 * GIB))
    module.fails[call] = code
    reader = sampler(module)
    expected = UNKNOWN if call in ("init", "count", "handle", "uuid", "memory") else told(1, 8)
    assert [dict(reader.sample()) for _ in range(2)] == [expected] * 2
    found = reader.read()
    said = found.why + "".join(gpu.why for gpu in found.devices)
    assert call == "mig" or f"code {code}" in said


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("call", ["handle", "uuid", "memory"])
def test_a_device_that_is_lost_hides_no_other_and_keeps_its_number(call, code):
    lost, left = Card("GPU-a", 8 * GIB, 8 * GIB), Card("GPU-b", GIB, 8 * GIB)
    lost.fails[call] = code
    assert sampler(fake.Nvml(lost, left)).sample() == told(1, 8)
    assert sampler(fake.Nvml(lost, left), words="1").sample() == told(1, 8)
    assert sampler(fake.Nvml(lost, left), words="0").sample() == UNKNOWN


def test_a_device_that_is_lost_in_mid_run_is_said_once(caplog):
    card = Card("GPU-a")
    reader = sampler(fake.Nvml(card))
    assert reader.sample() == told(1, 8)
    card.fails["memory"] = fake.GPU_IS_LOST
    with caplog.at_level(logging.WARNING, "anabranch"):
        for _ in range(5):
            assert reader.sample() == UNKNOWN
    assert [record.getMessage() for record in caplog.records] == [
        "GPU GPU-a: memory: code 15; its memory is unknown"
    ]
    card.fails.clear()
    assert reader.sample() == told(1, 8)


def test_without_a_driver_nothing_is_asked_again_or_said(clock, caplog):
    module = fake.Nvml()
    module.fails["init"] = fake.LIBRARY_NOT_FOUND
    reader = sampler(module, clock)
    for _ in range(5):
        assert reader.sample() == UNKNOWN
        clock.now += 3600
    assert module.calls == ["init"]
    assert reader.read().why == "NVML: code 12"
    assert not caplog.records


def test_what_may_come_back_is_asked_again_after_ten_seconds(clock):
    module = fake.Nvml(Card("GPU-a"))
    module.fails["init"] = 9  # the driver is not loaded
    reader = sampler(module, clock)
    for _ in range(9):
        assert reader.sample() == UNKNOWN
        clock.now += 1
    assert module.calls == ["init"]
    module.fails.clear()
    clock.now += 1
    assert reader.sample() == told(1, 8)


def test_a_driver_that_is_exchanged_is_opened_anew(clock):
    module = fake.Nvml(Card("GPU-a"))
    reader = sampler(module, clock)
    reader.sample()
    module.fails["count"] = 1  # not initialised any more
    module.fails["shutdown"] = 1
    assert reader.sample() == UNKNOWN
    module.fails.clear()
    clock.now += 11
    assert reader.sample() == told(1, 8)
    assert module.calls.count("init") == 2


@pytest.mark.parametrize("error", [ImportError("no module"), OSError("a broken library")])
def test_without_the_module_there_is_no_gpu(error):
    def load():
        raise error

    reader = Nvml(load=load, environ={})
    assert reader.sample() == UNKNOWN
    assert reader.read().why == f"pynvml cannot be imported: {error}"


def test_no_devices_are_no_news():
    assert sampler(fake.Nvml()).sample() == UNKNOWN


def test_a_device_without_memory_of_its_own_is_unknown():
    assert sampler(fake.Nvml(Card("GPU-a", 0, 0))).sample() == UNKNOWN


def test_instances_are_what_is_visible_of_a_device_that_is_split():
    parts = [Card("MIG-1", 9 * GIB, 10 * GIB, busy=None), Card("MIG-2", 0, 40 * GIB, busy=None)]
    split = Card("GPU-a", 9 * GIB, 80 * GIB, busy=None, parts=parts)
    reader = sampler(fake.Nvml(split))
    assert reader.sample() == told(9, 10)
    assert [gpu.uuid for gpu in reader.read().devices] == ["MIG-1", "MIG-2"]
    assert [gpu.utilisation for gpu in reader.read().devices] == [None, None]
    assert sampler(fake.Nvml(split), words="MIG-2").sample() == told(0, 40)


def test_what_is_hidden_is_counted():
    found = sampler(fake.Nvml(Card("GPU-a"), Card("GPU-b"), Card("GPU-c")), words="2").read()
    assert ([gpu.uuid for gpu in found.devices], found.hidden) == (["GPU-c"], 2)


@pytest.mark.slow
def test_a_call_that_hangs_is_given_up_and_not_made_twice():
    """Real threads: the driver answers when the test says so."""
    module, go_on = fake.Nvml(Card("GPU-a")), threading.Event()
    reader = sampler(module, limit=0.05)
    module.before = lambda name: go_on.wait() if name == "memory" else None
    try:
        began = time.monotonic()
        assert reader.sample() == UNKNOWN
        assert time.monotonic() - began >= 0.05
        calls = list(module.calls)
        began = time.monotonic()
        for _ in range(100):
            assert reader.sample() == UNKNOWN
        assert time.monotonic() - began < 0.05
        assert module.calls == calls
        assert "no answer" in reader.read().why
    finally:
        go_on.set()
    while reader.sample() == UNKNOWN:  # its late answer is dropped, and the next is asked for
        time.sleep(0.001)
    assert module.calls.count("memory") >= 2


@pytest.mark.real_clock
async def test_a_driver_that_hangs_holds_no_loop(anyio_backend):
    """It answers when the loop has gone round a hundred times meanwhile."""
    module, asked, go_on = fake.Nvml(Card("GPU-a")), threading.Event(), threading.Event()
    reader = sampler(module, limit=60)

    def hang(name):
        if name == "memory":
            asked.set()
            go_on.wait()

    module.before = hang
    found = []

    async def sample():
        found.append(await anyio.to_thread.run_sync(reader.sample))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sample)
        while not asked.is_set():
            await anyio.sleep(0)
        for _ in range(100):
            await anyio.sleep(0)
        assert not found
        go_on.set()
    assert found == [told(1, 8)]
