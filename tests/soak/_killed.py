"""Kill a program that keeps a journal, again and again, and let it take up what is left."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from anabranch import Status
from anabranch.observe import Journal
from tests.soak._round import LOOPS, Round
from tests.soak._scripts import living

ROOT = Path(__file__).resolve().parent.parent.parent
KILLS = 3
PATIENCE_S = 60
REAPED_S = 4.0  # what is left behind by a kill is ended within three seconds


def soak_killed(this: Round) -> None:
    """Kill it three times at most; what was heard of is in the journal, and never begins again."""
    count = this.draw.randint(20, 200)
    journal, heard = this.folder / "journal", this.folder / "heard"
    for _ in range(this.draw.randint(1, KILLS)):
        program = _start(this, journal, heard, count)
        time.sleep(this.draw.uniform(0.3, 1.2))
        this.injected["programs killed"] += program.poll() is None
        program.kill()
        program.wait()
        _check_left(this, journal)
    program = _start(this, journal, heard, count)
    this.claim(program.wait(PATIENCE_S) == 0, f"the last run ended with {program.returncode}")
    _check(this, journal, heard, count)
    this.did["jobs of programs that are killed"] += count


def _start(this: Round, journal: Path, heard: Path, count: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "tests.soak._resumed", journal, heard, count]
    words = [*map(str, argv), this.draw.choice(LOOPS)]
    if heard.exists():
        with heard.open("a", encoding="utf-8") as file:
            file.write("killed\n")
    # A session of its own: a Ctrl-C is meant for the soak.
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True)


def _check_left(this: Round, journal: Path) -> None:
    """See that nothing of the killed program lives on for long."""
    give_up = time.monotonic() + REAPED_S
    while left := list(living(str(journal))):
        if time.monotonic() > give_up:
            this.claim(False, f"these outlive a killed program: {left}")
            return
        time.sleep(0.05)


def _check(this: Round, journal: Path, heard: Path, count: int) -> None:
    with Journal(journal) as kept:
        entries = {entry.key: entry for entry in kept.entries()}
    this.claim(len(entries) == count, f"{len(entries)} of {count} jobs are in the journal")
    for key, entry in entries.items():
        number = int(key.removeprefix("job-"))
        fails = number % 7 == 0 and number % 4 != 0
        status = Status.FAILED if fails else Status.SUCCEEDED
        this.claim(entry.status is status, f"{entry!r}")
    done: set[str] = set()
    for line in heard.read_text(encoding="utf-8").splitlines():
        if line.startswith("-"):
            this.claim(line[1:] not in done, f"{line[1:]} was heard of twice")
            done.add(line[1:])
        elif line.startswith("+"):
            this.claim(line[1:] not in done, f"{line[1:]} was heard of, and began again")
    this.claim(done <= set(entries), f"heard of, and not in the journal: {done - set(entries)}")
