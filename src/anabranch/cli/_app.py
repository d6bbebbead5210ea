"""Read the command line: which command, with which options."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter, Token

from anabranch.cli._doctor_run import print_findings
from anabranch.cli._exec import EXAMPLES as EXEC_EXAMPLES
from anabranch.cli._exec import exec_
from anabranch.cli._exec_flags import split
from anabranch.cli._exits import FAILED, OK, WRONG_USAGE
from anabranch.cli._load import WrongUsageError
from anabranch.cli._report import say
from anabranch.cli._run import Options, run_file
from anabranch.cli._streams import fill_closed, silence

EXAMPLES = """
Examples:

    # the only pipeline of a file, or the one of that name
    anabranch run flow.py
    anabranch run flow.py:nightly

    # with input, at most four branches at once, for a minute
    anabranch run flow.py --data '{"day": "2026-11-21"}' --limit 4 --timeout 60

    # for a program
    anabranch run flow.py --json | jq .event

Exit codes:

    0    it succeeded
    1    a step failed, or stdout could not be written
    2    wrong usage
    124  a deadline struck
    130  Ctrl-C
    141  nobody reads stdout
    143  SIGTERM
"""

app = App(
    name="anabranch",
    help="Run branches of work side by side, under limits, so that nothing is left running."
    "\n\nSee `anabranch run --help` for examples.",
    version=lambda: version("anabranch"),  # asked for late: it reads files
    help_format="markdown",
    result_action="return_value",
)


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts itself would make 2 of 1.5."""
    try:
        number = int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None
    if number < 1:
        raise ValueError(f"{number} lets nothing run; give a whole number of at least 1")
    return number


def _seconds(_: object, tokens: Sequence[Token]) -> float:
    """Read how long a run may take."""
    try:
        seconds = float(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no number of seconds") from None
    if not seconds > 0:
        raise ValueError(f"{tokens[0].value} is not above 0 seconds")
    return seconds


@app.command(help_epilogue=EXAMPLES)
def run(
    target: Annotated[str, Parameter(name="FILE[:name]")],
    /,
    *,
    limit: Annotated[int | None, Parameter(converter=_whole)] = None,
    data: str | None = None,
    loop: Literal["trio", "asyncio"] = "trio",
    json: Annotated[bool, Parameter(negative=())] = False,
    timeout: Annotated[float | None, Parameter(converter=_seconds)] = None,
) -> int:
    """Run a pipeline of a Python file, and print its result.

    Args:
        target: A file, and a name in it: a Pipeline, a step, or a function without arguments that
            returns one. Without a name: the only Pipeline there is.
        limit: How many branches of all steps together may run at once.
        data: The first step's input, as JSON.
        loop: Which loop it runs on.
        json: Print one JSON object a line, each event and then the result.
        timeout: Seconds for the whole run.
    """
    return run_file(target, Options(limit, data, loop, json, timeout))


@app.command
def doctor(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Say what this machine or container offers to a run, what is missing, and what that costs.

    Args:
        json: Print one JSON object.
    """
    return print_findings(json)


app.command(
    exec_,
    name="exec",
    usage="Usage: anabranch exec [flags] COMMAND [words] [::: ARGUMENTS | :::: FILES]",
    help_epilogue=EXEC_EXAMPLES,
)


# By their names, so that no other command waits for the import of the whole testing kit.
app.command(
    "anabranch.cli._simulate:simulate_command",
    name="simulate",
    help="Play controllers in the simulator, beside the best fixed limits that can be found.",
)
app.command(
    "anabranch.cli._bench:bench_command",
    name="bench",
    help="Run a pipeline under several fixed limits and adaptively, and say which is best here.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    fill_closed()
    if sys.stdout is None:
        say("stdout is closed, so no result could be printed; if you want none, write >/dev/null")
        return WRONG_USAGE
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that cannot be encoded ends no run
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _exec(arguments[1:]) if arguments[:1] == ["exec"] else _call(arguments)
    except (CycloptsError, WrongUsageError) as error:
        say(f"{error}")
        return WRONG_USAGE
    except OSError as error:  # of help or version: a run has its own ways
        silence(1)
        say(f"stdout cannot be written: {error.strerror or error}")
        return FAILED
    return code if isinstance(code, int) else OK


def _call(arguments: list[str]) -> Any:
    return app(arguments, exit_on_error=False, print_error=False)


def _exec(words: list[str]) -> Any:
    """Call ``exec`` with its own flags only: what follows them is the command's."""
    flags, rest = split(words)
    if "--help" in flags:
        return _call(["exec", "--help"])
    command, bound, _ = app.parse_args(["exec", *flags], exit_on_error=False, print_error=False)
    return command(*bound.args, **bound.kwargs, words=rest)
