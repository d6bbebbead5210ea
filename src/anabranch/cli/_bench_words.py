"""Judge how long a pipeline took under several limits: pure sums over the times of its runs.

The machine is shared, so two limits are told apart only if their medians differ by more than the
runs of one limit do among themselves; else it is said that nothing was decided.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from anabranch.testing._chart import bar_chart

ADAPTIVE: Final = "adaptive"
WIDTH: Final = 24  # characters of the longest bar


@attrs.frozen
class Tried:
    """Tell how the runs under one limit went; times in seconds, of those that succeeded.

    Attributes:
        failed: how many runs did not.
    """

    name: str
    seconds: tuple[float, ...]
    failed: int = 0

    @property
    def median(self) -> float:
        """The median time; infinite if a run failed: what does not work is not the best."""
        if self.failed or not self.seconds:
            return float("inf")
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """How far the slowest is from the quickest."""
        return max(self.seconds) - min(self.seconds) if self.seconds else 0.0


@attrs.frozen
class Verdict:
    """Tell which limit was best.

    Attributes:
        best: its name, of the fixed ones; empty if none works. tied: those not told apart from it.
        ratio: the time of the adaptive limit, in that of the best; None if it is not known.
        decided: whether adaptive and the best were told apart.
    """

    best: str
    tied: tuple[str, ...]
    ratio: float | None
    decided: bool


def apart(one: Tried, other: Tried) -> bool:
    """Tell whether two limits differ by more than the runs of each; one run tells nothing."""
    if min(len(one.seconds), len(other.seconds)) < 2:
        return False
    return abs(one.median - other.median) > max(one.spread, other.spread)


def verdict(tried: Sequence[Tried]) -> Verdict:
    """Return what the times say."""
    fixed = [each for each in tried if each.name != ADAPTIVE and each.median < float("inf")]
    adaptive = next((each for each in tried if each.name == ADAPTIVE), None)
    if not fixed:
        return Verdict("", (), None, decided=False)
    best = min(fixed, key=lambda each: each.median)
    tied = tuple(each.name for each in fixed if each is not best and not apart(each, best))
    if adaptive is None or adaptive.median == float("inf"):
        return Verdict(best.name, tied, None, decided=False)
    return Verdict(best.name, tied, adaptive.median / best.median, apart(adaptive, best))


def words_of(tried: Sequence[Tried]) -> str:
    """Say in a few lines which limit is best here, and how the adaptive one did beside it."""
    found = verdict(tried)
    if not found.best:
        return "no limit worked: every run failed under each"
    once = all(len(each.seconds) < 2 for each in tried)
    lines = [f"best fixed limit here: {found.best}"]
    if found.tied:
        why = "one run each decides nothing" if once else "they differ less than the runs"
        lines[0] += f" (not decided against {', '.join(found.tied)}: {why})"
    if found.ratio is None:
        lines.append("adaptive: it failed")
    elif found.decided:
        lines.append(f"adaptive: {found.ratio:.2f} of its time")
    else:
        why = "give more --rounds" if once else "the runs differ more"
        lines.append(f"adaptive: {found.ratio:.2f} of its time, not decided: {why}")
    return "\n".join(lines)


def table_of(tried: Sequence[Tried]) -> str:
    """Lay the times out, a line for each limit, with a bar."""
    known = [each.median for each in tried if each.median < float("inf")]
    longest = max(known, default=1.0) or 1.0
    lines = [f"{'limit':>9}  {'median':>9}  {'least':>8} {'most':>8}"]
    for each in tried:
        if each.median == float("inf"):
            lines.append(
                f"{each.name:>9}  {each.failed} of {each.failed + len(each.seconds)} failed"
            )
            continue
        bar = "#" * max(1, round(WIDTH * each.median / longest))
        low, high = min(each.seconds), max(each.seconds)
        lines.append(f"{each.name:>9}  {each.median:>7.2f} s  {low:>8.2f} {high:>8.2f}  {bar}")
    return "\n".join(lines)


def drawing_of(title: str, tried: Sequence[Tried]) -> str:
    """Draw the medians as an SVG."""
    bars = [(each.name, each.median, _behind(each)) for each in tried]
    return bar_chart(title, bars)


def figures_of(tried: Sequence[Tried]) -> Mapping[str, object]:
    """Return what was found as plain values, for JSON."""
    found = verdict(tried)
    runs = [{"limit": each.name, "seconds": each.seconds, "failed": each.failed} for each in tried]
    return {**attrs.asdict(found), "limits": runs}


def _behind(each: Tried) -> str:
    if each.median == float("inf"):
        return f"{each.failed} failed"
    return f"{each.median:.2f} s ({min(each.seconds):.2f} to {max(each.seconds):.2f})"
