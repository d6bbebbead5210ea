"""How many branches memory has room for decides about cuts, raises, and ways back."""

from __future__ import annotations

import math

import attrs
import pytest

from anabranch import Bounds, Load
from anabranch.controllers import Weir
from anabranch.controllers._weir_epochs import Epochs, moved
from anabranch.controllers._weir_memory import Weight, is_unseen
from anabranch.controllers._weir_room import Room, Rooms, again, is_too_much, looked
from anabranch.controllers._weir_search import search
from anabranch.controllers._weir_window import Window
from anabranch.testing._simulator._words import GIB
from tests.controllers.test_weir_memory import herds, played

SHARES = (0.85, 0.88)


def counted(limit: int, rate: float, run_time: float) -> Window:
    """Return what ten seconds at a limit have seen."""
    log, count = math.log(run_time), 10 * rate
    return Window(limit, n=count, s=log * count, ss=log * log * count, done=count, span=10.0)


@pytest.mark.parametrize(("held", "back"), [(10, 10), (12, 12), (16, 12)])
def test_a_probe_that_failed_goes_back_no_further_than_there_is_room_for(
    held: int, back: int
) -> None:
    law = Weir()
    state = law.initial(Bounds(ceiling=64, initial=8))
    loads = herds(8, 62)  # each a sixteenth of the memory, of which another one is in use
    for load in loads[:-1]:
        decision = law.next(state, attrs.evolve(load, limit=8))
        state = attrs.evolve(decision.state, limit=8)
    probing = attrs.evolve(
        state.epochs, mode="probe", low=counted(held, 9.0, 1.0), window=counted(8, 3.0, 1.0)
    )
    state = attrs.evolve(state, epochs=probing, heavy_until=-math.inf, changed=0.0, raised=0.0)
    decision = law.next(state, attrs.evolve(loads[-1], limit=8))
    assert decision.limit == back
    assert decision.state.epochs.window.limit == back


def test_a_limit_that_is_a_little_too_high_is_left_alone_unless_memory_is_full() -> None:
    load = Load(t=1.0, limit=40, in_use=40)
    slight, heavy = Room(now=38.5), Room(now=35.5)
    for full, cut in ((0.5, False), (0.84, False), (0.86, True)):
        rooms = Rooms(memory=Weight(full=full))
        assert is_too_much(rooms, slight, load, 0.85) is cut
        assert is_too_much(rooms, heavy, load, 0.85)
        assert not is_too_much(rooms, Room(now=39.5), load, 0.85), "not one branch too many"
    assert not is_too_much(Rooms(gpu=Weight(full=0.95)), slight, load, 0.85), "ours alone"


@pytest.mark.parametrize("scarce", ["memory", "gpu memory"])
def test_the_scarcer_kind_decides_and_is_named(scarce: str) -> None:
    total = {"memory": 64 * GIB, "gpu memory": 64 * GIB, scarce: 12 * GIB}
    rooms = Rooms()
    for load in herds(8, 30):
        told = attrs.evolve(
            load,
            memory_total=total["memory"],
            gpu_memory_used=load.own_memory,
            gpu_memory_total=total["gpu memory"],
        )
        rooms, room = looked(rooms, told, 0.25, 6.0, 0.0, SHARES)
    assert room.cause.startswith(f"{scarce} ")
    assert 7 < room.now < 13
    assert room.last == room.now


def test_what_memory_allowed_holds_for_a_while_when_it_is_not_told() -> None:
    rooms = Rooms()
    for load in herds(8, 30):
        rooms, room = looked(rooms, load, 0.25, 6.0, 0.0, SHARES)
    unknown = Load(t=load.t + 4.0, limit=8, in_use=8, ages=(1.0,) * 8)
    _, found = looked(rooms, unknown, 0.25, 6.0, 0.0, SHARES)
    assert (found.now, found.last) == (math.inf, room.last)
    _, found = looked(rooms, attrs.evolve(unknown, t=load.t + 6.0), 0.25, 6.0, 0.0, SHARES)
    assert found.last == math.inf


def test_nothing_is_raised_while_memory_is_more_than_was_to_be_read() -> None:
    load = Load(t=100.0, limit=10, in_use=10)
    weight = Weight(each=GIB, room=20, since=0.0, surprise=0.1)
    assert is_unseen(weight, load, 0.0, 3.0)
    assert not is_unseen(attrs.evolve(weight, surprise=0.03), load, 0.0, 3.0)
    assert not is_unseen(attrs.evolve(weight, room=31), load, 0.0, 3.0), "there is room for more"


def test_branches_that_become_heavier_are_seen_right_after_a_raise() -> None:
    law = Weir()
    state, limits = played(law, herds(8, 60))
    before = limits[-1]
    heavier = []
    for load in herds(before, 6, 60.0):
        assert load.own_memory is not None
        own = 1.4 * load.own_memory
        heavier.append(attrs.evolve(load, own_memory=own, memory_used=GIB + own, limit=before))
    raised = attrs.evolve(state, raised=59.75, limit=before)
    state, limits = played(law, heavier, raised)
    assert state.rooms.memory.extra > 0.1 * GIB


def test_full_memory_is_read_again_soon() -> None:
    load = Load(t=1.0, limit=10, in_use=10)
    full = Weight(each=GIB, total=16 * GIB, full=0.6)
    assert again(Rooms(memory=full), load) == again(Rooms(gpu=full), load) == 0.25
    assert again(Rooms(memory=attrs.evolve(full, full=0.3)), load) is None
    assert again(Rooms(memory=full), attrs.evolve(load, in_use=0)) is None


@pytest.mark.parametrize(
    ("turn", "walled", "target"), [(1, False, 40), (-1, False, 26), (-1, True, 32)]
)
def test_a_probe_goes_where_its_turn_is_but_not_below_what_a_guard_decides(
    turn: int, walled: bool, target: int
) -> None:
    window = counted(32, 60.0, 0.5)
    state, load = probing(window, turn)
    state = attrs.evolve(state, walled=walled)
    assert search(state, load, 1.0, 0.5, 64.0)[1] == target


def probing(window: Window, turn: int) -> tuple[Epochs, Load]:
    """Return a search that holds a limit and probes next, and its next sample."""
    state = Epochs(window, mode="hold", proven=window, until=50.0, turn=turn)
    load = Load(t=60.0, limit=32, in_use=32, peak=32, queued=9, finished=60, latencies=(0.5,) * 60)
    return state, load


@pytest.mark.parametrize(("before", "forgets"), [(0.9, True), (0.6, False)])
def test_a_neighbour_who_leaves_a_cpu_that_was_in_nobodys_way_changes_nothing(
    before: float, forgets: bool
) -> None:
    state, load = probing(counted(32, 60.0, 0.5), 1)
    state = attrs.evolve(state, cpu=before, until=math.inf, roof=64.0)
    for t in (60.0, 61.0, 62.0):
        state, limit, _ = search(state, attrs.evolve(load, t=t, cpu=0.1), 1.0, 0.5, 256.0)
        if limit != load.limit:
            break
    assert (limit == 64, state.roof == math.inf) == (forgets, forgets)


def test_after_a_cut_by_a_guard_the_next_probe_goes_up_again() -> None:
    state, _ = probing(counted(32, 60.0, 0.5), -1)
    assert moved(state, 20, 60.0, rest=True).turn == 1
    assert moved(state, 20, 60.0).turn == -1


def test_a_look_below_that_is_due_is_not_put_off_by_a_cpu_that_is_busy_just_now() -> None:
    state, load = probing(counted(32, 60.0, 0.5), -1)
    state = attrs.evolve(state, cpu=0.8)
    for cpu in (0.0, 0.8, 1.0):
        assert search(state, attrs.evolve(load, cpu=cpu), 1.0, 0.5, 64.0)[1] == 26
