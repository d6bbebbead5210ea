"""Draw a run on a terminal, while it goes on: the one file that knows rich.

Progress is an observer: it adds up what it hears, and rich draws the sums a few times a second.
Steps of one name at one depth share a line, so that neither lines nor memory grow with the run.
Names are the user's, or anybody's: ``escaped`` is the border where they lose their power.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self, TypeVar

import attrs
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.progress_bar import ProgressBar
from rich.status import Status as Spinner
from rich.table import Table
from rich.text import Text

from anabranch._escape import escaped
from anabranch._work import Status
from anabranch.events import (
    BranchFinished,
    BranchQueued,
    BranchStarted,
    Event,
    EventsMissed,
    LimitChanged,
    StepFinished,
    StepStarted,
)

T = TypeVar("T")

SHOWN: Final = 7  # lines; one more counts the rest
KEPT: Final = 64
NAME_LENGTH: Final = 40
REASON_LENGTH: Final = 60
NAME, BAR, RATE, WHY = 0, 1, 7, 9  # columns
LEFT_OUT: Final = {BAR, RATE, WHY}  # on a terminal that is less than ...
ROOMY: Final = 80  # ... columns wide, or the names and numbers would be cut
_STOPPED: Final = (Status.CANCELLED, Status.REJECTED, Status.ABANDONED)
SHOW_CURSOR: Final = "\x1b[?25h"


@attrs.define(eq=False)
class Line:
    """Add up what is known of all steps that share a name and a depth."""

    name: str
    depth: int
    began: float
    steps: int = 0
    open: int = 0
    total: int | None = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    stopped: int = 0
    limit: float | None = None
    why: str = ""  # the limit was moved last
    ended: float | None = None


class Progress:
    """Draw a line for each step that runs; an observer, and a context manager around the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: dict[tuple[int, str], Line] = {}
        self._missed = 0
        self._dropped = 0
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=8,
            redirect_stdout=sys.stdout.isatty(),  # else what the user prints is for a file
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Add one event to the sums."""
        if isinstance(event, EventsMissed):
            self._missed += event.count
            return
        line = self._line_of(event.step)
        match event:
            case StepStarted(total=total, limit=limit):
                line.steps += 1
                line.open += 1
                line.ended = None
                unknown = total is None or line.total is None
                line.total = None if unknown else (line.total or 0) + (total or 0)
                line.limit = line.limit if limit is None else limit
            case StepFinished():
                line.open -= 1
                line.ended = self._console.get_time()
            case BranchStarted():
                line.running += 1
            case BranchFinished(outcome=outcome):
                line.done += 1
                line.failed += outcome.status in (Status.FAILED, Status.TIMED_OUT)
                line.stopped += outcome.status in _STOPPED
                line.running -= outcome.attempts > 0 and line.running > 0
            case LimitChanged(new=new, reason=reason):
                line.limit, line.why = new, reason
            case BranchQueued() | _:
                pass

    def render(self) -> Table:
        """Return what is drawn now: the steps that run first, then those that ended last."""
        lines = list(self._lines.values())
        urgent = sorted(lines, key=lambda line: (line.open > 0, line.ended or 0.0), reverse=True)
        shown = urgent[:SHOWN]
        now = self._console.get_time()
        rows = [_cells(line, now) for line in lines if line in shown]
        narrow = self._console.width < ROOMY
        kept = _kept(rows, LEFT_OUT if narrow else set())
        grid = Table.grid(padding=(0, 1 if narrow else 2, 0, 0))
        for at in kept:
            if at == BAR:
                grid.add_column(width=20)
            elif at in (NAME, WHY):
                grid.add_column(no_wrap=True, overflow="ellipsis")
            else:
                grid.add_column(no_wrap=True, justify="right")
        for row in rows:
            grid.add_row(*(row[at] for at in kept))
        rest = len(lines) - len(shown) + self._dropped
        if rest:
            grid.add_row(Text(f"... and {rest:,} more steps", style="dim"))
        if self._missed:
            grid.add_row(Text(f"{self._missed:,} events were too fast to draw", style="dim"))
        return grid

    def _line_of(self, path: str) -> Line:
        """Return the line of a step; the names of parents are left out, but for their number."""
        depth = path.count("/")
        key = (depth, path[path.rfind("/") + 1 :][: NAME_LENGTH + 1])
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) >= KEPT and not self._drop():
                key = (depth, "others")
            name = escaped(key[1], length=NAME_LENGTH)
            line = self._lines.setdefault(key, Line(name, depth, self._console.get_time()))
        return line

    def _drop(self) -> bool:
        """Forget the line of a step that has ended; False if all of them run."""
        for key, line in self._lines.items():
            if not line.open:
                del self._lines[key]
                self._dropped += 1
                return True
        return False


def _kept(rows: Sequence[Sequence[Text | ProgressBar]], left_out: set[int]) -> list[int]:
    """Choose the columns to draw: those that say something, and have room."""
    told = {NAME} | {at for row in rows for at, cell in enumerate(row) if str(cell)}
    return sorted(told - left_out)


def _cells(line: Line, now: float) -> list[Text | ProgressBar]:
    elapsed = max(0.0, (now if line.ended is None or line.open else line.ended) - line.began)
    name = "  " * line.depth + (line.name or "(no name)")
    done = f"{line.done:,}" if line.total is None else f"{line.done:,}/{line.total:,}"
    rate = f"{line.done / elapsed:,.0f}/s" if elapsed > 0.2 and line.done else ""
    minutes, seconds = divmod(int(elapsed), 60)
    return [
        Text(name + (f" x{line.steps:,}" if line.steps > 1 else ""), style="bold"),
        ProgressBar(
            total=line.total, completed=line.done, pulse=line.total is None and line.open > 0
        ),
        Text(done),
        Text(f"{line.running:,} running" if line.open else "done", style="cyan"),
        Text(f"{line.failed:,} failed" if line.failed else "", style="red"),
        Text(f"{line.stopped:,} stopped" if line.stopped else "", style="yellow"),
        Text("" if line.limit is None else f"limit {line.limit:g}"),
        Text(rate),
        Text(f"{minutes}:{seconds:02}"),
        Text(escaped(line.why, length=REASON_LENGTH) if line.open else "", style="dim"),
    ]


def progress_on_stderr() -> Progress | None:
    """Return the progress to draw on stderr, if a person looks at it."""
    if not sys.stderr.isatty():
        return None
    return Progress(Console(stderr=True))


def counted_on_stderr(items: Sequence[T], words: Callable[[T], str]) -> Iterator[T]:
    """Yield the items; a line tells a person who looks at stderr which one it is, of how many."""
    if not sys.stderr.isatty():
        yield from items
        return
    with Spinner("", console=Console(stderr=True)) as status:
        for index, item in enumerate(items):
            status.update(f"{index + 1} of {len(items)}: {escaped(words(item), length=60)}")
            yield item


class Bar:
    """Draw one bar that somebody else counts for."""

    def __init__(self, total: int | None, description: str, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._progress = RichProgress(*columns, console=console)
        self._line = self._progress.add_task(escaped(description, length=NAME_LENGTH), total=total)
        self._progress.start()

    def show(self, done: int) -> None:
        """Show that so much is done; from any thread."""
        self._progress.update(self._line, completed=done)

    def close(self) -> None:
        """Leave it as it is."""
        self._progress.stop()


def bar_on_stderr(total: int | None, description: str) -> Bar | None:
    """Return a bar on stderr, if a person looks at it."""
    if not sys.stderr.isatty():
        return None
    return Bar(total, description, Console(stderr=True))
