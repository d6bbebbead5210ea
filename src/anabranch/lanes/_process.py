"""Run calls in worker processes: the cpu lane.

On ``anyio.to_process`` for now, which works on both loops, reuses its workers and kills the worker
of a cancelled call. Its own limiter is as large as the machine's cores.
"""

from __future__ import annotations

import math
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import anyio.to_process

from anabranch._host import current_host
from anabranch._runtime import Runtime
from anabranch._work import name_of
from anabranch.abc import Limiter
from anabranch.errors import LaneError
from anabranch.samplers._cores import cores


def cpu_limiter(runtime: Runtime) -> Limiter:
    """Make the cpu lane's limiter for a loop: as many calls at once as there are cores."""
    limiter: Limiter = runtime.CapacityLimiter(max(1, math.floor(cores())))
    return limiter


class CpuLane:
    """Call plain functions in worker processes; arguments and results are pickled."""

    async def run(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> Any:
        """Run the call in a worker; a cancellation kills the worker.

        Raises:
            LaneError: what cannot be pickled, named; the call called sys.exit; or the worker died.
        """
        call = _pickled(fn, args, kwargs)
        # A worker knows the program as __mp_main__, and so do the classes of what it answers.
        sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
        borrower = object()
        host = current_host()
        limiter = host.part(cpu_limiter)
        await limiter.acquire_on_behalf_of(borrower)
        try:
            ok, answer = await host.part(_Pool).run(call)
        except anyio.BrokenWorkerProcess as error:
            raise LaneError(
                f"the process that ran {name_of(fn)} died before it answered; "
                f"it was killed, or ran out of memory, or called os._exit"
            ) from error
        finally:
            limiter.release_on_behalf_of(borrower)
        if not ok:
            raise _unpickled_error(answer)
        try:
            return pickle.loads(answer)
        except Exception as error:
            raise LaneError(
                f"the result of {name_of(fn)} cannot be unpickled: {error!r}; "
                f"return plain values from lane='cpu'"
            ) from error


CPU_LANE = CpuLane()


class _Pool:
    """Start each process of a loop before its first call, where no cancellation can strike.

    A call that is cancelled while anyio starts a process for it leaves that process behind
    (its ``to_process.run_sync`` kills only what it has started): so a call is let in only while
    an idle process is there for it, and ``lock`` is held until it has taken that.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._lock = anyio.Lock()
        self._alive = 0  # processes, as far as we know
        self._busy = 0

    async def run(self, call: bytes) -> tuple[bool, Any]:
        """Run one pickled call in a process of its own."""
        await self._lock.acquire()
        try:
            if self._busy >= self._alive:
                with anyio.CancelScope(shield=True):
                    await anyio.to_process.run_sync(int, limiter=anyio.CapacityLimiter(1))
                self._alive += 1
        except BaseException:
            self._lock.release()
            raise
        entrance = _Entrance(self._lock)
        self._busy += 1
        try:
            answer: tuple[bool, Any] = await anyio.to_process.run_sync(
                _call,
                call,
                cancellable=True,
                limiter=entrance,  # type: ignore[arg-type]  # it is only entered and left
            )
        except BaseException:  # killed, or dead
            self._alive -= 1
            raise
        finally:
            self._busy -= 1
            entrance.open()
        return answer


class _Entrance:
    """Stand in for the limiter of a call: a process is taken right after it was entered."""

    def __init__(self, lock: anyio.Lock) -> None:
        self._lock: anyio.Lock | None = lock

    def open(self) -> None:
        """Let the next call in."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def __aenter__(self) -> None:
        self.open()

    async def __aexit__(self, *error: object) -> None:
        pass


def _pickled(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Pickle the call; name what it is that cannot be pickled."""
    try:
        return pickle.dumps((fn, args, dict(kwargs)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        parts = {f"the function {name_of(fn)}": fn}
        for name, value in [*enumerate(args), *kwargs.items()]:
            parts[f"argument {name} ({type(value).__name__})"] = value
        culprit = next((what for what, value in parts.items() if not _pickles(value)), "the call")
        raise LaneError(
            f"{culprit} cannot be pickled, and lane='cpu' runs in another process: {error}; "
            f"use a function at the top of a module and plain values, or another lane"
        ) from error


def _pickles(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def _call(call: bytes) -> tuple[bool, Any]:
    """Make the call, in the worker; answer in bytes that are known to unpickle."""
    # A terminal's Ctrl-C reaches the whole group; the parent decides, and kills its workers.
    # Not SIG_IGN, which the programs that a branch starts would inherit.
    signal.signal(signal.SIGINT, lambda _, __: None)
    try:
        fn, args, kwargs = pickle.loads(call)
    except BaseException as error:  # a module that is imported for it may call sys.exit
        what = f"the call cannot be unpickled in its process: {error!r}"
        return False, _pickled_error(LaneError(what + "; hand plain values to lane='cpu'"))
    try:
        value = fn(*args, **kwargs)
    except Exception as error:
        trace = error.__traceback__
        # The first frame is this one, which tells nobody anything.
        return False, _pickled_error(error.with_traceback(trace and trace.tb_next))
    except BaseException as error:  # it would end the worker, and then the whole run
        return False, _pickled_error(_as_lane_error(fn, error))
    try:
        return True, pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        what = f"the result of {name_of(fn)} ({type(value).__name__}) cannot be pickled: {error}"
        return False, _pickled_error(LaneError(what + "; return plain values from lane='cpu'"))


def _as_lane_error(fn: Callable[..., Any], error: BaseException) -> LaneError:
    """Make the error for a call that raised what ends a program, such as SystemExit."""
    if isinstance(error, SystemExit):
        what = f"{name_of(fn)} called sys.exit({_repr(error.code)}) in its process"
    else:
        what = f"{name_of(fn)} raised {type(error).__name__} in its process, which ends a program"
    trace = error.__traceback__
    told = LaneError(f"{what}, and that ends its call alone; return a value or raise an Exception")
    return told.with_traceback(trace and trace.tb_next)


def _pickled_error(error: Exception) -> tuple[bytes | None, str, str]:
    """Pickle an exception, if it survives that, with its name and its traceback in words."""
    words = "".join(traceback.format_exception(error))
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # an exception class that does not take its own args, or holds a lock
        return None, _repr(error), words
    return data, _repr(error), words


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # its own, and no reason to lose the rest
        return f"<{type(value).__name__}, whose repr raises>"


def _unpickled_error(answer: tuple[bytes | None, str, str]) -> Exception:
    data, name, words = answer
    if data is None:
        error: Exception = LaneError(f"the call raised {name}, which cannot be pickled")
    else:
        error = pickle.loads(data)
    error.add_note(f"in a process of lane='cpu':\n{words.rstrip()}")
    return error
