"""Print what the doctor found, and return an exit code as every command does."""

from __future__ import annotations

from anabranch.cli._doctor import examine
from anabranch.cli._doctor_words import as_json, in_words
from anabranch.cli._report import say
from anabranch.cli._run import FAILED, NOBODY_READS, OK
from anabranch.cli._stdout import UnwritableError, results_only, write

INTERRUPTED = 130


def print_findings(json: bool) -> int:
    """Examine this machine and print what was found: for people, or as JSON."""
    try:
        with results_only(json) as out:
            found = examine()
            write(out, as_json(found) if json else in_words(found))
    except BrokenPipeError:
        return NOBODY_READS
    except UnwritableError as error:
        say(f"stdout cannot be written: {error}")
        return FAILED
    except KeyboardInterrupt:
        say("stopped by Ctrl-C")
        return INTERRUPTED
    return OK
