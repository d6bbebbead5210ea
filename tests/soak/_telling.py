"""Say what a soak does while it runs, on a terminal, and what it did when it is over."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import attrs

from tests.soak._soak import Soak

EVERY_S = 60.0
SHOWN = 20


@attrs.define
class Progress:
    """Keep one line on a terminal, and write one a minute where there is none."""

    last: float = 0.0

    def __call__(self, soak: Soak, act: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{_line(soak)}, now: {act}")
            sys.stderr.flush()
        if soak.elapsed >= self.last + EVERY_S:
            self.clear()
            self.last = soak.elapsed
            print(_line(soak), flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _line(soak: Soak) -> str:
    seen = soak.samples[-1:]
    now = f", {seen[0].memory_mb:.0f} MB, {seen[0].threads} threads" if seen else ""
    return (
        f"{soak.elapsed / 60:5.1f} of {soak.seconds / 60:g} min: {soak.rounds.total()} rounds, "
        f"{soak.injected.total()} faults put in, {len(soak.findings)} found{now}"
    )


def told(soak: Soak) -> Iterator[str]:
    """Yield the lines of the report."""
    ended = " (stopped early)" if soak.stopped else ""
    yield (
        f"{soak.rounds.total()} rounds in {soak.elapsed / 60:.1f} minutes{ended}, seed {soak.seed}:"
    )
    for name, count in sorted(soak.rounds.items()):
        yield f"  {count:7,}  {name}, {soak.took[name]:.0f} s"
    yield "what was done:"
    yield from _counts(soak.did)
    yield "faults put in:"
    yield from _counts(soak.injected)
    yield from _watched(soak)
    yield from _found(soak)


def _counts(counts: Counter[str]) -> Iterator[str]:
    for name, count in sorted(counts.items()):
        if count:
            yield f"  {count:7,}  {name}"


def _watched(soak: Soak) -> Iterator[str]:
    if not soak.samples:
        yield "watched: nothing yet, this was all warm-up"
        return
    first, last = soak.samples[0], soak.samples[-1]
    yield f"watched at {len(soak.samples)} moments of quiet, after the warm-up, the last, the most:"
    for name in ("memory_mb", "threads", "children", "descriptors"):
        values = [getattr(each, name) for each in soak.samples]
        yield f"  {values[0]:7,.0f} {values[-1]:7,.0f} {max(values):7,.0f}  {name}"
    most = max(each.objects.total() for each in soak.samples)
    yield f"  {first.objects.total():7,} {last.objects.total():7,} {most:7,}  anabranch objects"


def _found(soak: Soak) -> Iterator[str]:
    if not soak.findings:
        yield "no leak, no broken promise"
        return
    yield f"FOUND {len(soak.findings)}:"
    for each in soak.findings[:SHOWN]:
        where = f"round {each.round} ({each.act})" if each.round else "all rounds"
        yield f"  {where}: {each.says}"
        yield f"    {soak.replay(each.round)}"
