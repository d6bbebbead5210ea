"""Read the command line of a soak, run it, and give it an exit code."""

from __future__ import annotations

import argparse
import random
import signal
from collections.abc import Sequence
from types import FrameType

from tests.soak._soak import ACTS, Soak
from tests.soak._telling import Progress, told

INTERRUPTED = 130


def minutes(text: str) -> float:
    """Read a number of minutes that can be meant."""
    value = float(text)
    if not 0 < value < 60 * 24 * 365:
        raise argparse.ArgumentTypeError(f"{text} minutes are none; give a number above 0")
    return value


def acts(text: str) -> list[str]:
    """Read names of acts."""
    names = text.split(",")
    for name in names:
        if name not in ACTS:
            raise argparse.ArgumentTypeError(f"{name!r} is no act; there are {', '.join(ACTS)}")
    return names


def number(text: str) -> int:
    """Read the number of a round."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no round; the first is 1")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Soak, and report: 0 if all was well, 1 if not, 130 if it was interrupted before."""
    parser = argparse.ArgumentParser(prog="soak.py")
    parser.add_argument("--minutes", type=minutes, default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--round", type=number, default=None)
    parser.add_argument("--only", type=acts, default=list(ACTS))
    args = parser.parse_args(argv)
    if args.round is not None and args.seed is None:
        parser.error("--round needs the --seed that it was drawn by")
    seed = random.SystemRandom().getrandbits(32) if args.seed is None else args.seed
    progress = Progress()
    soak = Soak(
        seed,
        60 * (args.minutes or (10 if args.round is None else 1)),
        {name: ACTS[name] for name in args.only},
        only_round=args.round,
        tell=progress,
    )
    interrupted = False

    def interrupt(*_: int | FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        soak.stop()

    before = signal.signal(signal.SIGINT, interrupt)
    print(f"seed {seed}; Ctrl-C ends it after the round that runs, twice at once", flush=True)
    try:
        soak.run()
    except KeyboardInterrupt:
        print("\ninterrupted in the middle of a round, whose end nobody has seen")
    finally:
        signal.signal(signal.SIGINT, before)
        progress.clear()
        print("\n".join(told(soak)), flush=True)
    if soak.findings:
        return 1
    return INTERRUPTED if interrupted else 0
