"""Ask what may hang: in a thread of its own, for a limited time, and never twice at once.

A driver that has lost its device may not answer for minutes, and a thread cannot be stopped.
So whoever asks gives up after a second, and until that call has ended everybody is told at once
that there is no answer. An answer that comes too late is dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Generic, TypeVar

from anabranch.errors import AnabranchError

T = TypeVar("T")

LIMIT_S = 1.0


class NoAnswerError(AnabranchError):
    """Say that a call has not ended in time, or could not be made; nobody's fault."""


class Patience(Generic[T]):
    """Ask one thing, with a limit of time; from any thread.

    Args:
        call: what is asked.
        limit: seconds.
        clock: real seconds.
    """

    def __init__(
        self,
        call: Callable[[], T],
        limit: float = LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: Future[T] | None = None
        self._began = 0.0

    def ask(self) -> T:
        """Return the answer; two who ask at the same time get the same one.

        Raises:
            NoAnswerError: it takes too long, or an earlier call still does.
            Exception: what the call raises.
        """
        return self.begin()()

    def begin(self) -> Callable[[], T]:
        """Ask, and return what waits for the answer: several can be waited for at once."""
        with self._lock:
            if self._under_way is None or self._under_way.done():
                self._began = self._clock()
                self._under_way = self._start()
            return partial(self._wait, self._under_way, self._began)

    def _wait(self, answer: Future[T], began: float) -> T:
        wait([answer], timeout=max(0.0, began + self._limit - self._clock()))
        if not answer.done():
            raise NoAnswerError(f"no answer for {self._clock() - began:.1f} s")
        return answer.result()

    def _start(self) -> Future[T]:
        answer: Future[T] = Future()
        try:
            threading.Thread(target=self._run, args=(answer,), daemon=True).start()
        except (RuntimeError, MemoryError) as error:  # no thread can be had
            answer.set_exception(NoAnswerError(f"cannot be asked: {error}"))
        return answer

    def _run(self, answer: Future[T]) -> None:
        try:
            value = self._call()
        except Exception as error:
            answer.set_exception(error)
        except BaseException as error:  # a SystemExit ends no run
            answer.set_exception(NoAnswerError(f"raised {error!r}"))
        else:
            answer.set_result(value)
