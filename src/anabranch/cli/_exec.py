"""The command ``anabranch exec``: run a command for each of many arguments, side by side."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TextIO

import attrs
from cyclopts import Parameter

from anabranch.cli import _exec_terms as read
from anabranch.cli._exec_input import MARKS, STDIN, Reading, Rows, sources_in
from anabranch.cli._exec_record import left, opened
from anabranch.cli._exec_run import Work, exit_code, run_jobs
from anabranch.cli._exec_template import Template
from anabranch.cli._exits import guarded
from anabranch.cli._load import WrongUsageError
from anabranch.cli._report import say
from anabranch.cli._signals import Signals
from anabranch.cli._stdout import results_only, write
from anabranch.samplers._cores import cores

EXAMPLES: Final = """
Examples:

    # one job for each argument, for each line of a file, for each line of stdin
    anabranch exec gzip -9 {} ::: *.log
    anabranch exec wget -q {} :::: urls.txt
    find . -name '*.flac' | anabranch exec ffmpeg -i {} {.}.mp3

    # every combination, four at a time, output in the order of input
    anabranch exec -j4 -k echo {1}-{2} ::: a b c ::: 1 2

    # stop at the first failure; later take up what is left
    anabranch exec --journal run.db --halt now,fail=1 ./job {} :::: todo
    anabranch exec --journal run.db --resume ./job {} :::: todo

    # what a shell is to read
    anabranch exec --shell 'grep -c x {} > {.}.count' ::: *.txt

Exit codes:

    0        every job returned 0
    1 - 100  so many jobs failed
    101      more than 100 jobs failed
    2        also: wrong usage, with a message
    130      Ctrl-C
    141      nobody reads stdout
    143      SIGTERM
"""


def _text(help: str, *names: str) -> Any:  # noqa: A002  # the library's word
    return Parameter(help=help, name=names or None)


def _switch(help: str, *names: str) -> Any:  # noqa: A002  # the library's word
    return Parameter(help=help, name=names or None, negative=())


@attrs.frozen(kw_only=True)
class Flags:
    """Take the flags as they are written; ``terms`` reads them."""

    jobs: Annotated[
        str,
        _text(
            "How many at once: a number, N% of the cores, 0 for no limit; auto follows the load.",
            "--jobs",
            "-j",
        ),
    ] = "auto"
    load: Annotated[
        str | None,
        _text("Start nothing while more threads than this want a CPU; N% of the cores."),
    ] = None
    memfree: Annotated[
        str | None, _text("Start nothing while less memory is free: bytes, or with k, M, G.")
    ] = None
    timeout: Annotated[
        str | None, _text("Seconds for each job, or with m, h; N% of the median run time.")
    ] = None
    retries: Annotated[str | None, _text("How often a job is run at most until it returns 0.")] = (
        None
    )
    halt: Annotated[
        str | None,
        _text("When to end early: now or soon, a comma, fail, success or done, =N or =N%."),
    ] = None
    keep_order: Annotated[
        bool, _switch("Print output in the order of input.", "--keep-order", "-k")
    ] = False
    tag: Annotated[
        bool, _switch("Begin each line of output with the job's arguments and a tab.")
    ] = False
    results: Annotated[
        str | None, _text("Keep each job's output below this folder, named after its arguments.")
    ] = None
    joblog: Annotated[
        str | None, _text("Write a line for each job to this file, as GNU parallel does.")
    ] = None
    journal: Annotated[
        str | None, _text("Keep in this file what is done, safe from this program's death.")
    ] = None
    journal_failure: Annotated[
        Literal["stop", "report"],
        _text("What an unwritable journal or joblog does: it stops the run, or is reported."),
    ] = "stop"
    fsync: Annotated[bool, _switch("Have journal and joblog survive a loss of power, too.")] = False
    resume: Annotated[bool, _switch("Leave out what the journal or joblog says is done.")] = False
    resume_failed: Annotated[bool, _switch("Likewise, but run again what has failed.")] = False
    dry_run: Annotated[bool, _switch("Print the commands, and run none.")] = False
    delay: Annotated[str, _text("Seconds between two starts.")] = "0"
    bar: Annotated[bool, _switch("Show on stderr how far it is, and what is left.")] = False
    eta: Annotated[bool, _switch("The same.")] = False
    null: Annotated[
        bool, _switch("Arguments end with NUL instead of a line end.", "--null", "-0")
    ] = False
    colsep: Annotated[
        str | None,
        _text("A regular expression that parts arguments into {1}, {2}, ...", "--colsep", "-C"),
    ] = None
    max_args: Annotated[
        str | None,
        _text("How many arguments a command gets; 0: none, once for each.", "--max-args", "-n"),
    ] = None
    arg_file: Annotated[
        tuple[str, ...],
        _text("A file of arguments, - for stdin; may be given again.", "--arg-file", "-a"),
    ] = ()
    json: Annotated[bool, _switch("Print a line of JSON for each job.")] = False
    shell: Annotated[bool, _switch("Let /bin/sh read the command; arguments are quoted.")] = False
    loop: Annotated[Literal["trio", "asyncio"], _text("Which loop it runs on.")] = "trio"


def exec_(
    flags: Annotated[Flags | None, Parameter(name="*")] = None,
    *,
    words: Annotated[Sequence[str], Parameter(parse=False)] = (),
) -> int:
    """Run COMMAND for each argument: anabranch exec [flags] COMMAND {} ::: a b c.

    Flags end at the first word that is none. Arguments follow `:::`, files of them `::::`; without
    either they are the lines of stdin. `{}` is the argument, `{.}` without its extension, `{/}`
    its last part, `{//}` its folder, `{/.}` its last part without extension, `{#}` the number of
    the job, `{%}` its slot, `{2}` the second argument; without any of them `{}` is appended.
    """
    flags = flags or Flags()
    terms = _terms(flags)
    reading = Reading(
        b"\0" if flags.null else b"\n",
        read.pattern("colsep", flags.colsep),
        read.whole("max-args", flags.max_args, 1, least=0),
    )
    with Signals() as signals:
        work = partial(_exec, terms, words, flags.arg_file, reading, signals)
        code = guarded(work, struck=lambda: bool(signals.struck))
    if signals.struck:
        say(signals.words())
        return signals.exit_code()
    return code


def _terms(flags: Flags) -> read.Terms:
    return read.Terms(
        jobs=read.jobs(flags.jobs, cores()),
        load=read.amount("load", flags.load),
        memfree=read.size("memfree", flags.memfree),
        timeout=read.duration("timeout", flags.timeout),
        retries=read.whole("retries", flags.retries, 1),
        halt=read.halt(flags.halt),
        keep_order=flags.keep_order,
        tag=flags.tag,
        results=flags.results,
        joblog=flags.joblog,
        journal=flags.journal,
        journal_failure=flags.journal_failure,
        fsync=flags.fsync,
        resume=flags.resume or flags.resume_failed,
        resume_failed=flags.resume_failed,
        dry_run=flags.dry_run,
        delay=read.seconds("delay", flags.delay),
        bar=flags.bar or flags.eta,
        json=flags.json,
        shell=flags.shell,
        loop=flags.loop,
    )


def _exec(
    terms: read.Terms,
    words: Sequence[str],
    arg_files: Sequence[str],
    reading: Reading,
    signals: Signals,
) -> int:
    template, rows = _understood(terms, words, arg_files, reading)
    with results_only(terms.json) as out, closing(rows):
        if terms.dry_run:
            return _shown(terms, template, rows, out)
        return _run(terms, template, rows, signals, out)


def _understood(
    terms: read.Terms, words: Sequence[str], arg_files: Sequence[str], reading: Reading
) -> tuple[Template, Rows]:
    command, sources = sources_in(words)
    sources = [[MARKS[1], file] for file in arg_files] + sources
    if not sources:
        sources = [[MARKS[1], STDIN]]
        if sys.stdin is not None and sys.stdin.isatty():
            say("arguments are read from the terminal; end them with Ctrl-D")
    if not command and reading.size == 0:
        raise WrongUsageError("exec: --max-args 0 runs a command without arguments; name one")
    template = Template(command, by_shell=terms.shell)
    _check_program(command, terms.shell)
    if reading.colsep is None and reading.size == 1:
        _check_places(template, len(sources))
    rows = Rows(sources, reading)
    if terms.halt is not None and terms.halt.amount.percent:
        rows.read_all()  # a share of the jobs can be told only of a known number
    return template, rows


def _check_program(command: Sequence[str], shell: bool) -> None:
    """Refuse a line for a shell where none is to read it, rather than fail once for each job."""
    if shell or len(command) != 1 or not any(char in command[0] for char in " \t\n|;&<>"):
        return
    if "{" not in command[0] and (shutil.which(command[0]) or Path(command[0]).exists()):
        return
    raise WrongUsageError(
        f"exec: there is no program {command[0]!r:.200}; for a shell to read that line give "
        f"--shell before it, else give its words one by one"
    )


def _check_places(template: Template, count: int) -> None:
    for token in template.tokens:
        if token.place is not None and abs(token.place) > count:
            sources = "source is" if count == 1 else "sources are"
            raise WrongUsageError(
                f"exec: {{{token.place}}} means argument {abs(token.place)} of a job, and {count} "
                f"{sources} given; use --colsep or -n for more, or another :::"
            )


def _shown(terms: read.Terms, template: Template, rows: Rows, out: TextIO) -> int:
    """Print the commands; of a run that would be taken up, those that are left of it."""
    with opened(read.of_earlier(terms)) as past:
        first = left(rows, template, past, failed=terms.resume_failed)
    for seq, row in chain(first, enumerate(iter(rows.next, None), past.last + 1)):
        try:
            write(out, template.command(row, seq).shown)
        except ValueError as error:
            write(out, f"# job {seq}: {error}: {' '.join(row)}")
    return 0


def _run(terms: read.Terms, template: Template, rows: Rows, signals: Signals, out: TextIO) -> int:
    if terms.results is not None:
        _check_folder(Path(terms.results))
    with opened(terms) as past:
        first = left(rows, template, past, failed=terms.resume_failed)
        work = Work(terms, template, rows, first, past.last, past)
        return exit_code(run_jobs(work, signals, out), terms.halt)


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise WrongUsageError(f"exec: --results {folder}: no folder can be made: {why}") from None
