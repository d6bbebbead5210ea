"""Ask both kinds of memory, the machine's and the GPUs', for how many branches there is room.

Each is weighed for itself, and the scarcer one decides. A limit that is a little too high is left
alone, or it would be moved at every sample; not so where more of the machine's memory is in use
than may be, for then whoever else wants some leaves no time for a cut.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._seen import percent
from anabranch.controllers._weir_memory import Sight, Weight, cap, is_unseen, sight_of, weigh

SOON = 0.25  # seconds to the next sample while memory fills
WATCHED = 0.4  # share of memory from which on it is watched closely
STALE = 5.0  # seconds for which what memory allowed still holds when nothing is seen of it
LATEST = 5.0  # seconds by which readings are late, at most
SLIGHT = 0.9  # cuts above this share of the limit are skipped


@attrs.frozen
class Rooms:
    """Remember what branches weigh in each kind of memory."""

    memory: Weight = attrs.field(factory=Weight)
    gpu: Weight = attrs.field(factory=Weight)


@attrs.frozen
class Room:
    """Say for how many branches there is room: now, or when it was seen last; and what is seen."""

    now: float = math.inf
    last: float = math.inf
    cause: str = ""


def looked(
    rooms: Rooms, now: Load, dt: float, run_time: float, began: float, shares: tuple[float, float]
) -> tuple[Rooms, Room]:
    """Weigh the branches, and say how many fit.

    Args:
        rooms: what is known. now: a sample. dt: seconds that it covers. run_time: the usual one.
        began: when the first sample was taken.
        shares: of the memory, and of that of the GPUs, that may be used.
    """
    room = Room()
    weights = []
    for name, share, weight in zip(
        ("memory", "gpu memory"), shares, (rooms.memory, rooms.gpu), strict=True
    ):
        known, least = _weighed(weight, name, share, now, dt, run_time, began)
        weights.append(known)
        first = least if least.now < room.now else room
        room = attrs.evolve(first, last=min(room.last, least.last))
    return Rooms(*weights), room


def is_too_much(rooms: Rooms, room: Room, now: Load, share: float) -> bool:
    """Tell whether the limit is to be cut; ``share`` of the machine's memory may be used."""
    if room.now < SLIGHT * now.limit:
        return True
    return rooms.memory.full > share and room.now <= now.limit - 1


def unseen(rooms: Rooms, now: Load, raised: float, run_time: float) -> bool:
    """Tell whether the limit must not be raised before more has been seen."""
    return any(is_unseen(each, now, raised, run_time) for each in (rooms.memory, rooms.gpu))


def again(rooms: Rooms, now: Load) -> float | None:
    """Return in how many seconds memory is to be read again; None if that is no hurry."""
    for weight in (rooms.memory, rooms.gpu):
        if weight.total is None or weight.full < WATCHED or not now.in_use:
            continue
        if weight.each * now.limit > 0.25 * weight.total:
            return SOON
    return None


def _weighed(
    weight: Weight, name: str, share: float, now: Load, dt: float, run_time: float, began: float
) -> tuple[Weight, Room]:
    if name == "memory":
        used, total, own = now.memory_used, now.memory_total, now.own_memory
    else:
        used, total, own = now.gpu_memory_used, now.gpu_memory_total, None
    sight = sight_of(weight, used, total, own, share)
    if sight is None:
        recent = now.t - weight.room_at <= STALE
        return weight, Room(last=weight.room if recent else math.inf)
    if weight.since == math.inf:
        weight = attrs.evolve(weight, since=now.t, late=min(LATEST, now.t - began))
    weight = weigh(weight, sight, now, dt, run_time)
    most = cap(weight, sight, now, run_time)
    return attrs.evolve(weight, room=most, room_at=now.t), Room(
        most, most, _full(name, sight, weight)
    )


def _full(name: str, sight: Sight, weight: Weight) -> str:
    each = f", {weight.each / 2**20:.0f} MiB a branch" if weight.each else ""
    return f"{name} {percent(sight.full)} of {sight.total / 2**30:.1f} GiB{each}"
