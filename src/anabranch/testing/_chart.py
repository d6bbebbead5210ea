"""Draw lines and bars as SVG, for a page or a README: text in, text out, light or dark as wished.

It knows nothing of what it draws; the simulator, the bench and the peers' page draw with it.
All text is escaped; a value that is not finite leaves a gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Final

import attrs

from anabranch._escape import escaped
from anabranch._options import exact_fields
from anabranch.errors import ConfigurationError

WIDTH: Final = 760
LEFT: Final = 64
RIGHT: Final = 16
HEIGHT: Final = 150  # of a panel's field
GAP: Final = 46  # between two fields: the lower one's title and legend
HEAD: Final = 34
FOOT: Final = 40
BAR: Final = 24
MOST: Final = 1000  # points of a line that are drawn
COLOURS: Final = 6
STYLE: Final = """
text{font:12px system-ui,sans-serif;fill:#333}.h{font-size:15px;font-weight:600}
.t{font-weight:600}.g{stroke:#ddd}.m{stroke:#999;stroke-dasharray:2 4}
path{fill:none;stroke-width:1.6}.d{stroke-dasharray:6 4;stroke-width:1.3}
.c0{stroke:#0b6bcb}.c1{stroke:#d1481f}.c2{stroke:#2e8540}.c3{stroke:#8a4fc7}.c4{stroke:#b8860b}
.c5{stroke:#666}.b{fill:#0b6bcb}.bg{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#ddd}.g{stroke:#444}.bg{fill:#181a1b}
.c0{stroke:#5aa9f8}.c1{stroke:#f5855f}.c2{stroke:#6cc47e}.c3{stroke:#bd94ec}.c4{stroke:#e0b84a}
.c5{stroke:#aaa}.b{fill:#5aa9f8}}
"""

Points = tuple[tuple[float, float], ...]


def _points(values: Iterable[tuple[float, float]]) -> Points:
    return tuple((float(x), float(y)) for x, y in values)


@exact_fields
@attrs.frozen
class Line:
    """Be a line through points; in ``steps`` where a value holds until the next; perhaps dashed."""

    name: str
    points: Points = attrs.field(converter=_points)
    steps: bool = False
    dashed: bool = False


@exact_fields
@attrs.frozen
class Panel:
    """Be a field with lines, from 0 to ``top`` or to their highest; ``marks`` are at these x."""

    title: str
    lines: tuple[Line, ...] = attrs.field(converter=tuple[Line, ...])
    top: float | None = None
    marks: tuple[float, ...] = ()


def line_chart(title: str, panels: Sequence[Panel], *, x: str = "seconds") -> str:
    """Return an SVG of panels below each other, over one axis that is called ``x``.

    Raises:
        ConfigurationError: no panels.
    """
    if not panels:
        raise ConfigurationError(f"chart {title!r:.80} has no panels; give at least one")
    ends = [point[0] for panel in panels for line in panel.lines for point in line.points]
    finite = [end for end in ends if math.isfinite(end)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    high = high if high > low else low + 1
    height = HEAD + len(panels) * (HEIGHT + GAP) + FOOT - GAP + 20
    parts = []
    for index, panel in enumerate(panels):
        parts += _panel(panel, HEAD + 20 + index * (HEIGHT + GAP), low, high)
    foot = HEAD + 20 + len(panels) * (HEIGHT + GAP) - GAP + 16
    for tick in ticks(low, high):
        parts.append(_text(_at(tick, low, high), foot, f"{tick:g}", "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, foot + 18, x, "middle"))
    return _svg(title, height, parts)


def bar_chart(title: str, bars: Sequence[tuple[str, float, str]]) -> str:
    """Return an SVG of bars from 0, each with its name, its value, and the words behind it."""
    values = [value for _, value, _ in bars if math.isfinite(value)]
    longest = max([*values, 0.0]) or 1.0
    side = 200
    parts = []
    for index, (name, value, words) in enumerate(bars):
        top = HEAD + 12 + index * BAR
        share = max(0.0, value / longest) if math.isfinite(value) else 0.0
        length = share * (WIDTH - side - 160)
        parts.append(_text(side - 8, top + 13, name, "end"))
        parts.append(
            f'<rect class="b" x="{side}" y="{top}" width="{length:.1f}" height="{BAR - 7}"/>'
        )
        parts.append(_text(side + length + 6, top + 13, words, "start"))
    return _svg(title, HEAD + 24 + len(bars) * BAR, parts)


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about ``count`` round numbers from low to high."""
    rough = (high - low) / count
    if not (math.isfinite(rough) and rough > 0):
        return [low]
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * each for each in (1, 2, 5, 10) if size * each >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [each * step for each in range(first, math.floor(high / step + 1e-9) + 1)]


def _panel(panel: Panel, top: float, low: float, high: float) -> list[str]:
    values = [y for line in panel.lines for _, y in line.points if math.isfinite(y)]
    most = panel.top if panel.top is not None else max([*values, 0.0]) * 1.05
    most = most if most > 0 else 1.0
    bottom = top + HEIGHT
    parts = [_text(LEFT, top - 8, panel.title, "start", "t")]
    for tick in ticks(0, most, 4):
        y = bottom - HEIGHT * tick / most
        parts.append(
            f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(_text(LEFT - 6, y + 4, f"{tick:g}", "end"))
    for mark in panel.marks:
        x = _at(mark, low, high)
        parts.append(
            f'<line class="m" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
        )
    place = WIDTH - RIGHT
    for index, line in reversed(list(enumerate(panel.lines))):
        look = f"c{index % COLOURS}" + (" d" if line.dashed else "")
        for run in _runs(line, most):
            way = _way(
                [(_at(x, low, high), bottom - HEIGHT * y / most) for x, y in run], line.steps
            )
            parts.append(f'<path class="{look}" d="{way}"/>')
        parts.append(_text(place, top - 8, line.name, "end"))
        place -= 7 * min(30, len(line.name)) + 6
        parts.append(f'<path class="{look}" d="M{place - 18} {top - 12}h18"/>')
        place -= 30
    return parts


def _runs(line: Line, most: float) -> list[list[tuple[float, float]]]:
    """Cut a line where a value is not finite, thin it out, and keep it within its field."""
    skip = math.ceil(len(line.points) / MOST) or 1
    thin = line.points[::skip]
    return [
        [(x, min(most, max(0.0, y))) for x, y in run]
        for is_finite, run in groupby(thin, key=lambda point: all(map(math.isfinite, point)))
        if is_finite
    ]


def _way(points: Sequence[tuple[float, float]], steps: bool) -> str:
    way = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for x, y in points[1:]:
        way += f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}"
    return way


def _at(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)


def _text(x: float, y: float, words: str, anchor: str, look: str = "") -> str:
    look = f' class="{look}"' if look else ""
    return f'<text{look} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_safe(words)}</text>'


def _svg(title: str, height: float, parts: Iterable[str]) -> str:
    box = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">'
    name = f"<title>{_safe(title)}</title><style>{STYLE}</style>"
    back = f'<rect class="bg" width="{WIDTH}" height="{height:g}"/>'
    said = _text(LEFT, 22, title, "start", "h")
    return "\n".join([head, name, back, said, *parts, "</svg>", ""])


def _safe(words: str) -> str:
    """Escape what could mean something to XML, or may not stand in it at all."""
    return escape(escaped(words, length=120)).replace("\ufffe", "?").replace("\uffff", "?")
