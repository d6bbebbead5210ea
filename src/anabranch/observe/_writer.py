"""Write what is handed in by a loop in a thread, all that came meanwhile in one go.

Whoever hands something in waits until it is written: one write of many costs little more than one
write of one, and a way to the thread and back more than both. So what comes in close succession is
gathered for a moment, and what comes alone is written at once. The thread ends with the process.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from anabranch._host import Host, current_host
from anabranch.errors import JournalError

GATHER_S: Final = 0.01


@attrs.define(eq=False)
class Slip:
    """Carry things to the thread, and say in the loop when they are written."""

    contents: Sequence[Any]
    loop: Any
    written: Any
    error: Exception | None = None


class Writer:
    """Hand things to a thread that writes them.

    Args:
        name: of the thread.
        write: writes a sequence of contents at once, in the thread; it returns what went wrong,
            and then nothing of the sequence was written.
    """

    def __init__(self, name: str, write: Callable[[Sequence[Any]], JournalError | None]) -> None:
        self._name = name
        self._write = write
        self._slips: queue.SimpleQueue[Slip | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._host: Host | None = None  # of the loop that handed in last
        self._loop: Any = None

    async def put(self, contents: Sequence[Any]) -> None:
        """Wait until all of ``contents`` is written; a cancelled wait leaves it to be written.

        Raises:
            JournalError: it could not be written, or the writer was closed.
        """
        if self._closed:
            raise JournalError(f"{self._name} is closed; record while its block is open")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        host = current_host()
        if host is not self._host:
            self._host, self._loop = host, host.runtime.lowlevel.current_trio_token()
        slip = Slip(contents, self._loop, host.runtime.Event())
        self._slips.put(slip)
        await slip.written.wait()
        if slip.error is not None:
            raise slip.error

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._closed = True
        if self._thread is not None:
            self._slips.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        going_on, wrote_at = True, -math.inf
        while going_on:
            batch = [self._slips.get()]
            if time.monotonic() - wrote_at < GATHER_S and not self._closed:
                time.sleep(GATHER_S)
            while not self._slips.empty():
                batch.append(self._slips.get())
            slips = [slip for slip in batch if slip is not None]
            going_on = len(slips) == len(batch)
            contents = [content for slip in slips for content in slip.contents]
            error = self._write(contents) if contents else None
            loops = {id(slip.loop): slip.loop for slip in slips}
            for slip in slips:
                slip.error = error
            wrote_at = time.monotonic()
            for loop in loops.values():
                self._tell(loop, [slip for slip in slips if slip.loop is loop])

    def _tell(self, loop: Any, slips: Sequence[Slip]) -> None:
        try:
            loop.run_sync_soon(_set_all, slips)
        except RuntimeError:  # the loop has ended, and nobody waits in it
            pass


def _set_all(slips: Sequence[Slip]) -> None:
    for slip in slips:
        slip.written.set()
