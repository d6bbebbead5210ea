"""Estimate what a branch weighs when it is grown, from what those that run weigh now.

Nobody tells how long a branch grows, nor how late memory is read, so several of both are supposed.
Under each pair those that ran are worth so many grown branches, by their ages, and memory over that
number is a weight. The right pair explains all samples by one weight; so weights are mixed by how
well they do, from the first sample on: what is seen at the beginning, when all are young, tells the
pairs apart, and later hardly anything does. A ramp much longer than the oldest branch explains
anything, and is not believed yet.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

import attrs

RAMPS = (0.0, *(0.25 * 140 ** (i / 16) for i in range(17)))  # seconds, up to 35
LATE = (0.0, 1.0, 2.0)  # seconds by which a reading is late
BEYOND = 1.3  # times the oldest age: longer ramps are not asked
FADES = 60.0  # seconds after which what was explained counts half
QUICK = 1.5  # likewise for the weight itself, or half a run time
BELIEF, MOST_BELIEF = 3.0, 20.0  # how much more a better one is believed, after few and many
BELIEF_EACH = 0.2  # samples, which are no independent witnesses
NEW = 0.5
FAINT = 3e-3  # unexplained share below which no pair is better than another


@attrs.frozen
class Guess:
    """Remember what one pair has explained: sums over the samples, older ones fading.

    ``n``, grown branches squared, times memory, memory squared; ``own`` and ``load``, memory and
    grown branches, fade sooner.
    """

    n: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0
    own: float = 0.0
    load: float = 0.0


@attrs.frozen
class Guesses:
    """Remember what each pair has explained, the oldest age seen, and the loads of late.

    ``seen`` is how many grown branches the last reading was of, under each pair.
    """

    each: tuple[Guess, ...] = (Guess(),) * (len(RAMPS) * len(LATE))
    oldest: float = 0.0
    past: tuple[tuple[float, float, tuple[float, ...]], ...] = ()
    seen: tuple[float, ...] = ()

    @property
    def crowd(self) -> float:
        """The most branches at once of late: a reading may be of any of these moments."""
        return max([count for _, count, _ in self.past])


def heard(
    guesses: Guesses,
    t: float,
    own: float,
    count: float,
    ages: Sequence[float],
    dt: float,
    run: float,
) -> Guesses:
    """Return the guesses after ``own`` bytes were seen of ``count`` branches of these ages."""
    found = sorted(ages)
    oldest = max(found[-1], guesses.oldest) if found else guesses.oldest
    past = (*guesses.past, (t, count, _loads(found, count)))
    while len(past) > 1 and past[1][0] <= t - LATE[-1]:
        past = past[1:]
    keep, soon = 0.5 ** (dt / FADES), 0.5 ** (dt / max(QUICK, 0.5 * run))
    each, seen = [], []
    place = 0
    for late in LATE:
        then = [loads for when, _, loads in past if when <= t - late + 1e-6]
        for index in range(len(RAMPS)):
            guess = guesses.each[place]
            place += 1
            load = then[-1][index] if then else 0.0
            seen.append(load)
            each.append(_told(guess, own, load, keep, soon) if then else guess)
    return Guesses(tuple(each), oldest, past, tuple(seen))


def _loads(found: list[float], count: float) -> tuple[float, ...]:
    sums = [0.0, *accumulate(found)]
    loads = [count]
    for ramp in RAMPS[1:]:
        if found:
            place = bisect(found, ramp)
            loads.append(count * (sums[place] / ramp + len(found) - place) / len(found))
        else:
            loads.append(count)
    return tuple(loads)


def _told(guess: Guess, own: float, load: float, keep: float, soon: float) -> Guess:
    return Guess(
        guess.n * keep + 1,
        guess.xx * keep + load * load,
        guess.xy * keep + load * own,
        guess.yy * keep + own * own,
        guess.own * soon + own,
        guess.load * soon + load,
    )


@attrs.frozen
class Mixed:
    """Say what is believed of all pairs together.

    Attributes:
        each: what a grown branch weighs, bytes; 0 if unknown. grown: which share of them is.
        reading: the memory that was to be read just now, bytes.
    """

    each: float = 0.0
    grown: float = 1.0
    reading: float = 0.0


def mixed(guesses: Guesses) -> Mixed:
    """Return what is believed, each pair by how well it explains what was seen."""
    total = weight = grown = reading = 0.0
    most = max([guess.n for guess in guesses.each])
    power = min(MOST_BELIEF, max(BELIEF, BELIEF_EACH * most))
    _, count, loads = guesses.past[-1]
    for place, guess in enumerate(guesses.each):
        index = place % len(RAMPS)
        if RAMPS[index] > BEYOND * (guesses.oldest - LATE[place // len(RAMPS)]):
            continue
        if guess.n < NEW * min(most, 60) or guess.load <= 0 or guess.xx <= 0 or guess.yy <= 0:
            continue
        unexplained = max(0.0, 1 - guess.xy * guess.xy / guess.xx / guess.yy)
        belief = (unexplained + FAINT) ** -power
        each = guess.own / guess.load
        total += belief
        weight += belief * each
        grown += belief * loads[index] / count
        reading += belief * each * guesses.seen[place]
    if not total:
        return Mixed()
    return Mixed(weight / total, grown / total, reading / total)
