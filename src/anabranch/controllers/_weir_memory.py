"""Keep what branches weigh within memory: the guard that looks ahead.

What matters is the most that a branch has weighed on average: where all grow at once that is a
grown branch, and where they come and go it is less, which is the credit for seldom being all grown
at once. It is forgotten slowly. A limit is raised at most once in a run time, so that what it will
weigh has been seen before the next raise. How much of the memory may be used depends on how well
its readings were foreseen: who is surprised often, or reads late, leaves more of it free. And if
memory is going to be full soon, whoever fills it, nothing is started.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._weir_weight import Guesses, heard, mixed

FULL = 0.9  # from here on machines swap: whatever was learnt, start nothing
FORGOTTEN = 3.0  # seconds after which a weight counts half, or half a run time
SMOOTH = 0.6  # seconds over which readings are averaged, by half-life
QUICK, SLOW = 0.25, 1.0  # likewise, of what others use: what lies between them is a trend
LATE = 5.0  # seconds after which half of those who have ended are forgotten
HEAVIER = 0.05
SIGMAS = 2.0
CHANCE = 0.45  # over the root of the limit: so much more of them may be grown at once
UNSURE = 0.4  # of the usual surprise is left free, as a share of all memory
BLIND = 0.12  # likewise where readings are a run time late, or more
LEAST = 0.85  # of what may be used is used, however unsure
ODD = 0.01  # variance of the surprises that is supposed at first
YOUNG = 0.5  # of grown ones: what is read is compared with no less, or a little were a surprise
HALF = 0.5  # full: below that it is no matter how heavy those will be that have just begun
NEAR = 3.0  # times the limit: with so much room a raise needs no watching
HEAVY = 0.06  # surprise above which nothing is raised, until it is known what weighs more
EVEN = 0.5  # seconds over which what a branch weighs now is averaged, by half-life
HIGHEST = 6.0  # seconds after which the most of that counts half, or as many run times
SHOWN = 2.0
PEAK = 8.0  # seconds after which the share that was grown counts half, or as many run times
EASED = 0.88  # of those that run are wanted when it is full, or fewer
STEADY = 0.02  # of all memory: a smaller trend is none


@attrs.frozen
class Weight:
    """Remember what branches weigh, bytes.

    Attributes:
        each: of a grown branch, the most of late; 0 while unknown. grown: share of those that run.
        extra: what it is expected to become more, since branches are heavier than before.
        quick, slow, noise: what others use, averaged; the variance of a reading.
        idle: in use when nothing ran, for when our own are never told (``told``).
        total: what there is, when it was told last. full: share of it in use, likewise.
        surprise, wonder: by what share our memory is more than expected, averaged; its variance.
        room, room_at: how many branches fitted, and when that was seen.
        mean, peak: of a branch that runs, whatever its age: averaged, and the most of late.
        since, late: when it was seen first, and how long that was after the beginning, seconds.
        own: what was read last of our memory.
    """

    each: float = 0.0
    grown: float = 1.0
    extra: float = 0.0
    guesses: Guesses = attrs.field(factory=Guesses, repr=False)
    quick: float | None = None
    slow: float = 0.0
    noise: float = 0.0
    idle: float = 0.0
    told: bool = False
    total: float | None = None
    full: float = 0.0
    surprise: float = 0.0
    wonder: float = ODD
    room: float = math.inf
    room_at: float = -math.inf
    mean: float = 0.0
    peak: float = 0.0
    since: float = math.inf
    late: float = 0.0
    own: float = 0.0


@attrs.frozen
class Sight:
    """Say what is seen of one kind of memory, bytes; ``own`` may be unknown."""

    used: float
    total: float
    own: float | None
    share: float  # of total that may be used

    @property
    def full(self) -> float:
        """Share of it in use."""
        return self.used / self.total


def sight_of(
    weight: Weight, used: float | None, total: float | None, own: float | None, share: float
) -> Sight | None:
    """Return what is seen, a gap filled by what was seen before; None if that says nothing."""
    total = weight.total if total is None else total
    if total is None:
        return None
    if weight.told and own is None and used is not None:
        own = max(0.0, used - (weight.quick or 0.0))
    if weight.told and used is None and own is not None:
        used = min(total, own + (weight.quick or 0.0))
    return None if used is None else Sight(used, total, own, share)


def weigh(
    weight: Weight,
    sight: Sight,
    now: Load,
    dt: float,
    run_time: float,
) -> Weight:
    """Return what is known after one more sample."""
    if now.in_use == 0 and sight.own is None:
        weight = attrs.evolve(weight, idle=sight.used)
    own = max(0.0, sight.used - weight.idle) if sight.own is None else min(sight.own, sight.used)
    others = sight.used - own - _gone(weight, sight.used - own, own, now)
    if sight.own is not None and not weight.told:
        # Until now all of it was taken for ours.
        weight = Weight(told=True, since=weight.since, late=weight.late)
    weight = attrs.evolve(weight, total=sight.total, full=sight.full, own=own)
    if weight.quick is None:
        weight = attrs.evolve(weight, quick=others, slow=others)
    quick = weight.quick or 0.0
    wrong = others - quick
    weight = attrs.evolve(
        weight,
        quick=others - wrong * 0.5 ** (dt / QUICK),
        slow=others + (weight.slow - others) * 0.5 ** (dt / SLOW),
        noise=wrong**2 + (weight.noise - wrong**2) * 0.5 ** (dt / 10.0),
    )
    if not now.in_use:
        return weight
    guesses = heard(weight.guesses, now.t, own, now.in_use, now.ages, dt, run_time)
    found = mixed(guesses)
    kept = weight.each * 0.5 ** (dt / max(FORGOTTEN, 0.5 * run_time))
    extra = weight.extra * 0.5 ** (dt / max(1.0, run_time / 2))
    likely = max(found.reading, YOUNG * found.each * now.in_use)
    weight = _surprised(weight, own - found.reading, likely, dt)
    if sight.full > HALF and weight.surprise > max(HEAVIER, SIGMAS * math.sqrt(weight.wonder)):
        # They are heavier than before; those who have just begun have not shown it yet.
        extra = max(extra, SHOWN * weight.surprise * found.each)
    now_each = own / max(now.in_use, guesses.crowd)
    mean = now_each + (weight.mean - now_each) * 0.5 ** (dt / EVEN)
    peak = max(mean, weight.peak * 0.5 ** (dt / (HIGHEST * max(1.0, run_time))))
    weight = attrs.evolve(weight, mean=mean, peak=peak)
    slowly = weight.grown * 0.5 ** (dt / (PEAK * max(1.0, run_time)))
    return attrs.evolve(
        weight,
        guesses=guesses,
        each=max(kept, found.each),
        extra=extra,
        grown=max(slowly, found.grown),
    )


def _gone(weight: Weight, others: float, own: float, now: Load) -> float:
    """Return what branches that ended between two readings still had in the first of them."""
    if weight.quick is None:
        return 0.0
    ended = weight.each * (now.finished + now.failed)
    return max(0.0, min(others - weight.quick, weight.own - own, ended))


def _surprised(weight: Weight, more: float, expected: float, dt: float) -> Weight:
    off = min(1.0, more / expected) if expected > 0 else 0.0
    surprise = off + (weight.surprise - off) * 0.5 ** (dt / SMOOTH)
    wonder = off * off + (weight.wonder - off * off) * 0.5 ** (dt / 15.0)
    return attrs.evolve(weight, surprise=surprise, wonder=wonder)


def cap(weight: Weight, sight: Sight, now: Load, run_time: float) -> float:
    """Return how many branches fit; infinite while nothing is known."""
    quick = weight.quick or 0.0
    # What lies within the noise of readings is no rise.
    others, soon = max(quick - math.sqrt(weight.noise), weight.slow), 0.0
    trend = quick - weight.slow
    if trend > max(STEADY * sight.total, 1.5 * math.sqrt(weight.noise)):
        # An average over a half-life of h is 1.44 h late.
        soon = trend / (1.44 * (SLOW - QUICK)) * min(3.0, max(1.5, run_time / 2))
    most = math.inf
    if weight.each > 0:
        # Those that run are seldom all grown at once; those who come may be.
        each = weight.each + weight.extra
        grown = min(1.0, weight.grown + CHANCE / math.sqrt(now.limit))
        if not now.queued:
            grown = 1.0  # who comes after a rest will come at once
        usual = max(each * grown, weight.peak)
        spare = _usable(weight, sight, run_time) * sight.total - others - soon - now.limit * usual
        most = now.limit + spare / (max(each, usual) if spare > 0 else usual)
    if soon and sight.used + soon > FULL * sight.total:
        most = min(most, now.in_use * 0.5)
    if _is_full(sight) and now.in_use <= now.limit:
        most = min(most, now.in_use * min(EASED, sight.share / sight.full))
    return max(most, 0.0)


def _usable(weight: Weight, sight: Sight, run_time: float) -> float:
    """Return the share of memory that may be used, as well as it was foreseen until now."""
    late = min(1.0, weight.late / max(run_time, 0.1))
    unsure = UNSURE * math.sqrt(weight.wonder) + BLIND * late
    return max(LEAST * sight.share, sight.share - unsure)


def is_unseen(weight: Weight, now: Load, raised: float, run_time: float) -> bool:
    """Tell whether what the last raise weighs has not been seen yet, and may be too much.

    Nor has it where memory is more than was to be read: what has begun weighs more than it did.
    """
    late, near = weight.late, weight.room < NEAR * now.limit
    if near and weight.surprise > HEAVY:
        return True
    if now.t < weight.since + late + min(run_time, late):
        return weight.room < math.inf
    return near and now.t < raised + run_time + late


def _is_full(sight: Sight) -> bool:
    return sight.full > max(FULL, sight.share + 0.04)
