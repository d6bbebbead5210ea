"""Keep what belongs to one running loop: its runtime and clock, and what all runs on it share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from anabranch import _runtime
from anabranch._runtime import Runtime

T = TypeVar("T")

_hosts: dict[int, Any] = {}  # one RunVar for each runtime: trio's and the seam's differ


class Host:
    """Belong to one running loop, for as long as it runs.

    ``tick`` is when the loop last went round, as far as all hands on it can tell.
    """

    __slots__ = ("_parts", "brief", "clock", "native_cancels", "runtime", "tick")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        # Called from threads too, and cheaper than the runtime's current_time().
        self.clock: Callable[[], float] = runtime.lowlevel.current_clock().current_time
        self.native_cancels = _runtime.native_counter()
        self.tick = -math.inf
        self.brief = _runtime.brief_trap()
        self._parts: dict[Any, Any] = {}

    def part(self, make: Callable[[Runtime], T]) -> T:
        """Return what ``make`` makes for this loop; made when it is first asked for."""
        part: T | None = self._parts.get(make)
        if part is None:
            part = self._parts[make] = make(self.runtime)
        return part


def current_host() -> Host:
    """Return the host of the running loop.

    Raises:
        HostLoopError: no loop runs in this thread.
    """
    runtime = _runtime.current()
    try:
        host: Host = _hosts[id(runtime)].get()
    except LookupError:
        var = _hosts.setdefault(id(runtime), runtime.lowlevel.RunVar("anabranch_host"))
        host = Host(runtime)
        var.set(host)
    return host


def host_of(runtime: Runtime) -> Host | None:
    """Return the host of the running loop, asked from outside of its tasks; None if it has none."""
    try:
        host: Host = _hosts[id(runtime)].get()
    except LookupError:
        return None
    return host
