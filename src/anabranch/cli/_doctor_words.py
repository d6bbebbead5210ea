"""Say what the doctor found: for people, with what is missing and what that costs; as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import attrs

from anabranch._escape import escaped
from anabranch.cli._doctor import Findings
from anabranch.samplers._machine_memory import Room
from anabranch.samplers._nvml import Gpu

WIDTH: Final = 18
FEW_DESCRIPTORS: Final = 4096
OF_A_CHILD: Final = 3  # descriptors that a script holds: two pipes, and one to wait for its end
LATE_S: Final = 0.05
MIB: Final = 2**20
GIB: Final = 2**30


@attrs.frozen
class Missing:
    """Say what a run would lack here, why, and what that costs or what helps."""

    what: str
    why: str
    costs: str


def in_words(found: Findings) -> str:
    """Return everything on lines of a terminal; none of it can steer one."""
    lines = [*_versions(found), ""]
    lines += [f"{name:<{WIDTH}}{value}" for name, value in _table(found)]
    lines += ["", *_limit(found)]
    lacks = missing(found)
    if lacks:
        lines += ["", "What is missing or scarce here:"]
    for each in lacks:
        lines += ["", f"- {each.what}: {each.why}", f"  {each.costs}"]
    return "\n".join(escaped(line) for line in lines)


def as_json(found: Findings) -> str:
    """Return everything as one JSON object on one line; null is unknown."""
    cores, room = found.cores, found.room
    return json.dumps(
        {
            "versions": dict(found.versions),
            "cores": {
                "count": cores.cores,
                "source": cores.source,
                "limits": {limit.source: limit.cores for limit in found.core_limits},
                "host": found.host_cpus,
                "in_use": found.cpu,
            },
            "pressure": {
                name.removesuffix("_pressure"): {
                    "share": share,
                    "sources": found.pressure_from[name],
                }
                for name, share in found.pressure.items()
            },
            "memory": {
                "used": room and room.used,
                "total": room and room.total,
                "source": room and room.source,
                "limits": {each.source: each.total for each in found.memory},
                "own": None if found.own_memory_mb is None else found.own_memory_mb * MIB,
            },
            "gpus": attrs.asdict(found.gpus),
            "descriptors": attrs.asdict(found.descriptors),
            "loops": {
                name: {"lag": lag, "why": ""}
                if isinstance(lag, float)
                else {"lag": None, "why": lag}
                for name, lag in found.loops.items()
            },
            "limit": {
                "initial": found.initial,
                "floor": found.floor,
                "ceiling": found.ceiling,
                "controller": found.controller,
                "why": _why(found),
            },
            "missing": [attrs.asdict(each) for each in missing(found)],
        },
        allow_nan=False,
    )


def missing(found: Findings) -> list[Missing]:
    """List what a run would lack here."""
    return [*_of_cpu(found), *_of_memory(found), *_of_gpus(found), *_of_the_process(found)]


def _versions(found: Findings) -> list[str]:
    versions = dict(found.versions)
    first = [f"anabranch {versions.pop('anabranch') or '(not installed)'}"]
    first += [f"on {versions.pop('python')}", f"on {versions.pop('system')}"]
    rest = [f"{name} {version or '(not installed)'}" for name, version in versions.items()]
    return [" ".join(first), ", ".join(rest)]


def _table(found: Findings) -> Iterator[tuple[str, str]]:
    cores = found.cores
    yield "cores", f"{cores.cores:g} by {cores.source}; the host has {found.host_cpus}"
    for limit in found.core_limits:
        if limit is not cores:
            yield "", f"{limit.cores:g} by {limit.source}"
    yield "CPU in use", _percent(found.cpu)
    for name, share in found.pressure.items():
        where = " and ".join(found.pressure_from[name])
        yield name.replace("_", " "), _percent(share) + (f", by {where}" if where else "")
    room = found.room
    yield "memory", "unknown" if room is None else _memory(room)
    for each in found.memory:
        if each is not room:
            yield "", _memory(each)
    own = found.own_memory_mb
    yield "own memory", "unknown" if own is None else _size(own * MIB)
    yield from _gpus(found)
    yield "descriptors", found.descriptors.words
    for loop, lag in found.loops.items():
        words = lag if isinstance(lag, str) else f"a short sleep is {1000 * lag:.1f} ms late"
        yield f"loop {loop}", words


def _gpus(found: Findings) -> Iterator[tuple[str, str]]:
    gpus = found.gpus
    if not gpus.devices:
        hidden = f"; {gpus.hidden} hidden by CUDA_VISIBLE_DEVICES" if gpus.hidden else ""
        yield "GPUs", f"none visible{hidden}" + (f" ({gpus.why})" if gpus.why else "")
    for place, gpu in enumerate(gpus.devices):
        yield "" if place else "GPUs", _gpu(gpu)


def _gpu(gpu: Gpu) -> str:
    memory = "memory unknown"
    if gpu.memory_used is not None and gpu.memory_total is not None:
        memory = f"{_size(gpu.memory_used)} of {_size(gpu.memory_total)} in use"
    busy = "" if gpu.utilisation is None else f", busy {_percent(gpu.utilisation)}"
    return f"{gpu.name or 'GPU'} {gpu.uuid}: {memory}{busy}" + (f" ({gpu.why})" if gpu.why else "")


def _limit(found: Findings) -> list[str]:
    return [
        f"A step with ConcurrencyConfig() begins with {found.initial} at once,",
        f"and its limit moves from {found.floor} to {found.ceiling} ({found.controller}).",
        _why(found),
    ]


def _why(found: Findings) -> str:
    cores = found.cores
    words = f"{found.initial} is min(10, 2 x {cores.cores:g} cores), by {cores.source}"
    words += ", and at least 1" if 2 * cores.cores < 1 else ""
    room = found.room
    if room is not None and room.left > 0:
        words += f"; {_size(room.left)} are left, {_size(room.left / found.initial)} for each"
    return f"{words}."


def _of_cpu(found: Findings) -> Iterator[Missing]:
    cores = found.cores.cores
    if found.cpu is None:
        yield Missing(
            "CPU in use",
            "neither /proc/stat nor a control group tells",
            "A limit does not go down when the CPUs are full; set max_concurrent_branches.",
        )
    if found.pressure.get("cpu_pressure") is None:
        yield Missing(
            "CPU pressure",
            _no_pressure(found, "cpu_pressure"),
            "Full CPUs are told from crowded ones by their use alone: later, and from 98 % on.",
        )
    if cores < found.host_cpus:
        variable = f"OMP_NUM_THREADS={max(1, int(cores))}"
        yield Missing(
            "cores",
            f"{cores:g} of the host's {found.host_cpus} may be used",
            f"Libraries that count the host's start too many threads: set {variable}.",
        )


def _of_memory(found: Findings) -> Iterator[Missing]:
    if found.room is None:
        yield Missing(
            "memory",
            "neither /proc/meminfo nor a control group tells",
            "Branches that grow are not held back; set ResourceLimits(max_memory_mb=).",
        )
    if found.pressure.get("memory_pressure") is None:
        yield Missing(
            "memory pressure",
            _no_pressure(found, "memory_pressure"),
            "Memory is judged by how much is left; swapping is not seen.",
        )
    if found.own_memory_mb is None:
        yield Missing(
            "own memory",
            "the table of processes cannot be read",
            "What a branch weighs is not learned, and max_memory_mb has nothing to go by.",
        )


def _of_gpus(found: Findings) -> Iterator[Missing]:
    gpus = found.gpus
    for gpu in gpus.devices:
        if gpu.memory_total is None:
            yield Missing(f"memory of GPU {gpu.uuid}", gpu.why, "Nobody is held back for it.")
    if gpus.why and not gpus.absent:
        yield Missing("a GPU", gpus.why, "It is left out; nvidia-smi may say more.")


def _of_the_process(found: Findings) -> Iterator[Missing]:
    limit = found.descriptors.limit
    if limit is not None and limit < FEW_DESCRIPTORS:
        at_once = max(0, limit - (found.descriptors.used or 0)) // OF_A_CHILD
        yield Missing(
            "descriptors",
            found.descriptors.words,
            f"A script takes {OF_A_CHILD}, so about {at_once:,} run at once; raise it: ulimit -n.",
        )
    for loop, lag in found.loops.items():
        if isinstance(lag, str):
            yield Missing(f"loop {loop}", lag, "Nothing runs on it here.")
        elif lag > LATE_S:
            yield Missing(
                f"loop {loop}",
                f"a short sleep is {1000 * lag:.0f} ms late while nothing runs on it",
                "The machine is busy with other work; timeouts are as late.",
            )


def _no_pressure(found: Findings, name: str) -> str:
    if found.pressure_from[name]:
        return "it could be read once only"
    kind = name.removesuffix("_pressure")
    return f"no {kind}.pressure in the control group, no /proc/pressure/{kind} (Linux with PSI)"


def _memory(room: Room) -> str:
    return f"{_size(room.used)} of {_size(room.total)} in use, by {room.source}"


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.0f} %"
