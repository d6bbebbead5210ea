"""Draw scenarios by a seed, so that a law is judged on what nobody has tuned it for.

Some could not be survived by any law, and would only tell of the drawing: the first wave of
branches, which no law has decided about, fits into the memory; and a neighbour takes memory no
faster than in two run times, so that a law that starts nothing more can make room.
"""

from __future__ import annotations

import math
import random
from typing import Final

import attrs

from anabranch.testing._simulator._words import (
    GIB,
    SHAPES,
    Course,
    Downstream,
    Machine,
    Neighbour,
    Phase,
    Scenario,
    Senses,
    Times,
    Work,
)

FIRST_WAVE: Final = 10  # the most that a scenario of many cores begins with
KINDS: Final = ("cpu", "waits", "mixed", "calls", "calls", "refusals", "heavy", "heavy", "gpu")
MOST: Final = 250.0  # branches a second at best: a scenario should take no longer than that
ROOM: Final = 0.8  # of the memory, for the branches that fit into it
GPU_ROOM: Final = 0.9
SPARE: Final = 0.2  # of the memory of branches is still free where they fill what they may
GPU_SPARE: Final = 0.1


def drawn(seed: int) -> Scenario:
    """Return the scenario of a seed: any kind of work, machine, neighbours and samplers."""
    rng = random.Random(f"{seed}/scenario")
    kind = rng.choice(KINDS)
    ceiling = rng.choice((32, 64, 128, 256))
    best = max(2, round(_log(rng, 4, ceiling / 1.3)))
    machine = _machine(rng, kind)
    work = _work(rng, kind, machine, best, ceiling)
    seconds = [rng.randrange(60, 121, 10) for _ in range(rng.choice((1, 1, 2, 3)))]
    works = [work, *(_changed(rng, work) for _ in seconds[1:])]
    end = float(sum(seconds))
    downstream = _downstream(rng, kind, best, end) if work.call.mean else None
    phases = _phases(rng, works, seconds, machine, best)
    neighbours = _neighbours(rng, kind, machine, end, 2 * max(map(alone, works)))
    senses = _senses(rng, end)
    return Scenario(
        name=f"drawn-{seed}",
        phases=_survivable(phases, senses),
        machine=machine,
        downstream=downstream,
        neighbours=neighbours,
        senses=senses,
        ceiling=ceiling,
    )


def _survivable(phases: list[Phase], senses: Senses) -> list[Phase]:
    """Return the phases, each with work no heavier than what fits until anybody can have seen it.

    Where all times are constant branches begin together: all are heavier when it is seen.
    """
    kept = phases[:1]
    for phase in phases[1:]:
        before, work = kept[-1].work, phase.work
        seen = 1.0 + senses.late + before.onset + before.ramp / 2
        together = before.cpu.shape == before.wait.shape == "constant"
        times = alone(before) / seen
        times = min(1.0, times) if together else times
        memory = min(work.memory, before.memory * (1 + SPARE * times))
        gpu_memory = min(work.gpu_memory, before.gpu_memory * (1 + GPU_SPARE * times))
        work = attrs.evolve(work, memory=memory, gpu_memory=gpu_memory)
        kept.append(attrs.evolve(phase, work=work))
    return kept


def _phases(
    rng: random.Random, works: list[Work], seconds: list[int], machine: Machine, best: int
) -> list[Phase]:
    """Return phases without an end of work, or one time in seven each with bursts and rests."""
    if rng.random() > 1 / 7:
        return [Phase(seconds=n, work=each) for n, each in zip(seconds, works, strict=True)]
    phases = []
    for work, whole in zip(works, seconds, strict=True):
        rate = min(best / alone(work), machine.cores / work.cpu.mean if work.cpu.mean else math.inf)
        for _ in range(2):
            supply = math.ceil(rate * whole / 2 * rng.uniform(0.2, 0.8))
            phases.append(Phase(seconds=whole / 2, work=work, supply=supply))
    return phases


def alone(work: Work) -> float:
    """Return how long a branch takes that has everything for itself, on average."""
    return work.cpu.mean + work.wait.mean + work.call.mean


def _log(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _machine(rng: random.Random, kind: str) -> Machine:
    roomy = kind in ("heavy", "gpu")
    return Machine(
        cores=rng.choice((8.0, 16.0, 64.0) if roomy else (0.5, 1.0, 2.0, 4.0, 4.0, 8.0, 16.0)),
        switching=rng.uniform(0.005, 0.05),
        memory=rng.choice((4, 16, 64)) * GIB,
        gpu_memory=rng.choice((16, 24, 80)) * GIB if kind == "gpu" else None,
        taken=rng.uniform(0.05, 0.3),
    )


def _work(rng: random.Random, kind: str, machine: Machine, best: int, ceiling: int) -> Work:
    shape = rng.choice(SHAPES)
    whole = _log(rng, 0.1, 5)
    errors = rng.choice((0.0, 0.0, 0.02))
    if kind == "cpu":
        seconds = max(whole / 4, machine.cores / MOST)
        return Work(cpu=Times(seconds, shape), errors=errors)
    if kind == "waits":
        return Work(wait=Times(max(whole, ceiling / MOST), shape), errors=errors)
    if kind in ("calls", "refusals"):
        seconds = max(whole, best / MOST)
        call = rng.uniform(0.6, 1.0) * seconds
        wait = Times(seconds - call, "exponential")
        return Work(call=Times(call, shape), wait=wait, errors=errors)
    if kind == "mixed":
        whole = max(whole, best / MOST)
        cpu = min(whole, machine.cores * whole / max(best, machine.cores))
        rounds = rng.choice((1, 1, 3))
        wait = Times(whole - cpu, "exponential")
        return Work(cpu=Times(cpu, shape), wait=wait, rounds=rounds, errors=errors)
    return _heavy(rng, kind, machine, best)


def _heavy(rng: random.Random, kind: str, machine: Machine, best: int) -> Work:
    whole = _log(rng, 2, 15)
    fits = min(max(best, math.ceil(1.3 * FIRST_WAVE)), 60)
    cpu = whole * min(1.0, machine.cores / fits) * rng.uniform(0.3, 0.9)
    weight = ROOM * (1 - machine.taken) * machine.memory / fits
    if machine.gpu_memory is not None:
        weight = GPU_ROOM * machine.gpu_memory / fits
    return Work(
        cpu=Times(cpu, rng.choice(("constant", "exponential"))),
        wait=Times(whole - cpu, rng.choice(("constant", "exponential"))),
        memory=0.0 if kind == "gpu" else weight,
        gpu_memory=weight if kind == "gpu" else 0.0,
        ramp=rng.uniform(0.1, 0.9) * whole,
        onset=rng.choice((0.0, 0.0, 0.2)) * whole,
        spread=rng.uniform(0, 0.2),
    )


def _changed(rng: random.Random, work: Work) -> Work:
    """Return the work of a later phase: slower, or heavier or lighter, or the same."""

    def longer(times: Times) -> Times:
        return Times(times.mean * factor, times.shape)

    factor = rng.choice((1.0, 1.5, 3.0))
    weight = rng.choice((0.5, 1.0, 1.0, 2.0))
    return Work(
        cpu=longer(work.cpu),
        wait=longer(work.wait),
        call=longer(work.call),
        rounds=work.rounds,
        memory=work.memory * weight,
        gpu_memory=work.gpu_memory * weight,
        ramp=work.ramp,
        onset=work.onset,
        spread=work.spread,
        errors=work.errors,
    )


def _downstream(rng: random.Random, kind: str, best: int, end: float) -> Downstream:
    begin = rng.uniform(0.2, 0.5) * end
    dip = rng.uniform(0.25, 0.7)
    drift: Course = ((begin, 1), (begin + 10, dip), (begin + 40, dip), (begin + 50, 1))
    cold: Course = ((15, rng.uniform(0.1, 0.5)), (15, 1))
    outage = rng.uniform(0.2, 0.8) * end
    fate = rng.choice(("none", "none", "none", "drift", "cold", "outage"))
    return Downstream(
        knee=best,
        loss=rng.uniform(0.1, 1.0),
        queue=rng.uniform(0, 0.5) * best if kind == "refusals" else None,
        says=rng.random() < 0.7,
        refusal=rng.uniform(0.1, 0.5),
        capacity=drift if fate == "drift" else (),
        speed=cold if fate == "cold" else (),
        outages=((outage, outage + rng.uniform(2, 8)),) if fate == "outage" else (),
    )


def _neighbours(
    rng: random.Random, kind: str, machine: Machine, end: float, rise: float
) -> tuple[Neighbour, ...]:
    begin = rng.uniform(0.2, 0.6) * end
    leave = begin + rng.uniform(15, 40)
    threads = machine.cores * rng.choice((0.5, 1.0, 2.0))
    share = rng.uniform(0.1, 0.4)
    period = rng.choice((None, None, rng.uniform(8, 30)))
    fate = rng.random()
    if fate < 0.2:
        course: Course = ((begin, 0), (begin, threads), (leave, threads), (leave, 0))
        return (Neighbour(threads=course, period=period),)
    if fate < 0.45 and kind == "heavy":
        course = ((begin, 0), (begin + rise, share), (leave + rise, share), (leave + rise + 2, 0))
        return (Neighbour(memory=course),)
    return ()


def _senses(rng: random.Random, end: float) -> Senses:
    stuck = rng.uniform(0.2, 0.8) * end
    return Senses(
        noise=rng.choice((0.0, 0.02, 0.05, 0.1)),
        late=rng.choice((0.0, 0.0, 0.0, 1.0, 2.0)),
        missing=rng.choice((0.0, 0.0, 0.0, 0.1, 0.3)),
        lacking=rng.choice(((), (), ("cpu_pressure", "memory_pressure"))),
        stuck=((stuck, stuck + rng.uniform(3, 10)),) if rng.random() < 0.1 else (),
        rests=rng.random() < 0.5,
    )
