"""Sum up how laws did: a cell for each scenario and law, and the bars that a law must reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import attrs

from anabranch.testing._simulator._run import Simulation


@attrs.frozen(kw_only=True)
class Cell:
    """Tell how a law did in a scenario over some seeds; all but ``kills`` are medians.

    ``ratio`` is the share of the best fixed limits' goodput; ``kills`` their number.
    """

    ratio: float | None
    kills: int
    refusals: float
    reversals: float | None
    reached: float | None

    def __str__(self) -> str:
        """Write the share in two digits, with a K if anything was killed."""
        share = "-" if self.ratio is None else f"{self.ratio:.2f}"
        return f"{share} K" if self.kills else share


def cell_of(plays: Sequence[Simulation]) -> Cell:
    """Sum up plays of one law; there is at least one."""
    return Cell(
        ratio=_median([play.ratio for play in plays]),
        kills=sum(play.kills for play in plays),
        refusals=median(play.refusals_a_minute for play in plays),
        reversals=_median([play.reversals for play in plays]),
        # Never is later than any time.
        reached=_finite(median(_or_never(play.reached) for play in plays)),
    )


@attrs.frozen(kw_only=True)
class Summary:
    """Tell how a law did over all of some plays, in the terms of the bars.

    Attributes:
        plays: how many there were. ratios: their median, tenth percentile, and how many are
            under one half. killed: plays in which anything was killed.
        reversals, refusals: median and ninth decile, a minute. reached: median seconds.
    """

    plays: int
    ratios: tuple[float, float, int]
    killed: int
    reversals: tuple[float, float]
    refusals: tuple[float, float]
    reached: float | None


def summary_of(plays: Sequence[Simulation]) -> Summary:
    """Sum up plays of one law in many scenarios; there is at least one."""
    ratios = [play.ratio for play in plays if play.ratio is not None]
    reversals = [play.reversals for play in plays if play.reversals is not None]
    refusals = [play.refusals_a_minute for play in plays]
    reached = median(_or_never(play.reached) for play in plays)
    return Summary(
        plays=len(plays),
        ratios=(quantile(ratios, 0.5), quantile(ratios, 0.1), sum(each < 0.5 for each in ratios)),
        killed=sum(play.kills > 0 for play in plays),
        reversals=(quantile(reversals, 0.5), quantile(reversals, 0.9)),
        refusals=(quantile(refusals, 0.5), quantile(refusals, 0.9)),
        reached=_finite(reached),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values is; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out as plain text, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_markdown(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Lay rows out as a table of Markdown."""
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    lines += [" | ".join([name, *cells]) for name, cells in rows.items()]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _or_never(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds


def _finite(value: float) -> float | None:
    return value if value != float("inf") else None
