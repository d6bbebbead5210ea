"""Tell a person how a run ended: the result on stdout, everything else on stderr."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import anabranch
from anabranch._escape import escaped
from anabranch._work import Status
from anabranch.cli._shown import laid_out, shown
from anabranch.cli._streams import tell
from anabranch.pipeline import PipelineResult, StepResult, UnboundedWarning

SHOWN: Final = 5  # errors; the rest is counted
LONGEST: Final = 20_000  # characters of one traceback
LONGEST_LINE: Final = 1_000  # characters of one message
_CAUSES: Final = (Status.FAILED, Status.TIMED_OUT)
OURS: Final = str(Path(anabranch.__file__).parent)
# What stands between our frames and the user's first; below that, such frames are the user's doing.
BETWEEN: Final = (
    "/trio/",
    "/anyio/",
    "/asyncio/",
    "/outcome/",
    "/importlib/",
    "<frozen ",
    "/runpy",
)


def say(words: str) -> None:
    """Print a message of the program, on one line and not at length."""
    tell(f"anabranch: {_cut(escaped(words), LONGEST_LINE, '…')}")


def text_of(output: Any) -> str | None:
    """Return what is printed of a pipeline's output; None for nothing."""
    if output is None or isinstance(output, str):
        return output
    if isinstance(output, (dict, list)):
        return laid_out(output)
    return shown(output)


def report_failure(result: PipelineResult[Any], left: str) -> None:
    """Print the errors of the branches that failed, how the run ended, and what it left."""
    failed = result.failed_step
    if failed is not None:
        causes = _causes(failed, "")
        for name, cause in islice(causes, SHOWN):
            if cause.error is not None and cause.status is Status.FAILED:
                report_error(cause.error)
            elif cause is not failed:  # else the last line says it
                say(f"{name}: {cause.feedback}")
        more = sum(1 for _ in causes)
        if more:
            say(f"... and {more:,} more")
    words = result.feedback
    if result.reason not in words:
        words = f"{result.reason}; {words}"
    say(f"{words}{left}")


def say_warnings() -> None:
    """Print our own warnings as messages: the line of ours that warns tells nobody anything."""
    usual = warnings.formatwarning

    def in_words(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if issubclass(category, UnboundedWarning):
            return f"anabranch: {escaped(str(message))}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = in_words


def report_error(error: BaseException) -> None:
    """Print a traceback that starts where the user's own code does."""
    told = traceback.TracebackException.from_exception(error)
    _strip(told)
    words = "".join(told.format())
    tell(escaped(_cut(words.rstrip(), LONGEST, "\n...\n"), keep="\n\t"))


def _cut(words: str, length: int, gap: str) -> str:
    """Leave the middle out of what is too long: both ends tell something."""
    half = length // 2
    return words if len(words) <= length else words[:half] + gap + words[-half:]


def _causes(result: StepResult[Any], name: str) -> Iterator[tuple[str, StepResult[Any]]]:
    """Find the branches, nested ones too, that failed or ran out of time by themselves.

    What was only stopped is no cause, and is counted in the last line.
    """
    found = False
    for key, branch in result.branches.items():
        if not branch.success:
            for cause in _causes(branch, f"{name}/{key}" if name else key):
                found = True
                yield cause
    of_branches = result.status is Status.FAILED and isinstance(result.error, ExceptionGroup | None)
    if result.status in _CAUSES and not (found and of_branches):
        yield name or result.name, result


def _strip(told: traceback.TracebackException) -> None:
    """Take our frames, and those which only carry the call, out of a traceback and its causes."""
    frames = [frame for frame in told.stack if not _is_within(frame.filename)]
    while frames and any(part in frames[0].filename.replace("\\", "/") for part in BETWEEN):
        del frames[0]
    told.stack = traceback.StackSummary.from_list(frames)
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _strip(other)


def _is_within(filename: str) -> bool:
    return filename.startswith(OURS)
