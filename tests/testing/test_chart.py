"""A chart is well-formed SVG whatever it is given, and shows what it was given."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import ConfigurationError
from anabranch.controllers import Fixed
from anabranch.testing import simulate
from anabranch.testing._chart import HEIGHT, Line, Panel, bar_chart, line_chart, ticks
from anabranch.testing._simulator._plot import plot

SVG = "{http://www.w3.org/2000/svg}"
NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)


def texts_of(chart: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(chart).iter(f"{SVG}text")]


@pytest.mark.slow
@given(
    title=st.text(),
    points=st.lists(st.tuples(st.floats(0, 1e6), NUMBERS), max_size=30),
    steps=st.booleans(),
)
def test_any_text_and_any_numbers_make_a_chart(
    title: str, points: list[tuple[float, float]], steps: bool
) -> None:
    chart = line_chart(title, [Panel(title, [Line(title, points, steps)])], x=title)
    for path in ET.fromstring(chart).iter(f"{SVG}path"):
        assert not re.search("nan|inf", path.attrib["d"])
    bars = bar_chart(title, [(title, y, title) for _, y in points])
    assert len(list(ET.fromstring(bars).iter(f"{SVG}rect"))) == 1 + len(points)


def test_a_name_has_no_power_in_a_chart() -> None:
    name = "</text><script>alert(1)</script>&\x1b]0;\u202e"
    chart = line_chart(name, [Panel(name, [Line(name, [(0, 1)])])], x=name)
    assert "<script" not in chart
    assert "\x1b" not in chart
    assert "\u202e" not in chart
    assert any(text.startswith("</text><script>") for text in texts_of(chart))


def test_a_value_is_as_high_as_its_share_of_the_field() -> None:
    chart = line_chart("t", [Panel("p", [Line("a", [(0, 0), (10, 50)])], top=100)])
    way = next(ET.fromstring(chart).iter(f"{SVG}path")).attrib["d"]
    begin, end = (float(y) for y in re.findall(r" ([\d.]+)", way))
    assert begin - end == pytest.approx(HEIGHT / 2)


def test_a_gap_is_where_a_value_is_not_finite() -> None:
    line = Line("a", [(0, 1), (1, math.nan), (2, 1), (3, 1)])
    chart = line_chart("t", [Panel("p", [line])])
    assert len(list(ET.fromstring(chart).iter(f"{SVG}path"))) == 3  # two, and the legend's


def test_a_long_line_is_thinned_out() -> None:
    line = Line("a", [(each, each) for each in range(100_000)])
    assert len(line_chart("t", [Panel("p", [line])])) < 30_000


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 120, [0, 20, 40, 60, 80, 100, 120]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (5, 5, [5]),
        (0, 256, [0, 50, 100, 150, 200, 250]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_a_chart_without_panels_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no panels"):
        line_chart("t", [])


def test_a_plot_shows_limit_load_and_throughput() -> None:
    plays = {"one": simulate("bursts", Fixed(20)), "two": simulate("bursts", Fixed(40))}
    texts = texts_of(plot(plays))
    assert {"limit", "load in percent (one)", "branches that succeed, a second"} <= set(texts)
    assert {"one", "two", "best fixed", "cpu", "memory", "downstream", "seconds"} <= set(texts)
