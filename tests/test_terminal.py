"""Progress shows what runs, in few lines, whatever the names and however many branches."""

from __future__ import annotations

import io
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from rich.console import Console

from anabranch._escape import escaped
from anabranch._terminal import (
    KEPT,
    SHOWN,
    Progress,
    counted_on_stderr,
    progress_on_stderr,
)
from anabranch._work import Outcome, Status
from anabranch.events import (
    BranchFinished,
    BranchStarted,
    Event,
    EventsMissed,
    LimitChanged,
    StepFinished,
    StepStarted,
)

ATTACKS = [
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "\x9b2J",
    "a\nb",
    "a\rb",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u2028",
    "\ud800",
    "a\x00b",
]


def drawn(progress: Progress, console: Console) -> str:
    console.print(progress.render())
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def terminal(width: int = 100, **options: object) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, **options)  # type: ignore[arg-type]  # rich's own options


def branches(
    step: str, begun: int, ended: int, status: Status = Status.SUCCEEDED
) -> Iterator[Event]:
    for number in range(begun):
        yield BranchStarted(0.0, step, str(number))
    for number in range(ended):
        outcome = Outcome(str(number), status, attempts=1)
        yield BranchFinished(0.0, step, str(number), outcome)


def tell(progress: Progress, *events: Event) -> None:
    for event in events:
        progress(event)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_name_cannot_steer_the_terminal(attack: str) -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    tell(progress, StepStarted(0.0, f"outer/{attack}", 3), StepStarted(0.0, attack, 3))
    out = drawn(progress, console)
    assert not any(char in out for char in attack if not char.isprintable() and char != "\n")
    assert out.count("\n") == 2


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    progress(StepStarted(0.0, "[bold red]x [link=evil]", 3))
    assert "[bold red]x [link=evil]" in drawn(progress, console)


def test_escaped_leaves_what_people_write_alone() -> None:
    assert escaped("Grüße, 東京 🎉 a-b_c") == "Grüße, 東京 🎉 a-b_c"
    assert escaped("a\tb\nc", keep="\n\t") == "a\tb\nc"
    assert escaped("\x1b\x9b\n\u202e") == r"\x1b\x9b\n\u202e"
    assert len(escaped("x" * 10_000_000, length=40)) == 40


def test_a_line_says_how_far_a_step_is() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    tell(progress, StepStarted(0.0, "fetch", 1200), LimitChanged(0.0, "fetch", 10, 4, "r"))
    tell(progress, *branches("fetch", 9, 7), *branches("fetch", 0, 1, Status.FAILED))
    out = drawn(progress, console)
    for words in ("fetch", "8/1,200", "1 running", "1 failed", "limit 4", "0:00"):
        assert words in out


def test_a_narrow_terminal_shows_names_and_numbers_whole() -> None:
    console = terminal(60, color_system=None)
    progress = Progress(console)
    tell(progress, StepStarted(0.0, "parse", 1790), StepStarted(0.0, "compare/one by one", 1790))
    tell(progress, *branches("parse", 356, 100), LimitChanged(0.0, "parse", 200, 256, "probe"))
    tell(progress, *branches("parse", 0, 7, Status.CANCELLED))
    out = drawn(progress, console)
    for words in ("parse", "107/1,790", "249 running", "7 stopped", "limit 256", "one by one"):
        assert words in out
    assert "…" not in out
    assert out.count("\n") == 2


def test_a_limit_that_moved_says_why() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    tell(
        progress, StepStarted(0.0, "fetch", 9), LimitChanged(0.0, "fetch", 9, 4, "cpu \x1b[2J 99 %")
    )
    assert r"cpu \x1b[2J 99 %" in drawn(progress, console)


def test_an_unknown_total_is_a_count() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    tell(progress, StepStarted(0.0, "feed", None), *branches("feed", 9, 7))
    assert "7/" not in drawn(progress, console)
    assert " 7 " in drawn(progress, console)


def test_a_step_that_ended_says_so() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    tell(progress, StepStarted(0.0, "a", 1), *branches("a", 1, 1), StepFinished(0.0, "a", "failed"))
    assert "done" in drawn(progress, console)


def test_a_branch_that_never_started_is_not_counted_as_running() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    tell(progress, StepStarted(0.0, "a", 3), *branches("a", 1, 0))
    tell(progress, BranchFinished(0.0, "a", "9", Outcome("9", Status.REJECTED)))
    assert "1 running" in drawn(progress, console)


def test_what_was_stopped_has_not_failed() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    tell(progress, StepStarted(0.0, "a", 3), *branches("a", 3, 2, Status.CANCELLED))
    assert "2 stopped" in drawn(progress, console)
    assert "failed" not in drawn(progress, console)


def test_nested_steps_of_one_name_share_a_line() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    progress(StepStarted(0.0, "outer", 1000))
    for number in range(1000):
        tell(progress, StepStarted(0.0, f"{number}/inner", 2), *branches(f"{number}/inner", 2, 2))
    out = drawn(progress, console)
    assert out.count("\n") == 2
    assert "  inner x1,000" in out
    assert "2,000/2,000" in out


def test_many_names_draw_few_lines_and_keep_little() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    progress(StepStarted(0.0, "outer", None))
    for number in range(10_000):
        tell(
            progress, StepStarted(0.0, f"b/{number}", 1), StepFinished(0.0, f"b/{number}", "failed")
        )
    for number in range(1000):
        progress(StepStarted(0.0, f"b/open {number}", 1))
    assert len(progress._lines) <= KEPT + 1
    out = drawn(progress, console)
    assert out.count("\n") == SHOWN + 1
    assert "more steps" in out


@pytest.mark.slow
def test_memory_is_flat_over_many_branches() -> None:
    progress = Progress(terminal())
    progress(StepStarted(0.0, "many", None))
    tell(progress, *branches("many", 1000, 1000))
    tracemalloc.start()
    try:
        for _ in range(50):
            tell(progress, *branches("many", 1000, 1000))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 50_000


def test_missed_events_are_told() -> None:
    console = terminal(color_system=None)
    progress = Progress(console)
    progress(EventsMissed(0.0, "", 12_345))
    assert "12,345 events" in drawn(progress, console)


@pytest.mark.parametrize("width", [20, 40, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    console = terminal(width=width, color_system=None)
    progress = Progress(console)
    tell(progress, StepStarted(0.0, "x" * 300, 10**9), *branches("x" * 300, 50, 20))
    assert max(map(len, drawn(progress, console).splitlines())) <= width


def test_colour_is_left_out_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = terminal()
    progress = Progress(console)
    tell(progress, StepStarted(0.0, "x", 10), *branches("x", 5, 2))
    assert "\x1b[3" not in drawn(progress, console)


@pytest.mark.slow
def test_the_block_draws_and_shows_the_cursor_again() -> None:
    console = terminal()
    with Progress(console) as progress:
        tell(progress, StepStarted(0.0, "step", 10), *branches("step", 5, 2))
    assert isinstance(console.file, io.StringIO)
    out = console.file.getvalue()
    assert "step" in out
    assert out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l")


def test_a_dumb_terminal_gets_no_control_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = terminal()
    with Progress(console) as progress:
        progress(StepStarted(0.0, "step", 10))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b" not in console.file.getvalue()


def test_nothing_is_drawn_where_no_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress_on_stderr() is None


class Screen(io.StringIO):
    """Be a stderr that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.slow  # rich draws in a thread of its own
def test_a_person_is_told_which_item_it_is_of_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen := Screen())
    names = ["apple", "\x1b[2Jpear", "plum"]
    seen = []
    for name in counted_on_stderr(names, str):
        seen.append(name)
        time.sleep(0.15)  # the spinner draws eight times a second
    assert seen == names
    said = screen.getvalue()
    assert "1 of 3: apple" in said
    assert "2 of 3: \\x1b[2Jpear" in said
    assert "\x1b[2J" not in said


def test_nobody_is_told_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted_on_stderr([1, 2], str)) == [1, 2]
    assert progress_on_stderr() is None
    assert capsys.readouterr().err == ""
