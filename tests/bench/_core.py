"""Measure the core: every row of the table that its issue says must be reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import attrs

from tests.bench import _memory, _subjects
from tests.bench._extent import Extent
from tests.bench._measure import Subject, in_turns, ratios, spread
from tests.bench._report import Row
from tests.bench._subjects import CHECKPOINT, LOOPS, MILLISECOND, SETTING, Branches

MICRO = 1e6

BRANCH_BARS = {100_000: 0.5, 1_000: 0.7}
CONTEXTVAR_BAR = 1.0
SMALL_BARS = {"trio": 1.8, "asyncio": 1.5}
GROWTH_BAR = 1.05
MEMORY_BAR_MB = 30.0
# "Flat" in figures: a single pointer that is kept for each item would be 6 MB.
FLAT_BAR_MB = 2.0
SLEEPS_BAR = 1.25

Tell = Callable[[str], None]


class CaseFailedError(Exception):
    """A case could not be measured, because what it measures went wrong."""


@attrs.frozen
class Case:
    """One question, and how it is answered."""

    name: str
    title: str
    run: Callable[[Extent, Tell], Iterator[Row]]


def measured(
    case: str,
    size: int,
    subjects: Sequence[Subject],
    extent: Extent,
    tell: Tell,
    *,
    against: Callable[[Subject], str],
    bar: Callable[[Subject], float | None] = lambda _: None,
    rounds: int,
    times: int = 1,
    per: int = 1,
    clock: str = "cpu",
) -> Iterator[Row]:
    """Sample subjects in turns and make a row of each, compared with the one that it is against."""
    warm_up = min(times, 20) if times > 1 else 0
    taken = in_turns(
        subjects,
        rounds=rounds,
        times=times,
        warm_up=warm_up,
        tell=lambda text: tell(f"{size:,}: {text}"),
    )
    for subject in subjects:
        other = against(subject)
        cost = spread([getattr(took, clock) for took in taken[subject.name]])
        yield Row(
            case=case,
            size=size,
            subject=subject.name,
            value=cost.median / times / per * MICRO,
            unit=f"us {clock}",
            against=other if other != subject.name else "",
            ratio=None if other == subject.name else ratios(taken, subject.name, other, clock),
            bar=bar(subject) if extent.bars else None,
        )


def _against_gather(
    case: str,
    size: int,
    branches: Branches,
    shown: Sequence[Subject],
    extent: Extent,
    tell: Tell,
    wanted: float | None,
) -> Iterator[Row]:
    gather = _subjects.gather(size, branches)
    ours = [_subjects.step(loop, size, branches) for loop in LOOPS]
    return measured(
        case,
        size,
        [gather, *ours, *shown],
        extent,
        tell,
        against=lambda _: gather.name,
        bar=lambda subject: wanted if subject in ours else None,
        rounds=extent.rounds_for(size),
        times=extent.times_for(size),
        per=size,
    )


def branches(extent: Extent, tell: Tell) -> Iterator[Row]:
    """CPU for a branch that passes one checkpoint, against gather, from 1 branch to 100,000."""
    for size in extent.sizes:
        rounds = extent.shown_for(size)
        shown = [
            *[_subjects.observed_step(loop, size, CHECKPOINT, rounds) for loop in LOOPS],
            _subjects.asyncio_group(size, CHECKPOINT, rounds),
            *[_subjects.nursery(loop, size, CHECKPOINT, rounds) for loop in LOOPS],
            *[_subjects.bare(loop, size, CHECKPOINT, rounds) for loop in LOOPS],
        ]
        bar = BRANCH_BARS.get(size)
        yield from _against_gather("branches", size, CHECKPOINT, shown, extent, tell, bar)


def contextvars(extent: Extent, tell: Tell) -> Iterator[Row]:
    """The same where each branch sets a context variable of its own."""
    for size in extent.contextvar_sizes:
        yield from _against_gather("contextvars", size, SETTING, (), extent, tell, CONTEXTVAR_BAR)


def small(extent: Extent, tell: Tell) -> Iterator[Row]:
    """CPU for a whole step of few branches, against a nursery and a limiter of the same library."""
    for size in extent.small:
        hand = {loop: _subjects.nursery(loop, size, CHECKPOINT) for loop in LOOPS}
        ours = [_subjects.step(loop, size, CHECKPOINT) for loop in LOOPS]
        kept = [_subjects.kept(loop, size, CHECKPOINT) for loop in LOOPS]
        subjects = [*hand.values(), *ours, *kept, _subjects.asyncio_group(size, CHECKPOINT)]
        yield from measured(
            "small",
            size,
            subjects,
            extent,
            tell,
            against=lambda subject, hand=hand: hand[subject.loop].name,
            bar=lambda subject, ours=ours: SMALL_BARS[subject.loop] if subject in ours else None,
            rounds=extent.rounds,
            times=extent.steps,
        )


def bound(extent: Extent, tell: Tell) -> Iterator[Row]:
    """The same where the limit is half the branches, and so makes some of them wait; no bar."""
    for size in extent.small:
        limit = max(1, size // 2)
        hand = {loop: _subjects.nursery(loop, size, CHECKPOINT, None, limit) for loop in LOOPS}
        ours = [_subjects.step(loop, size, CHECKPOINT, limit) for loop in LOOPS]
        yield from measured(
            "bound",
            size,
            [*hand.values(), *ours],
            extent,
            tell,
            against=lambda subject, hand=hand: hand[subject.loop].name,
            rounds=extent.rounds,
            times=extent.steps,
        )


def growth(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How CPU grows with the number of branches: the exponent, 1 if it grows in proportion."""
    curves: dict[str, list[list[float]]] = {}
    for number in range(extent.big_rounds):
        for size in extent.growth:
            subjects = [_subjects.step(loop, size, CHECKPOINT) for loop in LOOPS]
            subjects += [_subjects.gather(size, CHECKPOINT)]
            # As many branches in each sample, so that no size is measured less well than another.
            times = max(1, extent.growth[-1] // size // 4)
            taken = in_turns(
                subjects,
                rounds=1,
                times=times,
                warm_up=1 if times > 1 else 0,
                tell=lambda text, number=number, size=size: tell(f"{size:,}, {number + 1}: {text}"),
            )
            for name, tooks in taken.items():
                rounds = curves.setdefault(name, [[] for _ in range(extent.big_rounds)])
                rounds[number].append(tooks[0].cpu / times)
    for name, rounds in curves.items():
        exponents = spread([exponent(extent.growth, cpu) for cpu in rounds])
        judged = extent.bars and name.startswith("Step")
        yield Row(
            case="growth",
            size=extent.growth[-1],
            subject=name,
            value=exponents.median,
            unit="exponent",
            ratio=exponents,
            bar=GROWTH_BAR if judged else None,
        )


def exponent(sizes: Sequence[int], cpu: Sequence[float]) -> float:
    """Return the slope of the straight line through log(cpu) over log(size): least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(took) for took in cpu]
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    rise = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return rise / math.fsum((a - mean_x) ** 2 for a in x)


def memory(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How the memory of a process grows that streams a lazy map_over: a child for each loop.

    An async iterable gets a fifth of the items; were they all pulled at once, that would be seen.
    """
    says = {"growth_mb": "peak over the start", "drift_mb": "second half over the first"}
    bars = {"growth_mb": MEMORY_BAR_MB, "drift_mb": FLAT_BAR_MB} if extent.bars else {}
    wrong = []
    for kind, size in (("plain", extent.items), ("async", extent.items // 5)):
        for loop in LOOPS:
            subject = f"map_over on {loop}, {kind}"
            tell(f"{size:,} items: {subject}")
            try:
                found = _memory.in_child(loop, size, kind)
            except _memory.ChildFailedError as error:
                wrong.append(f"{subject}: {error}")
                continue
            row = partial(Row, case="memory", size=size)
            for field, words in says.items():
                told = f"{subject}: {words}"
                yield row(subject=told, value=found[field], unit="MB", bar=bars.get(field))
            yield row(subject=f"{subject}: an item", value=found["cpu_us"], unit="us cpu")
    if wrong:
        raise CaseFailedError("\n".join(wrong))


def sleeps(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How long 5,000 sleeps of a millisecond take at limit 100, against 100 bare loops of 50."""
    size, limit = extent.sleeps, min(100, extent.sleeps)
    bare = {loop: _subjects.bare_sleeps(loop, size, limit) for loop in LOOPS}
    ours = [_subjects.step(loop, size, MILLISECOND, limit) for loop in LOOPS]
    return measured(
        "sleeps",
        size,
        [*bare.values(), *ours],
        extent,
        tell,
        against=lambda subject: bare[subject.loop].name,
        bar=lambda subject: SLEEPS_BAR if subject in ours else None,
        rounds=extent.rounds,
        per=size,
        clock="wall",
    )


def lanes(extent: Extent, tell: Tell) -> Iterator[Row]:
    """What a tiny plain function costs in a thread, and in a process, against a pool's map."""
    kinds = (
        ("io", "ThreadPoolExecutor.map", ThreadPoolExecutor, extent.threads, 8),
        ("cpu", "ProcessPoolExecutor.map", ProcessPoolExecutor, extent.processes, 2),
    )
    for kind, name, pool, size, limit in kinds:
        theirs = _subjects.executor(name, pool, size, limit)
        ours = [_subjects.lane(kind, loop, size, limit) for loop in LOOPS]
        # A process's CPU is not this one's, so only the wall tells; of threads, both do.
        for clock in ("cpu", "wall") if kind == "io" else ("wall",):
            yield from measured(
                f"{kind} lane",
                size,
                [theirs, *ours],
                extent,
                tell,
                against=lambda _, theirs=theirs: theirs.name,
                rounds=max(1, extent.rounds // 3),
                times=2,
                per=size,
                clock=clock,
            )


CASES = (
    Case("branches", "CPU per branch, limit 10, against asyncio.gather + Semaphore", branches),
    Case("contextvars", "the same where each branch sets a context variable", contextvars),
    Case("small", "CPU per step of few branches, against a nursery + limiter", small),
    Case("bound", "the same where the limit, half the branches, makes some wait", bound),
    Case("growth", "growth of CPU with the number of branches", growth),
    Case("memory", "memory of a streamed map_over", memory),
    Case("sleeps", "sleeps of 1 ms at limit 100, wall, against bare loops", sleeps),
    Case("lanes", "tiny plain functions in threads and processes", lanes),
)
