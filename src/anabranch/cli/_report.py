"""Tell a person how a run ended: the result on stdout, everything else on stderr."""

from __future__ import annotations

import pprint
import sys
import traceback
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import anabranch
from anabranch._terminal import escaped
from anabranch._work import Status
from anabranch.cli._json import pretty
from anabranch.pipeline import PipelineResult, StepResult, UnboundedWarning

SHOWN: Final = 5  # errors; the rest is counted
LONGEST: Final = 20_000  # characters of one traceback
OURS: Final = str(Path(anabranch.__file__).parent)
_CAUSES: Final = (Status.FAILED, Status.TIMED_OUT)
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
    """Print a message of the program."""
    print(f"anabranch: {escaped(words)}", file=sys.stderr)


def text_of(output: Any) -> str | None:
    """Return what is printed of a pipeline's output; None for nothing."""
    if output is None or isinstance(output, str):
        return output
    if isinstance(output, (dict, list)):
        return pretty(output) or pprint.pformat(output)
    return repr(output)


def report_failure(result: PipelineResult[Any], left: str) -> None:
    """Print the errors of the branches that failed, how the run ended, and what it left."""
    failed = result.failed_step
    if failed is not None:
        # What was only stopped is counted in the last line: it is no cause.
        causes = (leaf for leaf in _leaves(failed, "") if leaf[1].status in _CAUSES)
        for name, leaf in islice(causes, SHOWN):
            if leaf.error is not None and leaf.status is Status.FAILED:
                report_error(leaf.error)
            else:
                say(f"{name}: {leaf.feedback}")
        more = sum(1 for _ in causes)
        if more:
            say(f"... and {more:,} more")
    reason = f"{result.reason}; " if result.reason else ""
    say(f"{reason}{result.feedback}{left}")


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
    if len(words) > LONGEST:
        words = words[: LONGEST // 2] + "\n...\n" + words[-LONGEST // 2 :]
    print(escaped(words.rstrip(), keep="\n\t"), file=sys.stderr)


def _leaves(result: StepResult[Any], name: str) -> Iterator[tuple[str, StepResult[Any]]]:
    """Find the branches that failed, and have no branches themselves."""
    failed = [key for key, branch in result.branches.items() if not branch.success]
    for key in failed:
        yield from _leaves(result.branches[key], f"{name}/{key}" if name else key)
    if not failed or not isinstance(result.error, ExceptionGroup | None):
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
