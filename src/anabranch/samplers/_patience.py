"""Ask what may hang: in a thread of its own, for a limited time, and never twice at once.

A driver that has lost its device may not answer for minutes, and a thread cannot be stopped.
So whoever asks gives up after a second, and until that call has ended everybody is told at once
that there is no answer. An answer that comes too late is dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
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
        with self._lock:
            if self._under_way is None or self._under_way.done():
                self._under_way = self._start()
            answer, left = self._under_way, self._began + self._limit - self._clock()
        try:
            return answer.result(timeout=max(0.0, left))
        except TimeoutError:
            if answer.done():  # it was the call's own
                raise
            seconds = self._clock() - self._began
            raise NoAnswerError(f"no answer for {seconds:.1f} s") from None

    def _start(self) -> Future[T]:
        answer: Future[T] = Future()
        thread = threading.Thread(target=self._run, args=(answer,), daemon=True)
        self._began = self._clock()
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be had
            raise NoAnswerError(f"cannot be asked: {error}") from error
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
