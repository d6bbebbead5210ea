"""Run a pipeline under several fixed limits and adaptively, in turns: ``anabranch bench``.

In turns, because the machine is shared: what disturbs it then disturbs all of them alike.
"""

from __future__ import annotations

import json as as_text
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import anyio
from cyclopts import Parameter, Token

from anabranch._terminal import counted_on_stderr
from anabranch.cli._bench_words import ADAPTIVE, Tried, drawing_of, figures_of, table_of, words_of
from anabranch.cli._exits import FAILED, OK, guarded
from anabranch.cli._load import WrongUsageError, load
from anabranch.cli._report import say
from anabranch.cli._run import read_data
from anabranch.cli._stdout import results_only, write
from anabranch.pipeline import Pipeline
from anabranch.pipeline._trial import trial

LIMITS: Final = (2, 4, 8, 16, 32, 64)
MOST: Final = 1_000_000


def _limits(_: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    return limits_of(",".join(token.value for token in tokens))


def limits_of(text: str) -> tuple[int, ...]:
    """Read ``2,4,8``.

    Raises:
        ValueError: that is no list of limits.
    """
    found = []
    for part in text.split(","):
        word = part.strip()
        if not (word.isascii() and word.isdecimal() and 1 <= int(word[:10]) <= MOST):
            raise ValueError(f"{part!r:.40} is no limit; give whole numbers from 1 on, as 2,4,8")
        found.append(int(word))
    return tuple(dict.fromkeys(found))


def _rounds(_: object, tokens: Sequence[Token]) -> int:
    word = tokens[0].value
    if not (word.isascii() and word.isdecimal() and 1 <= int(word[:6]) <= 1000):
        raise ValueError(f"{word!r:.40} is no number of rounds; give one from 1 to 1000")
    return int(word)


def bench_command(
    target: Annotated[str, Parameter(name="FILE[:name]")],
    /,
    *,
    limits: Annotated[
        tuple[int, ...], Parameter(converter=_limits, n_tokens=1, negative=())
    ] = LIMITS,
    rounds: Annotated[int, Parameter(converter=_rounds)] = 3,
    data: str | None = None,
    loop: Literal["trio", "asyncio"] = "trio",
    plot: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run a pipeline under several fixed limits and adaptively, and say which is best here.

    Every step with branches is given the limit that is tried, whatever its own is.
    One run before these is not counted: it imports, and begins threads and processes.

    Args:
        target: A file, and a name in it, as for run.
        limits: Fixed limits to try: 2,4,8.
        rounds: How often each is run; all of them in turns.
        data: The first step's input, as JSON.
        loop: Which loop it runs on.
        plot: Draw the times into this SVG file.
        json: Print one JSON object.
    """
    work = partial(_bench, target, limits, rounds, data, loop, plot, as_json=json)
    return guarded(work, unwritable=plot)


def _bench(
    target: str,
    limits: Sequence[int],
    rounds: int,
    data: str | None,
    loop: str,
    plot: Path | None,
    *,
    as_json: bool,
) -> int:
    with results_only(strictly=True) as out:  # what the pipeline prints is no result
        tried = _try(target, limits, rounds, read_data(data), loop)
        if plot is not None:
            plot.write_text(drawing_of(f"{target}: seconds by limit", tried), encoding="utf-8")
        if as_json:
            write(out, as_text.dumps(figures_of(tried)))
        else:
            write(out, table_of(tried) + "\n\n" + words_of(tried))
    return OK if any(each.seconds for each in tried) else FAILED


def _try(target: str, limits: Sequence[int], rounds: int, data: Any, loop: str) -> list[Tried]:
    """Run all in turns, forwards and backwards, so that a drift of the machine favours none."""
    pipeline = load(target)
    names: list[int | None] = [*limits, None]
    turns = [
        (number, limit)
        for number in range(rounds)
        for limit in (names if number % 2 == 0 else reversed(names))
    ]
    seconds: dict[int | None, list[float]] = {limit: [] for limit in names}
    failed = dict.fromkeys(names, 0)
    _warm_up(pipeline, data, loop)
    for _, limit in counted_on_stderr(turns, lambda turn: f"limit {_name(turn[1])}"):
        began = time.perf_counter()
        with trial(limit):
            result = anyio.run(partial(pipeline.run, data), backend=loop)
        if result.success:
            seconds[limit].append(time.perf_counter() - began)
        else:
            failed[limit] += 1
            say(f"limit {_name(limit)}: {result.feedback}")
    return [Tried(_name(limit), tuple(seconds[limit]), failed[limit]) for limit in names]


def _warm_up(pipeline: Pipeline[Any, Any], data: Any, loop: str) -> None:
    """Run once, as the pipeline itself says but for its limits.

    Raises:
        WrongUsageError: it has no step whose limit could be tried.
    """
    with trial(None) as tried:
        result = anyio.run(partial(pipeline.run, data), backend=loop)
    if not tried.met and result.success:
        raise WrongUsageError(
            "no step of it has a limit that could be tried; give one with branches "
            "(Step.parallel, Step.map_over), and no limiter of your own"
        )


def _name(limit: int | None) -> str:
    return ADAPTIVE if limit is None else str(limit)
