"""Be the program that a soak kills: work off what its journal does not have, and tell of it.

    python -m tests.soak._resumed JOURNAL HEARD COUNT LOOP

A fourth of the jobs run scripts, and one more script lasts as long as the program does.
A job's key is written into HEARD when it begins (``+``) and when its outcome has been heard of
(``-``): who reads that after a kill knows what the journal must have, and what must not begin
again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from anabranch import Job, SubprocessWrapper, open_scheduler
from anabranch.observe import Journal


async def work(journal_path: str, heard: int, count: int) -> None:
    """Run what is left."""

    async def one(number: int) -> None:
        os.write(heard, f"+job-{number}\n".encode())
        if number % 4 == 0:
            await SubprocessWrapper().run(["sleep", "0.02"])
        elif number % 7 == 0:
            raise ValueError(number)
        else:
            await anyio.sleep(0.005)

    async def last_long() -> None:
        await SubprocessWrapper().run(["sh", "-c", "sleep 60; exit", journal_path])

    with Journal(journal_path) as journal:
        jobs = (Job(f"job-{number}", one, (number,)) for number in range(count))
        async with (
            anyio.create_task_group() as group,
            open_scheduler(4, recorder=journal) as scheduler,
        ):
            group.start_soon(last_long)
            scheduler.feed(journal.left(jobs))
            async for outcome in scheduler.outcomes:
                os.write(heard, f"-{outcome.key}\n".encode())
            group.cancel_scope.cancel()


if __name__ == "__main__":
    log = os.open(Path(sys.argv[2]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    anyio.run(work, sys.argv[1], log, int(sys.argv[3]), backend=sys.argv[4])
