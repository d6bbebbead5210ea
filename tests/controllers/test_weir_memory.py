"""What branches weigh is found from readings that are late, skewed or surprising."""

from __future__ import annotations

import math
import random
from typing import Any

import attrs
import pytest

from anabranch import Bounds, Load
from anabranch.controllers import Weir
from anabranch.controllers._weir_memory import Sight, Weight, cap, is_unseen, sight_of, weigh
from anabranch.controllers._weir_weight import Guesses, heard, mixed
from anabranch.testing._simulator._words import GIB


def herds(limit: int, seconds: float, begin: float = 0.0) -> list[Load]:
    """Branches of a sixteenth of the memory each, grown at four seconds, that end at six."""
    loads = []
    for tick in range(int(seconds * 4)):
        t = begin + tick / 4
        age = t % 6
        own = limit * GIB * min(1.0, age / 4)
        memory: dict[str, Any] = {
            "memory_used": GIB + own,
            "memory_total": 16.0 * GIB,
            "own_memory": own,
        }
        ended = {"finished": limit, "latencies": (6.0,) * limit} if t and age < 0.25 else {}
        ages = (age,) * limit
        loads.append(Load(t=t, limit=limit, in_use=limit, queued=9, ages=ages, **memory, **ended))
    return loads


def played(law: Weir, loads: list[Load], state: Any = None) -> tuple[Any, list[int]]:
    state = law.initial(Bounds(ceiling=64, initial=int(loads[0].limit))) if state is None else state
    limits = []
    for load in loads:
        decision = law.next(state, load)
        state = decision.state
        limits.append(decision.limit)
    return state, limits


def test_branches_that_end_between_two_readings_are_no_neighbour() -> None:
    law = Weir()
    state, limits = played(law, herds(8, 11.75))
    assert min(limits) >= 8
    load = herds(8, 0.25, 12.0)[0]
    skewed = attrs.evolve(load, memory_used=9.0 * GIB)  # read before they ended, and own after
    _, limits = played(law, [attrs.evolve(skewed, limit=limits[-1])], state)
    assert limits[0] >= 8


def test_a_neighbour_who_comes_as_they_end_is_seen_all_the_same() -> None:
    law = Weir()
    state, limits = played(law, herds(8, 12.25))
    more = [
        attrs.evolve(load, memory_used=load.memory_used + (load.t - 12) * 1.5 * GIB)
        for load in herds(8, 4, 12.25)
    ]
    _, limits = played(law, more, state)
    assert limits[-1] < 8


def weighed(surprise: float) -> float:
    """Return how many fit where readings differ from what is expected by such a share."""
    rng = random.Random(1)
    weight = Weight()
    for load in herds(8, 60):
        off = 1 + surprise * rng.choice((-1, 1))
        assert load.own_memory is not None
        own = load.own_memory * off
        sight = sight_of(weight, GIB + own, 16.0 * GIB, own, 0.88)
        assert isinstance(sight, Sight)
        weight = weigh(weight, sight, load, 0.25, 6.0)
    return cap(weight, sight, load, 6.0)


def test_who_is_surprised_leaves_more_of_the_memory_free() -> None:
    assert weighed(0.0) == pytest.approx((0.88 * 16 - 1) / 1, abs=0.4)
    assert weighed(0.0) > weighed(0.05) > weighed(0.15)


@pytest.mark.parametrize("late", [0.0, 2.0])
def test_a_raise_waits_until_what_the_last_one_weighs_was_seen(late: float) -> None:
    weight = Weight(each=GIB, room=20, since=late, late=late)
    load = Load(t=0, limit=10, in_use=10)
    for t in (10.5, 12.9 + late):
        assert is_unseen(weight, attrs.evolve(load, t=t), 10, 3.0)
    assert not is_unseen(weight, attrs.evolve(load, t=13.1 + late), 10, 3.0)
    roomy = attrs.evolve(weight, room=40)
    assert not is_unseen(roomy, attrs.evolve(load, t=10.5), 10, 3.0)


def test_one_that_lives_long_makes_nobody_heavier() -> None:
    rng = random.Random(3)
    begun = [rng.uniform(0, 5) for _ in range(30)]
    ends = [each + rng.expovariate(0.2) for each in begun]
    guesses = Guesses()
    for tick in range(60 * 4):
        t = tick / 4
        for place, end in enumerate(ends):
            if end <= t:
                begun[place], ends[place] = t, t + rng.expovariate(0.2)
        ages = [max(0.0, t - each) for each in begun]
        own = sum(min(1.0, age / 3) for age in ages) * GIB * rng.gauss(1, 0.1)
        guesses = heard(guesses, t, own, 30, ages, 0.25, 5.0)
        if t > 20:
            assert mixed(guesses).each == pytest.approx(GIB, rel=0.25)


def test_noise_of_readings_is_no_neighbour() -> None:
    def fits(noise: float) -> float:
        rng, weight = random.Random(2), Weight()
        found = []
        for load in herds(8, 60):
            assert load.own_memory is not None
            used = 4 * GIB + load.own_memory + rng.choice((-1, 1)) * noise * GIB
            sight = Sight(used, 16.0 * GIB, load.own_memory, 0.88)
            weight = weigh(weight, sight, load, 0.25, 6.0)
            found.append(cap(weight, sight, load, 6.0))
        return min(found[len(found) // 2 :])

    assert fits(1.5) > fits(0.0) - 1


def test_nothing_is_started_where_others_will_have_filled_memory() -> None:
    load = Load(t=0, limit=10, in_use=10, queued=5)
    calm = Weight(each=0.8 * GIB, quick=6 * GIB, slow=6 * GIB)
    rising = attrs.evolve(calm, slow=5 * GIB)
    filling = Sight(14 * GIB, 16 * GIB, 8 * GIB, 0.85)
    assert cap(calm, filling, load, 3.0) > 5
    assert cap(rising, filling, load, 3.0) <= 5
    roomy = Sight(11 * GIB, 16 * GIB, 8 * GIB, 0.85)
    assert cap(rising, roomy, load, 3.0) > 5


def test_where_memory_is_full_fewer_are_wanted_than_run_though_nothing_is_known() -> None:
    load = Load(t=0, limit=10, in_use=10)
    assert cap(Weight(), Sight(15.2 * GIB, 16 * GIB, 1 * GIB, 0.85), load, 3.0) < 9
    assert cap(Weight(), Sight(13 * GIB, 16 * GIB, 1 * GIB, 0.85), load, 3.0) == math.inf
