"""Make the iterables of jobs that a program's schedulers are fed from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

from anabranch._work import Job
from tests.properties import _programs as p
from tests.properties._model import MARK, BoomError, Run, Trace, World


def feed_of(
    feed: p.Feed, run: Run, mark: str, job_of: Callable[[Trace, World], Job]
) -> Iterator[Job] | AsyncIterator[Job]:
    """Make the iterable that a feed describes, plain or async."""
    world = run.opener.world

    def next_job(spec: p.Spec) -> Job:
        world.claim(MARK.get() == mark, f"a feed is pulled in {MARK.get()}'s context")
        trace = world.accept(spec, run, mark)
        trace.fed = True
        return job_of(trace, world)

    def end() -> None:
        if feed.fails:
            run.domain.called = run.domain.apart = True
            raise BoomError("feed")

    specs = [spec for spec in feed.jobs for _ in range(spec.copies)]

    def plain() -> Iterator[Job]:
        for spec in specs:
            limit = min(limiter.total_tokens for limiter in run.limiters)
            kept = run.unread() if run.in_block else 0
            world.claim(kept < 2 * limit, f"pulled with {kept} unread at a limit of {limit}")
            yield next_job(spec)
        end()

    async def paced() -> AsyncIterator[Job]:
        for spec in specs:
            await world.runtime.sleep(feed.pause or 0)
            yield next_job(spec)
        end()

    return plain() if feed.pause is None else paced()
