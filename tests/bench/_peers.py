"""Put peers beside us: python -m tests.bench peers [PEER ...] [--fast] [--minutes N] [--json FILE].

Each peer is asked in processes of its own, beside ours in turns where it is measured. A whole run
writes docs/explanation/peers.md and its charts; one with --fast, of some peers, or that has run out
of time leaves them alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import _peers_first, _peers_page, _report
from tests.bench._peers_asking import NO_TIME, Answers, ask_all
from tests.bench._peers_env import Environment, prepare
from tests.bench._peers_extent import FAST, WHOLE, PeersExtent
from tests.bench._peers_known import BY_KEY, PEERS, Peer, beside


def chosen(keys: Sequence[str]) -> list[Peer]:
    """Return the peers that are named, with what of ours they are compared with; or all."""
    unknown = [key for key in keys if key not in BY_KEY]
    if unknown:
        sys.exit(f"{unknown[0]!r} is no peer; there are {', '.join(BY_KEY)}")
    wanted = set(keys) | {beside(BY_KEY[key]).key for key in keys}
    return [peer for peer in PEERS if not keys or peer.key in wanted]


def answered(
    where: Environment, peers: Sequence[Peer], extent: PeersExtent, minutes: float
) -> Answers:
    """Ask everything, for so long at most, and tell a person how far it is."""
    progress, until = _report.Progress(), time.monotonic() + 60 * minutes
    answers = ask_all(where, peers, extent, progress.tell, until)
    asked = [peer for peer in peers if not peer.only and "missing" not in answers[peer.key]["cost"]]
    taken = _peers_first.firsts(where, asked, extent.starts, progress.tell, until)
    for key, seconds in taken.items():
        middle = _peers_first.median(seconds)
        why = NO_TIME if time.monotonic() > until else "it printed nothing"
        answers[key]["first"] = {"failed": why} if middle is None else {"seconds": middle}
    progress.clear()
    return answers


def unasked(answers: Answers) -> int:
    """Count what was not asked because the time was up."""
    every = [each for found in answers.values() for each in found.values()]
    return sum(each.get("failed") == NO_TIME for each in every)


def main(argv: Sequence[str]) -> int:
    """Ask, print, write, and return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.py peers", description=__doc__)
    parser.add_argument("peer", nargs="*", help=f"one of {', '.join(BY_KEY)}; all if none is named")
    parser.add_argument("--fast", action="store_true", help="smaller sizes; the page is left alone")
    parser.add_argument("--minutes", type=float, default=4.7, help="how long to ask at most")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all answers there")
    args = parser.parse_args(argv)
    peers = chosen(args.peer)
    machine, start = _report.machine(), time.perf_counter()
    print(_report.describe(machine), flush=True)
    try:
        where = prepare(lambda step: print(f"peers: {step}", file=sys.stderr, flush=True))
        answers = answered(where, peers, FAST if args.fast else WHOLE, args.minutes)
    except KeyboardInterrupt:
        return 130
    seconds = time.perf_counter() - start
    measured = measured_words(machine, seconds)
    for text in _peers_page.sections(peers, answers, measured).values():
        print(f"\n{text}")
    if args.json is not None:
        content = {"machine": machine, "seconds": round(seconds), "answers": answers}
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if late := unasked(answers):
        print(f"\n{late} answers are missing, for the time was up: --minutes gives more.")
    elif not (args.fast or args.peer):
        _peers_page.write(peers, answers, measured)
        print(f"\n{_peers_page.PAGE.relative_to(_peers_page.ROOT)} and its charts are written.")
    return 0


def measured_words(machine: dict[str, object], seconds: float) -> str:
    """Say when and where this was measured, in a sentence for the page."""
    load = machine["load"]
    before = f", load {load[0]} before" if isinstance(load, list) and load else ""
    return (
        f"Measured on {str(machine['date'])[:10]}, commit {machine['commit'] or '?'}, "
        f"{machine['python']}, trio {machine['trio']}, anyio {machine['anyio']}, "
        f"{machine['cores_allowed']} cores of {machine['cpu']}{before}; it took {seconds:.0f} s."
    )
