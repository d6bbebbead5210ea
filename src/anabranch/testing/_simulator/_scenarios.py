"""Name the scenarios: each is one way in which a limit goes wrong, and none was made for a law.

docs/explanation/laws.md says what each of them is; ``drawn`` ones keep a law from knowing them.
"""

from __future__ import annotations

import difflib
from typing import Final

from anabranch.errors import ConfigurationError
from anabranch.testing._simulator._drawn import drawn
from anabranch.testing._simulator._words import (
    GIB,
    Downstream,
    Machine,
    Neighbour,
    Phase,
    Scenario,
    Senses,
    Times,
    Work,
)

SEEN: Final = Senses(noise=0.02)
MIXED: Final = Work(cpu=Times(0.083, "exponential"), wait=Times(0.417, "exponential"))
CALLS: Final = Work(call=Times(0.5, "exponential"))
HEAVY: Final = Work(
    cpu=Times(10, "exponential"), wait=Times(2), memory=0.65 * GIB, ramp=8, spread=0.1
)


def _cpu() -> list[Scenario]:
    short, long = Work(cpu=Times(0.008)), Work(cpu=Times(30))
    half = Work(cpu=Times(0.05, "exponential"), wait=Times(0.25, "exponential"))
    return [
        Scenario(
            name="cpu-long", phases=[Phase(seconds=120, work=Work(cpu=Times(0.4, "exponential")))]
        ),
        Scenario(
            name="cpu-short",
            phases=[Phase(seconds=60, work=short)],
            machine=Machine(switching=0.045),
        ),
        Scenario(name="mixed", phases=[Phase(seconds=120, work=MIXED)]),
        Scenario(name="few-of-30s", phases=[Phase(seconds=305, work=long)]),
        Scenario(
            name="half-a-core",
            phases=[Phase(seconds=120, work=half)],
            machine=Machine(cores=0.5, switching=0.014),
        ),
    ]


def _waits() -> list[Scenario]:
    waits = Work(wait=Times(1, "exponential"))
    cpu = Work(cpu=Times(0.2, "exponential"))
    return [
        Scenario(name="waits-256", phases=[Phase(seconds=120, work=waits)]),
        Scenario(name="waits-40", phases=[Phase(seconds=120, work=waits)], ceiling=40),
        Scenario(
            name="cpu-waits-cpu",
            phases=[Phase(seconds=60, work=each) for each in (cpu, waits, cpu)],
        ),
    ]


def _downstream() -> list[Scenario]:
    endless = Phase(seconds=120, work=CALLS)
    bimodal = Work(call=Times(0.5, "bimodal"))
    heavy = Work(call=Times(0.5, "heavy"))
    burst = Work(call=Times(0.4, "exponential"))
    drift = ((40, 1), (70, 0.25), (110, 0.25), (140, 1))
    return [
        Scenario(name="knee", phases=[endless], downstream=Downstream(knee=32)),
        Scenario(name="refusals", phases=[endless], downstream=Downstream(knee=24, queue=0)),
        Scenario(
            name="plain-errors",
            phases=[endless],
            downstream=Downstream(knee=17, queue=0, says=False),
        ),
        Scenario(
            name="outage", phases=[endless], downstream=Downstream(knee=44, outages=((50, 55),))
        ),
        Scenario(
            name="incident",
            phases=[Phase(seconds=each, work=CALLS) for each in (40, 30, 40, 30, 40)],
            downstream=Downstream(knee=32, capacity=drift),
        ),
        Scenario(
            name="bimodal",
            phases=[Phase(seconds=120, work=bimodal)],
            downstream=Downstream(knee=30),
        ),
        Scenario(
            name="heavy-tail",
            phases=[Phase(seconds=120, work=heavy)],
            downstream=Downstream(knee=40),
        ),
        Scenario(
            name="cold-start",
            phases=[Phase(seconds=each, work=CALLS) for each in (20, 100)],
            downstream=Downstream(knee=77, speed=((20, 0.1), (20, 1))),
        ),
        Scenario(
            name="bursts",
            phases=[Phase(seconds=20, work=burst, supply=40) for _ in range(6)],
            downstream=Downstream(knee=24, queue=8),
            senses=Senses(noise=0.02, rests=True),
        ),
    ]


def _memory() -> list[Scenario]:
    # As in drawn scenarios, it becomes no heavier than what fits until anybody can have seen it.
    light = Work(cpu=Times(10, "exponential"), wait=Times(2), memory=0.375 * GIB, ramp=2)
    twice = Work(cpu=Times(10, "exponential"), wait=Times(2), memory=0.75 * GIB, ramp=2)
    device = Work(wait=Times(4, "exponential"), cpu=Times(0.1), gpu_memory=1.4 * GIB, ramp=1)
    herd = Work(cpu=Times(3.8, "exponential"), memory=0.65 * GIB, ramp=3)
    spare = Work(cpu=Times(4, "exponential"), memory=0.32 * GIB, ramp=2)
    big = Machine(cores=64)
    taken = ((60, 0.0), (68, 0.5), (110, 0.5), (112, 0.0))
    return [
        Scenario(name="heavy", phases=[Phase(seconds=180, work=HEAVY)], machine=big),
        Scenario(
            name="weight-doubles",
            phases=[Phase(seconds=100, work=light), Phase(seconds=100, work=twice)],
            machine=big,
        ),
        Scenario(
            name="gpu",
            phases=[Phase(seconds=120, work=device)],
            machine=Machine(gpu_memory=24 * GIB),
        ),
        Scenario(
            name="herd",
            phases=[Phase(seconds=30, work=herd, supply=n) for n in (10, 80, 10, 80)],
            machine=big,
        ),
        Scenario(
            name="neighbour-memory",
            phases=[Phase(seconds=each, work=spare) for each in (60, 52, 48)],
            neighbours=[Neighbour(memory=taken)],
            machine=big,
        ),
    ]


def _surroundings() -> list[Scenario]:
    work = Work(cpu=Times(0.1, "exponential"), wait=Times(0.1, "exponential"))
    slower = Work(cpu=Times(0.1, "exponential"), wait=Times(0.35, "exponential"))
    waits = Work(wait=Times(0.1, "exponential"))
    visit = ((40, 0.0), (40, 8.0), (80, 8.0), (80, 0.0))
    return [
        Scenario(
            name="neighbour-cpu",
            phases=[Phase(seconds=40, work=work) for _ in range(3)],
            neighbours=[Neighbour(threads=visit)],
        ),
        Scenario(
            name="waiting-beside-cpu",
            phases=[Phase(seconds=60, work=waits)],
            neighbours=[Neighbour(threads=((0, 8.0),))],
            ceiling=64,
        ),
        Scenario(
            name="flapping",
            phases=[Phase(seconds=120, work=work)],
            neighbours=[Neighbour(threads=((0, 4.0),), period=10)],
        ),
        Scenario(
            name="some-unseen",
            phases=[Phase(seconds=120, work=MIXED)],
            senses=Senses(noise=0.02, missing=1 / 3),
        ),
        Scenario(
            name="blind",
            phases=[Phase(seconds=120, work=CALLS)],
            downstream=Downstream(knee=32),
            senses=Senses(missing=1.0),
        ),
        Scenario(
            name="stuck",
            phases=[Phase(seconds=120, work=slower)],
            senses=Senses(noise=0.02, stuck=((40, 50),)),
        ),
        Scenario(
            name="late-and-noisy",
            phases=[Phase(seconds=120, work=MIXED)],
            senses=Senses(noise=0.1, late=2),
        ),
    ]


NAMED: Final = {
    scenario.name: scenario
    for scenarios in (_cpu(), _waits(), _downstream(), _memory(), _surroundings())
    for scenario in scenarios
}


def scenario_named(name: str) -> Scenario:
    """Return a scenario by its name, also one that is ``drawn-`` and a seed.

    Raises:
        ConfigurationError: there is none; it suggests the nearest name.
    """
    if name in NAMED:
        return NAMED[name]
    prefix, _, seed = name.partition("-")
    if prefix == "drawn" and seed.isascii() and seed.isdecimal():
        return drawn(int(seed))
    near = difflib.get_close_matches(name, NAMED, n=1, cutoff=0.0)[0]
    raise ConfigurationError(
        f"scenario {name!r:.80} does not exist; did you mean {near}? "
        f"There are {', '.join(NAMED)}, and drawn-0, drawn-1, ..."
    )
