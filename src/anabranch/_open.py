"""Open a scheduler: check what it is given, before anything starts."""

from __future__ import annotations

import math
from typing import Literal

from anabranch._observers import Delivery, check_observer
from anabranch._options import exact
from anabranch._recording import check_recorder
from anabranch._scheduler import Scheduler
from anabranch._work import check_limit
from anabranch.abc import Limiter, Observer, Recorder


@exact("open_scheduler")
def open_scheduler(
    limit: float | Limiter,
    *,
    observer: Observer | None = None,
    recorder: Recorder | None = None,
    recorder_failure: Literal["stop", "report"] = "stop",
) -> Scheduler:
    """Open a scheduler that runs at most ``limit`` branches at once.

    Use it with ``async with``; leaving the block waits for every branch,
    an exception in the block cancels them.

    Args:
        limit: a whole number of at least 1, ``math.inf`` for none, or a CapacityLimiter of the
            host's loop, which may be shared with others and is never resized by anabranch.
        observer: called with each event, in a thread of its own.
        recorder: its ``record(outcome)`` is awaited before anybody hears of the outcome; several
            may be awaited at once.
        recorder_failure: what an error of the recorder does. ``stop``: everything is cancelled,
            and the error is raised when the block is left. ``report``: the first is logged, and
            the run goes on.

    Raises:
        ConfigurationError: a limit that cannot be meant, what cannot record.
    """
    check_observer("open_scheduler", observer)
    check_recorder("open_scheduler", recorder, recorder_failure)
    if not isinstance(limit, Limiter) and limit != math.inf:
        check_limit("open_scheduler", "limit", limit)
    return Scheduler(
        [limit],
        delivery=None if observer is None else Delivery(observer),
        own_delivery=True,
        recorder=recorder,
        stops_unrecorded=recorder_failure == "stop",
    )
