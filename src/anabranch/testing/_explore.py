"""Run a test under many schedules, and tell of the shortest one that fails.

The first run on each loop is undisturbed and is done twice: it tells whether the test is
deterministic, and how many steps there are to disturb. Then each seed draws a schedule: an order
alone, a cancellation, or a failure, in turn. Cancellations and failures go through all steps, one
after another, first in plain order and then in drawn ones.
"""

from __future__ import annotations

import inspect
import itertools
import random
import traceback
from collections.abc import Callable, Collection, Iterable
from types import CodeType
from typing import Any

import attrs

from anabranch._options import exact
from anabranch._runtime import loop_runs_here
from anabranch._work import check_limit
from anabranch.errors import AnabranchError, ConfigurationError, HostLoopError
from anabranch.testing._disturbing import code_of
from anabranch.testing._play import Player, Test, Told
from anabranch.testing._schedule import DISTURBANCES, LOOPS, Schedule, parse
from anabranch.testing._shrink import shrink

SEEDS = 200
UNDISTURBED = "undisturbed"
OF_ONE_LOOP = (RuntimeError, AttributeError, TypeError)  # what things of the other loop raise
MOST = 100_000  # steps of one run
TWICE = 50  # each so many-th schedule is run twice, to see whether it is the same


class ScheduleFailedError(AnabranchError, AssertionError):
    """Say under which schedule a test fails; ``__cause__`` is what the test raised.

    Attributes:
        replay: the line that runs it again, as ``explore(test, replay=...)``.
    """

    def __init__(self, message: str, replay: str = "") -> None:
        super().__init__(message)
        self.replay = replay


@attrs.frozen
class Explored:
    """Tell what was tried, all of it without a fault.

    Attributes:
        schedules: how many were run. steps: of each loop, how many steps could be cancelled.
        waits: of each loop, how many waits could fail.
    """

    schedules: int
    steps: dict[str, int]
    waits: dict[str, int]


@exact("explore")
def explore(
    async_fn: Test,
    *,
    seeds: int | Iterable[int] = SEEDS,
    loops: Collection[str] = LOOPS,
    disturb: Collection[str] = DISTURBANCES,
    may_fail: Collection[Callable[..., Any]] = (),
    replay: str | None = None,
    max_steps: int = MOST,
) -> Explored:
    """Run a test in virtual time under many schedules, on both loops.

    What it may raise is what it raises undisturbed: nothing. A wait for ever, steps without end
    and, on asyncio, tasks that outlive it are faults too.

    Args:
        async_fn: the test, without arguments; what it uses is made anew in each run.
        seeds: how many schedules, or the seeds that draw them.
        loops: "trio", "asyncio".
        disturb: "order" of those who are ready, "cancel" before any step, "fail" at any wait
            for the world outside: within ``interruptible()``, or anywhere if there is none.
        may_fail: functions of the test whose waits may fail too.
        replay: the line of a failure; only that schedule is run.
        max_steps: a run that takes more is a fault.

    Raises:
        ScheduleFailedError: a schedule under which the test fails, and how to run it again.
        NotDeterministicError: one schedule made it go two ways.
        ConfigurationError: an option that cannot be meant, a line of another version.
    """
    _check_call(async_fn, max_steps)
    loops = _chosen("loops", loops, LOOPS)
    disturb = _chosen("disturb", disturb, DISTURBANCES)
    player = Player(test=async_fn, may_fail=_codes(may_fail), most=max_steps)
    if replay is not None:
        return _replay(player, parse("explore", replay))
    numbers = _numbers(seeds)
    drawn = _Drawn(player, loops, disturb)
    count = itertools.count(len(loops))
    for number in numbers:
        schedule = drawn.schedule(number)
        told = drawn.players[schedule.loop].play(schedule)
        tried = next(count)
        if told.error is not None or tried % TWICE == 0:
            drawn.players[schedule.loop].play_again(schedule, told)
        if told.error is not None:
            # A fault of the schedule, and not of what earlier runs have left?
            drawn.players[schedule.loop].play_again(*drawn.plain[schedule.loop])
            raise _shortened(drawn.players[schedule.loop], schedule, told, number) from told.error
    return Explored(next(count), drawn.steps, drawn.waits)


class _Drawn:
    """Know how long a test is on each loop, and draw schedules for it."""

    def __init__(self, player: Player, loops: Collection[str], disturb: Collection[str]) -> None:
        self.players: dict[str, Player] = {}
        self.plain: dict[str, tuple[Schedule, Told]] = {}  # undisturbed, and how that went
        self.steps: dict[str, int] = {}
        self.waits: dict[str, int] = {}
        self._kinds: list[tuple[str, str]] = []
        for loop in loops:
            mine, told = _first(player, loop)
            self.players[loop] = mine
            self.plain[loop] = (Schedule(loop=loop), told)
            self.steps[loop], self.waits[loop] = told.steps, told.waits
            there = {"order": 1, "cancel": told.steps, "fail": told.waits}
            self._kinds += [(loop, kind) for kind in disturb if there[kind]]
        self._kinds.sort(key=lambda each: DISTURBANCES.index(each[1]))  # both loops in turn

    def schedule(self, number: int) -> Schedule:
        """Return what a seed means."""
        if not self._kinds:
            raise ConfigurationError(
                "explore: the test has no step that could be disturbed; "
                "let it await something, or leave disturb= out"
            )
        loop, kind = self._kinds[number % len(self._kinds)]
        turn = number // len(self._kinds)
        seed = random.Random(number).getrandbits(32)
        if kind == "order":
            return Schedule(loop=loop, seed=seed)
        many = (self.steps if kind == "cancel" else self.waits)[loop]
        drawn = None if turn < many else seed  # once through all of them in plain order
        return Schedule(loop=loop, seed=drawn).disturbed(kind, turn % many)


def _first(player: Player, loop: str) -> tuple[Player, Told]:
    """Run a test undisturbed, twice."""
    plain = Schedule(loop=loop)
    told = player.play_twice(plain)
    if not told.entered and told.error is None:
        player = attrs.evolve(player, whole=True)
        told = player.play_twice(plain)
    if told.error is not None:
        raise _failed(player, plain, told, UNDISTURBED) from told.error
    return player, told


def _replay(player: Player, schedule: Schedule) -> Explored:
    player, first = _first(player, schedule.loop)
    told = player.play_twice(schedule)
    if told.error is not None:
        raise _failed(player, schedule, told, "again") from told.error
    if told.misfits:
        raise ConfigurationError(
            f"explore: replay={schedule.line()!r} does not fit {player.test.__qualname__} as it "
            f"is now: {told.misfits[0]}; the test, or a library, has changed since: explore again"
        )
    return Explored(1, {schedule.loop: first.steps}, {schedule.loop: first.waits})


def _shortened(player: Player, schedule: Schedule, told: Told, number: int) -> ScheduleFailedError:
    fault = told.fault()
    explicit = attrs.evolve(schedule, seed=None, moves=told.made)

    def fails(candidate: Schedule) -> bool:
        return player.play(candidate).fault() == fault

    short = shrink(explicit, fails)
    return _failed(player, short, player.play_twice(short), f"by seed {number}")


def _failed(player: Player, schedule: Schedule, told: Told, how: str) -> ScheduleFailedError:
    name, line = player.test.__qualname__, schedule.line()
    struck = f"\n  {told.struck}" if told.struck else ""
    if how == UNDISTURBED and isinstance(told.error, OF_ONE_LOOP):
        other = next(each for each in LOOPS if each != schedule.loop)
        struck += f"\n  if it is written for {other} alone, give loops={other!r}"
    return ScheduleFailedError(
        f"{name} fails {how}, in short {schedule.words()}:{struck}\n"
        f"  {', '.join(told.fault())}: {_said(told.error)}\n"
        f"replay it with: explore({player.test.__name__}, replay={line!r})",
        line,
    )


def _said(error: BaseException | None) -> str:
    """Return an error's words; of an ``assert`` without any, where it stands."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    words = f"{error!s:.1000}"
    if words or error is None:
        return words
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"at {last.filename}:{last.lineno} in {last.name}: {last.line}"


def _check_call(async_fn: object, max_steps: object) -> None:
    if loop_runs_here():
        raise HostLoopError(
            "explore was called where a loop runs, and it runs loops of its own; "
            "call it from a plain function: def test(): explore(program)"
        )
    if not inspect.iscoroutinefunction(async_fn):
        raise ConfigurationError(
            f"explore: {async_fn!r:.80} ({type(async_fn).__name__}) is no async function; "
            f"give one without arguments, not its call"
        )
    needed = [
        each.name
        for each in inspect.signature(async_fn).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    if needed:
        raise ConfigurationError(
            f"explore: {async_fn.__qualname__} takes {', '.join(needed)}, and is called without "
            f"arguments; make them within the test"
        )
    check_limit("explore", "max_steps", max_steps)


def _chosen(option: str, chosen: object, all_of: tuple[str, ...]) -> tuple[str, ...]:
    given = (chosen,) if isinstance(chosen, str) else chosen
    wrong = not isinstance(given, Collection) or not given or not set(given) <= set(all_of)
    if wrong or not isinstance(given, Collection):
        raise ConfigurationError(
            f"explore: {option}={chosen!r:.80} is not of {', '.join(all_of)}; give some of these"
        )
    return tuple(each for each in all_of if each in given)


def _codes(may_fail: Collection[Callable[..., Any]]) -> frozenset[CodeType]:
    codes = set()
    for fn in may_fail if isinstance(may_fail, Collection) else (may_fail,):
        code = code_of(fn) if callable(fn) else None
        if code is None:
            raise ConfigurationError(
                f"explore: may_fail= has {fn!r:.80} ({type(fn).__name__}), which is no function "
                f"of Python; give async functions of the test"
            )
        codes.add(code)
    return frozenset(codes)


def _numbers(seeds: object) -> Iterable[int]:
    if isinstance(seeds, int):
        check_limit("explore", "seeds", seeds)
        return range(seeds)
    numbers = list(seeds) if isinstance(seeds, Iterable) and not isinstance(seeds, str) else []
    for each in numbers:
        if isinstance(each, bool) or not isinstance(each, int) or each < 0:
            raise ConfigurationError(f"explore: seeds= has {each!r:.80}; give whole numbers from 0")
    if not numbers:
        raise ConfigurationError(
            f"explore: seeds={seeds!r:.80} ({type(seeds).__name__}) is neither a number of "
            f"schedules nor a list of seeds; give one of both"
        )
    return numbers
