"""Run calls in child processes: the cpu lane.

``anyio.to_process`` discards what a child prints; ``concurrent.futures`` breaks as a whole when
one process dies, and cannot stop a call: so the processes are our own, in ``_spawn.py``.
They are started by spawn, never by fork, kept for the next call, and end with the loop.
A call that is cancelled is stopped by killing its process; another takes its place when needed.
"""

from __future__ import annotations

import atexit
import math
import os
import pickle
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from anabranch._host import current_host
from anabranch._runtime import Runtime
from anabranch._work import name_of
from anabranch.abc import Limiter
from anabranch.errors import LaneError
from anabranch.lanes._ending import at_loop_end
from anabranch.lanes._spawn import AT_ONCE, Child
from anabranch.samplers._cores import cores

CLOSE_S = 1.0  # for idle processes to end by themselves, before they are killed

_every: WeakSet[Children] = WeakSet()


def cpu_limiter(runtime: Runtime) -> Limiter:
    """Make the cpu lane's limiter for a loop: as many calls at once as there are cores."""
    limiter: Limiter = runtime.CapacityLimiter(max(1, math.floor(cores())))
    return limiter


class CpuLane:
    """Call plain functions in child processes; arguments and results are pickled.

    Context variables are not carried: a process starts with its own.

    Args:
        label: what output and log records are marked with; the function's name if empty.
    """

    def __init__(self, label: str = "") -> None:
        self._label = label

    def labelled(self, label: str) -> CpuLane:
        """Return the lane for a branch of that key."""
        return CpuLane(label)

    async def run(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> Any:
        """Run the call in a child; a cancellation kills the child.

        Raises:
            LaneError: what cannot be pickled, named; the call called sys.exit; or the child died.
        """
        call = Call(fn, args, kwargs, self._label)
        borrower = object()
        host = current_host()
        limiter = host.part(cpu_limiter)
        await limiter.acquire_on_behalf_of(borrower)
        try:
            return await host.part(Children).run(call)
        finally:
            limiter.release_on_behalf_of(borrower)


CPU_LANE = CpuLane()


class Call:
    """Be one call on its way into a process and back; pickled when it is made.

    Raises:
        LaneError: what of it cannot be pickled.
    """

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], label: str
    ) -> None:
        self.fn = fn
        self.label = label or name_of(fn)
        self.data = _pickled(fn, args, kwargs)
        self.event: Any = None
        self.answer: tuple[bool, Any] | None = None  # None: its process died

    def expect(self, runtime: Runtime) -> Callable[[bytes | None], None]:
        """Return what takes the answer, in any thread, and tells the loop."""
        self.event = event = runtime.Event()
        loop = runtime.lowlevel.current_trio_token()

        def settle(payload: bytes | None) -> None:
            if payload is not None:
                self.answer = _read(payload, self.fn)
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.run_sync_soon(event.set)

        return settle


class Children:
    """Keep the processes of one loop; each serves one call at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._closed = False
        self._loop_end: AsyncGenerator[None, None] | None = None
        _every.add(self)

    @property
    def count(self) -> int:
        """How many processes there are, as far as we know."""
        return len(self._idle) + len(self._busy)

    async def run(self, call: Call) -> Any:
        """Run one call in a process of its own.

        Raises:
            LaneError: the process could not be started, or died; or what the lane cannot carry.
        """
        if self._loop_end is None:
            self._loop_end = await at_loop_end(lambda: self.close(kill=True))
        child = self._take(call)
        self._busy.add(child)
        try:
            data = child.request(call.data, call.label, call.expect(self._runtime))
            if len(data) <= AT_ONCE:
                child.write(data)
            else:
                await self._runtime.to_thread.run_sync(child.write, data, abandon_on_cancel=True)
            await call.event.wait()
        except BaseException:
            if not call.event.is_set():
                child.kill()
                with self._runtime.CancelScope(shield=True):
                    await call.event.wait()
            raise
        finally:
            self._put_back(child)
        return _value(call, child)

    def close(self, *, kill: bool, wait: bool = True) -> None:
        """End idle processes before this returns; those that work end after their call.

        Called from any thread.

        Args:
            kill: end those that work as well, now.
            wait: False only asks them to end.
        """
        if self._owner != os.getpid():
            return  # this is a fork, and they are its parent's
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy) if kill else []
        for child in busy:
            child.kill()
        for child in idle:
            child.close()
        patience = CLOSE_S
        for child in [*idle, *busy] if wait else ():
            if not child.ended.wait(patience):
                patience = 0.0  # all of them had their time
                child.kill()
                child.ended.wait(CLOSE_S)

    def _take(self, call: Call) -> Child:
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                break
            if child.alive():
                return child
        _check_may_start(call)
        try:
            return Child()
        except OSError as error:
            raise LaneError(
                f"no process could be started for {name_of(call.fn)}: {error}; "
                f"run fewer at once, or raise the limits of the system"
            ) from error

    def _put_back(self, child: Child) -> None:
        self._busy.discard(child)
        if not child.alive():
            return
        with self._lock:
            if not self._closed:
                self._idle.append(child)
                return
        child.close()


def _close_all() -> None:
    """End the processes of loops that were never closed, when the interpreter exits."""
    for children in list(_every):
        children.close(kill=True)


atexit.register(_close_all)


def _check_may_start(call: Call) -> None:
    """Refuse to start a process in one that still imports the program: they would never end.

    And on Windows, where nothing of this was ever run: there are no process groups.
    """
    if os.name != "posix":
        raise LaneError(
            f"{name_of(call.fn)} cannot run in lane='cpu': it needs a POSIX system; hand a "
            f"ProcessPoolExecutor in as a lane, or use lane='io'"
        )
    program = sys.modules.get("anabranch_child")
    if program is not None and program.preparing:
        raise LaneError(
            f"{name_of(call.fn)} was called for lane='cpu' while a process of that lane imports "
            f"the program; guard what the program runs by: if __name__ == '__main__'"
        )


def _value(call: Call, child: Child) -> Any:
    """Return what the call returned, or raise what it raised."""
    if call.answer is None:
        raise LaneError(
            f"the process that ran {name_of(call.fn)} died before it answered "
            f"({_ended(child.returncode)}); "
            f"it was killed, or ran out of memory, or called os._exit"
        )
    ok, answer = call.answer
    if ok:
        return answer
    raise answer


def _ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _read(payload: bytes, fn: Callable[..., Any]) -> tuple[bool, Any]:
    """Unpickle an answer, in the thread of its process: large ones do not hold the loop."""
    try:
        ok, answer = pickle.loads(payload)
    except BaseException as error:
        told = LaneError(
            f"the result of {name_of(fn)} cannot be unpickled: {error!r}; "
            f"return plain values from lane='cpu'"
        )
        told.__cause__ = error
        return False, told
    return (True, answer) if ok else (False, _error(*answer))


def _error(data: bytes | None, what: str, words: str) -> Exception:
    error: Exception = LaneError(what)
    if data is not None:
        try:
            error = pickle.loads(data)
        except Exception as raised:  # it could be unpickled there, and not here
            error = LaneError(f"what the call raised cannot be unpickled here: {raised!r}")
    if words:
        error.add_note(f"in a process of lane='cpu':\n{words.rstrip()}")
    return error


def _pickled(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Pickle the call; name what it is that cannot be pickled."""
    # A process knows the program as __mp_main__, and so do the classes of what it answers.
    program = sys.modules["__main__"]
    sys.modules.setdefault("__mp_main__", program)
    typed = (
        getattr(program, "__file__", None) is None and getattr(program, "__spec__", None) is None
    )
    if typed and getattr(fn, "__module__", None) == "__main__":
        raise LaneError(
            f"{name_of(fn)} was typed at a prompt or with -c, where the process of lane='cpu' "
            f"cannot find it; put it into a file and import it, or use another lane"
        )
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
