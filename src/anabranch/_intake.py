"""Accept work for a scheduler: jobs that are submitted, and what is pulled from iterables."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Callable, Iterable
from contextvars import copy_context
from typing import Any

from anabranch._alarm import alarm_of
from anabranch._branch import Branch, branch_of
from anabranch._dispatch import Dispatcher
from anabranch._feed import Accept, Feeds
from anabranch._ledger import Ledger
from anabranch._outcomes import Outcomes
from anabranch._work import Job
from anabranch.errors import ConfigurationError, DuplicateKeyError

UNRECORDED = 128  # that a recorder may gather, however small the limit


class Intake:
    """Make branches of jobs, and pull what is fed only as fast as it runs and is read.

    Args:
        fail: called with the reason when an iterable raised; everything is to be stopped.
        reader: where outcomes are read, one by one; None where nobody reads them.
    """

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        fail: Callable[[str], None],
        reader: Outcomes | None,
    ) -> None:
        self.feeds: Feeds | None = None  # made when it is first fed
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._fail = fail
        self._reader = reader
        self._unread = 0  # outcomes of what was fed
        self._keys: set[str] = set()  # of the branches that have not ended
        self._accepted = 0
        self._all_fed: Any = None  # an Event while somebody waits until nothing is fed

    def accept(self, job: Job) -> Branch:
        """Make the branch of a job.

        Raises:
            ConfigurationError: it is no Job; DuplicateKeyError: its key is taken.
        """
        if not isinstance(job, Job):
            raise ConfigurationError(
                f"{job!r:.80} ({type(job).__name__}) is no Job; give Job(key, fn, args)"
            )
        branch = branch_of(job, self._ledger.clock(), copy_context())
        if job.key in self._keys:
            raise DuplicateKeyError(
                f"a branch {job.key!r} is queued or running already; give each job its own key"
            )
        self._keys.add(job.key)
        if job.queue_timeout is not None:
            alarm_of(self._ledger).reject(branch, job.queue_timeout)
        return branch

    def push(self, branch: Branch) -> None:
        """Queue a branch, and see that somebody takes it."""
        self._accepted += 1
        self._ledger.queue.push(branch)
        self._ledger.queued(branch)
        self._dispatcher.resume()

    def feed(
        self,
        elements: Iterable[Any] | AsyncIterable[Any],
        accept: Accept,
        start_soon: Callable[..., None],
    ) -> None:
        """Pull elements, each made a branch by ``accept``."""
        if self.feeds is None:
            self.feeds = Feeds(self._ledger.runtime, self._may_pull, self._failed, self._ended)
            self._dispatcher.feeds = self.feeds
            self._ledger.pull = self._pull
            self._ledger.reader_is_behind = self._reader_is_behind
        if isinstance(elements, AsyncIterable):
            self.feeds.add_async()
            token_is_free = self._dispatcher.token_is_free
            start_soon(self.feeds.run_async, elements, accept, token_is_free, self._push_fed)
        elif isinstance(elements, Iterable):
            self.feeds.add(elements, accept)
            self._dispatcher.resume()
        else:
            raise ConfigurationError(
                f"feed: {elements!r:.80} ({type(elements).__name__}) is not iterable; "
                f"give an iterable or async iterable of jobs"
            )

    async def all_fed(self) -> None:
        """Wait until nothing is left to be pulled: a slow reader may leave no hand meanwhile."""
        while self.feeds:
            self._all_fed = self._ledger.runtime.Event()
            await self._all_fed.wait()

    def end(self) -> None:
        """Pull nothing more."""
        if self.feeds is not None:
            self.feeds.end()
        if not self.feeds and self._all_fed is not None:
            self._all_fed.set()  # no hand may come any more to see that nothing is left
        self._ledger.reader_moved(math.inf)

    def nobody_reads(self) -> None:
        """Hear that outcomes are dropped from now on, so nobody slows the pulling down."""
        if self._reader is not None:
            self._reader.nobody_reads = True
        if self.feeds is not None:
            self.feeds.reader_moved()
            self._ledger.reader_moved(math.inf)
            self._dispatcher.resume()

    def was_read(self) -> None:
        """Hear that the outcome of something that was fed has been read: more may be pulled."""
        self._unread -= 1
        self._may_pull_more()

    def _may_pull_more(self) -> None:
        if self.feeds:
            self.feeds.reader_moved()
            if not self._ledger.reader_moved() and not self._ledger.queue:
                self._dispatcher.resume()

    def idle(self) -> bool:
        """Tell whether everything accepted has ended, and nothing is fed."""
        ledger = self._ledger
        return self._accepted == ledger.read + len(ledger.ended) and not self.feeds

    def branch_ended(self, branch: Branch) -> None:
        """Hear that a branch has ended: its key is free, and a reader may read it."""
        self._keys.discard(branch.key)
        if branch.feed is self:
            self._unread += 1
            if self._ledger.recorded and self._reader is not None and self._reader.nobody_reads:
                self._may_pull_more()  # it may have waited for the recorder
        if self._reader is not None:
            self._reader.wake()

    def _push_fed(self, branch: Branch) -> None:
        self._count(branch)
        self.push(branch)

    def _count(self, branch: Branch) -> None:
        branch.feed = self

    def _pull(self) -> Branch | None:
        """Pull one branch from what is fed, for a hand with nothing queued."""
        assert self.feeds is not None, "it is set when the first feed is added"
        branch = self.feeds.pull()
        if branch is not None:
            self._accepted += 1
            self._count(branch)
            self._ledger.queued(branch)
        elif not self.feeds:
            self._ended()
        return branch

    def _reader_is_behind(self) -> bool:
        """Tell whether a hand has nothing to pull only because too much is unread."""
        return self.feeds is not None and self.feeds.is_plain() and not self._may_pull()

    def _may_pull(self) -> bool:
        """Tell whether fewer than two limits' worth of outcomes are unread, and few unrecorded."""
        ledger = self._ledger
        if ledger.unrecorded >= UNRECORDED and ledger.unrecorded >= 2 * ledger.limit():
            return False
        if self._reader is None or self._reader.nobody_reads:
            return True
        return self._unread < max(1, 2 * ledger.limit())

    def _ended(self) -> None:
        self._ledger.reader_moved(math.inf)  # hands that wait for it have nothing to come
        if self._reader is not None:
            self._reader.wake()  # whoever waits may find that nothing will come
        if self._all_fed is not None:
            self._all_fed.set()
        self._ledger.rest()

    def _failed(self) -> None:
        assert self.feeds is not None, "only a feed fails"
        self._fail(f"what it is fed from raised {self.feeds.error!r:.200}")
