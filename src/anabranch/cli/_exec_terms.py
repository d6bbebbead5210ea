"""Read what the flags of ``anabranch exec`` say: numbers, percentages, sizes, durations, halts.

Each is a value that is valid once it is made; a mistake is told with the flag that it was made in.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final, Literal

import attrs

from anabranch.cli._load import WrongUsageError

SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}
_NUMBER: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]?)(%?)\Z")


@attrs.frozen
class Amount:
    """A number, or a percentage of something that is known later."""

    number: float
    percent: bool = False

    def of(self, whole: float) -> float:
        """Return the number, or the share of ``whole``."""
        return self.number * whole / 100 if self.percent else self.number


@attrs.frozen
class HaltRule:
    """Say when a run ends early, as GNU parallel's ``--halt``."""

    when: Literal["now", "soon"]
    on: Literal["fail", "success", "done"]
    amount: Amount


@attrs.frozen(kw_only=True)
class Terms:
    """Keep what the flags say, checked."""

    jobs: Amount | None = None  # None: the limit follows the load; infinite: no limit
    load: Amount | None = None
    memfree: float | None = None
    timeout: Amount | None = None
    retries: int = 1
    halt: HaltRule | None = None
    keep_order: bool = False
    tag: bool = False
    results: str | None = None
    joblog: str | None = None
    journal: str | None = None
    journal_failure: Literal["stop", "report"] = "stop"
    fsync: bool = False
    resume: bool = False
    resume_failed: bool = False
    dry_run: bool = False
    delay: float = 0.0
    bar: bool = False
    json: bool = False
    shell: bool = False
    loop: Literal["trio", "asyncio"] = "trio"

    def __attrs_post_init__(self) -> None:
        if self.resume and self.joblog is None and self.journal is None:
            raise WrongUsageError(
                "exec: --resume needs to know what is done; give the --journal or --joblog of the "
                "run that is taken up"
            )
        if self.json and self.tag:
            raise WrongUsageError("exec: --json has each job's arguments already; leave --tag out")
        if self.fsync and self.journal is None and self.joblog is None:
            raise WrongUsageError("exec: --fsync is about a --journal or --joblog; give one")


def jobs(text: str, cores: float) -> Amount | None:
    """Read ``-j``: ``auto``, a number, ``N%`` of the cores, ``+N`` and ``-N`` to them, 0: all."""
    if text == "auto":
        return None
    if re.fullmatch(r"[+-]\d+", text):
        return Amount(max(1.0, cores + int(text)))
    if text == "0":
        return Amount(math.inf)
    amount = _amount("jobs", text, "give a number, N% of the cores, 0 for no limit, or auto")
    if amount.percent:
        return Amount(max(1.0, float(int(amount.of(cores)))))
    return Amount(float(_whole("jobs", text)))


def amount(flag: str, text: str | None) -> Amount | None:
    """Read a number or a percentage, above 0."""
    return None if text is None else _amount(flag, text, "give a number, or N%")


def seconds(flag: str, text: str) -> float:
    """Read a duration: seconds, or with s, m, h, d."""
    found = _NUMBER.match(text)
    if found is None or found[3] or found[2] not in SECONDS:
        raise WrongUsageError(f"exec: --{flag} {text:.80}: no duration; give seconds, or 5m, 2h")
    return float(found[1]) * SECONDS[found[2]]


def duration(flag: str, text: str | None) -> Amount | None:
    """Read a duration above 0, or a percentage of one that is known later."""
    if text is None:
        return None
    if text.endswith("%"):
        return _amount(flag, text, "give seconds, or N% of the median")
    value = seconds(flag, text)
    if value <= 0:
        raise WrongUsageError(f"exec: --{flag} {text} ends every job at once; give more than 0")
    return Amount(value)


def size(flag: str, text: str | None) -> float | None:
    """Read a size in bytes: with k, M, G, T in powers of 1024."""
    if text is None:
        return None
    found = _NUMBER.match(text)
    if found is None or found[3] or found[2].lower() not in BYTES:
        raise WrongUsageError(f"exec: --{flag} {text:.80}: no size; give bytes, or 500M, 2G")
    return float(found[1]) * BYTES[found[2].lower()]


def of_earlier(terms: Terms) -> Terms:
    """Return terms by which records of an earlier run are read and none is begun."""
    journal, joblog = (
        name if terms.resume and name is not None and Path(name).exists() else None
        for name in (terms.journal, terms.joblog)
    )
    known = journal is not None or joblog is not None
    return attrs.evolve(terms, journal=journal, joblog=joblog, resume=known)


def whole(flag: str, text: str | None, default: int, least: int = 1) -> int:
    """Read a whole number of at least ``least``."""
    return default if text is None else _whole(flag, text, least)


def halt(text: str | None) -> HaltRule | None:
    """Read ``--halt``: ``now,fail=1``, ``soon,done=50%``, ``never``, and the old 0, 1 and 2."""
    if text in (None, "never", "0"):
        return None
    text = {"1": "soon,fail=1", "2": "now,fail=1"}.get(str(text), str(text))
    found = re.fullmatch(r"(now|soon),(fail|success|done)=(\d+(?:\.\d+)?)(%?)", text)
    if found is None or float(found[3]) <= 0 or (not found[4] and "." in found[3]):
        raise WrongUsageError(
            f"exec: --halt {text:.80}: give now or soon, a comma, fail, success or done, and =N or "
            f"=N%: --halt now,fail=1"
        )
    when: Literal["now", "soon"] = "now" if found[1] == "now" else "soon"
    for on in ("fail", "success", "done"):
        if on == found[2]:
            return HaltRule(when, on, Amount(float(found[3]), bool(found[4])))
    return None


def pattern(flag: str, text: str | None) -> re.Pattern[str] | None:
    """Read a regular expression."""
    if text is None:
        return None
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise WrongUsageError(
            f"exec: --{flag} {text:.80}: no regular expression: {error}"
        ) from None
    if compiled.match(""):
        raise WrongUsageError(f"exec: --{flag} {text!r:.80} parts nothing from nothing; give more")
    return compiled


def _amount(flag: str, text: str, hint: str) -> Amount:
    found = _NUMBER.match(text)
    if found is None or found[2] or not float(found[1]) > 0:
        raise WrongUsageError(f"exec: --{flag} {text:.80} is nothing that counts; {hint}")
    return Amount(float(found[1]), bool(found[3]))


def _whole(flag: str, text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise WrongUsageError(
            f"exec: --{flag} {text:.80} is no whole number of at least {least}; give one"
        )
    return int(text)
