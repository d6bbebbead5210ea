"""Print what the doctor found, and return an exit code as every command does."""

from __future__ import annotations

from functools import partial

from anabranch.cli._doctor import examine
from anabranch.cli._doctor_words import as_json, in_words
from anabranch.cli._exits import OK, guarded
from anabranch.cli._stdout import results_only, write


def print_findings(json: bool) -> int:
    """Examine this machine and print what was found: for people, or as JSON."""
    return guarded(partial(_print_findings, json))


def _print_findings(json: bool) -> int:
    with results_only(json) as out:
        found = examine()
        write(out, as_json(found) if json else in_words(found))
    return OK
