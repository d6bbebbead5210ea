"""Have each outcome recorded before anybody hears of it, without a branch waiting for that.

What has ended goes to the recorder first, in one task, all that ended meanwhile at once, so that
a recorder can write many in one go; only then it is published, in the order of completion.
A cancellation waits for the recorder too, but not for ever.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

from anabranch._branch import Branch
from anabranch._ledger import Ledger
from anabranch._work import Outcome
from anabranch.abc import GroupRecorder, Recorder
from anabranch.errors import ConfigurationError

log = logging.getLogger("anabranch")

GRACE_S = 5.0  # that a recorder has after a cancellation, as a branch has


def check_recorder(where: str, recorder: object, failure: object) -> None:
    """Raise ConfigurationError for what cannot record, and for an unknown wish."""
    record = getattr(recorder, "record", None)
    if recorder is not None and not inspect.iscoroutinefunction(record):
        raise ConfigurationError(
            f"{where}: recorder={recorder!r:.80} ({type(recorder).__name__}) has no async method "
            f"record(outcome); give a Journal, or an object that has one"
        )
    if failure not in ("stop", "report"):
        raise ConfigurationError(
            f"{where}: recorder_failure={failure!r} is neither 'stop' nor 'report'; "
            f"give one of them"
        )


class Recording:
    """Stand between the ledger and whoever hears of ended branches.

    Attributes:
        error: what the recorder raised first; None as long as it has not failed.
        missed: how many outcomes could not be recorded.
    """

    def __init__(
        self, ledger: Ledger, recorder: Recorder, stop: Callable[[str], object] | None
    ) -> None:
        self.error: Exception | None = None
        self.missed = 0
        self._ledger = ledger
        self._recorder = recorder
        # Asked once: to ask a protocol costs as much as to record several outcomes.
        self._record_all = recorder.record_all if isinstance(recorder, GroupRecorder) else None
        self._stop = stop  # called once the recorder has failed, if that is to stop the run
        self._pending: deque[Branch] = deque()
        self._wake: Any = None  # an Event while the task has nothing to do
        self._closing = False
        self._publish = ledger.publish
        self._hurried = False  # everything is being cancelled
        self._shield: Any = ledger.runtime.CancelScope(shield=True)
        self._done = ledger.runtime.Event()
        self._scope: Any = None  # of the task
        self._block: Any = ledger.runtime.open_nursery()

    @classmethod
    async def open(
        cls, ledger: Ledger, recorder: Recorder, stop: Callable[[str], object] | None
    ) -> Self:
        """Start to record what ends in ``ledger``; ``close`` must follow."""
        recording = cls(ledger, recorder, stop)
        nursery = await recording._block.__aenter__()
        # Whoever has no recorder needs no look here.
        ledger.publish = recording._take  # type: ignore[method-assign]  # taken back at the end
        ledger.listening = ledger.recorded = True
        nursery.start_soon(recording._run)
        nursery.start_soon(recording._hurry)
        recording._scope = nursery.cancel_scope
        return recording

    async def close(self) -> None:
        """Wait until all that has ended is recorded and published."""
        self._closing = True
        self._wake_up()
        with self._ledger.runtime.CancelScope(shield=True):
            await self._done.wait()
        self._ledger.publish = self._publish  # type: ignore[method-assign]  # its own again
        await self._block.__aexit__(None, None, None)
        if self.missed and self._stop is None:
            were = "outcome was" if self.missed == 1 else "outcomes were"
            log.error("%d %s not recorded", self.missed, were)

    def _take(self, branch: Branch) -> None:
        """Take the branch that was appended to the ledger last."""
        self._ledger.ended.pop()
        self._pending.append(branch)
        self._ledger.unrecorded += 1
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    async def _run(self) -> None:
        runtime = self._ledger.runtime
        try:
            with self._shield:
                while self._pending or not self._closing:
                    if self._pending:
                        self._limit_time()
                        await self._record_pending()
                        self._shield.deadline = math.inf
                    else:
                        wake = self._wake = runtime.Event()
                        await wake.wait()
            if self._shield.cancelled_caught:
                self._fail(TimeoutError(f"the recorder did not end in {GRACE_S:g} s"))
        finally:
            while self._pending:  # its time was up
                self.missed += 1
                self._hand_on()
            self._done.set()
            self._scope.cancel(reason="all is recorded")

    async def _hurry(self) -> None:
        """Limit the recorder's time once everything is being cancelled."""
        try:
            await self._ledger.runtime.sleep_forever()
        finally:
            self._hurried = True
            self._limit_time()

    def _limit_time(self) -> None:
        if self._hurried and self._pending:
            self._shield.deadline = self._ledger.clock() + GRACE_S

    async def _record_pending(self) -> None:
        """Record what waits now, side by side, then publish it."""
        ledger, batch = self._ledger, list(self._pending)
        first = ledger.read + len(ledger.ended)
        outcomes = [branch.outcome(first + place) for place, branch in enumerate(batch)]
        if self.error is None or self._stop is None:  # else it has failed, and the run ends for it
            if len(outcomes) == 1:
                await self._record(outcomes[0])
            elif self._record_all is not None:
                await self._record_group(self._record_all, outcomes)
            else:
                async with ledger.runtime.open_nursery() as nursery:
                    for outcome in outcomes:
                        nursery.start_soon(self._record, outcome)
        else:
            self.missed += len(outcomes)
        for _ in batch:
            self._hand_on()

    async def _record(self, outcome: Outcome) -> None:
        try:
            await self._recorder.record(outcome)
        except Exception as error:
            self.missed += 1
            self._fail(error)

    async def _record_group(
        self, record_all: Callable[[Sequence[Outcome]], Awaitable[None]], outcomes: list[Outcome]
    ) -> None:
        try:
            await record_all(outcomes)
        except Exception as error:
            self.missed += len(outcomes)
            self._fail(error)

    def _hand_on(self) -> None:
        branch = self._pending.popleft()
        self._ledger.unrecorded -= 1
        self._ledger.ended.append(branch)
        self._publish(branch)

    def _fail(self, error: Exception) -> None:
        if self.error is not None:
            return
        self.error = error
        if self._stop is not None:
            self._stop(f"the recorder raised {error!r:.200}")
        else:
            log.error("an outcome was not recorded, and the run goes on: %s", error)
