"""Keep the one manager of the process, and decorate functions that always run in its lanes."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from anabranch._work import check_callable, is_async, name_of
from anabranch.errors import ConfigurationError
from anabranch.manager._config import ConcurrencyManagerConfig
from anabranch.manager._manager import ConcurrencyManager

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()
_kept: list[ConcurrencyManager] = []


def get_concurrency_manager(config: ConcurrencyManagerConfig | None = None) -> ConcurrencyManager:
    """Return the manager of this process, from anywhere; its lanes belong to the running loop.

    The first call makes it, and so does the first after it was shut down.

    Args:
        config: for the one that is made; None for the defaults.

    Raises:
        ConfigurationError: it is there already, with another config.
    """
    with _lock:
        kept = next((each for each in _kept if not each.is_shut_down), None)
        if kept is None:
            kept = ConcurrencyManager(config)
            _kept[:] = [kept]
        elif config is not None and config != kept.config:
            raise ConfigurationError(
                f"get_concurrency_manager: it was made with {kept.config}, not {config}; give a "
                f"config with the first call only, or call its shutdown() before"
            )
        return kept


def run_cpu_bound(fn: Callable[P, R]) -> Callable[P, Awaitable[R]]:
    """Decorate a plain function: a call of it is awaited, and runs in a process.

    Raises:
        ConfigurationError: an async function.
    """
    check_callable("run_cpu_bound", fn)
    if is_async(fn):
        raise ConfigurationError(
            f"run_cpu_bound: {name_of(fn)} is async, and runs in a process; use run_io_bound, "
            f"or make it a plain function"
        )

    @wraps(fn)
    async def decorated(*args: P.args, **kwargs: P.kwargs) -> Any:
        bare = Undecorated(decorated)
        return await get_concurrency_manager().run_cpu(bare, *args, **kwargs)

    return decorated


def run_io_bound(fn: Callable[P, R]) -> Callable[P, Awaitable[Any]]:
    """Decorate a function, async or plain: a call of it is awaited, and runs in the io lane."""
    check_callable("run_io_bound", fn)

    @wraps(fn)
    async def decorated(*args: P.args, **kwargs: P.kwargs) -> Any:
        return await get_concurrency_manager().run_io(fn, *args, **kwargs)

    return decorated


class Undecorated:
    """Be the function that a decorated one wraps, also on its way into a process.

    By its own name the module has the decorated one, so that is what is found there, and looked
    through. Nothing of this class arrives.
    """

    def __init__(self, decorated: Any) -> None:
        self._decorated = decorated
        self.__qualname__ = decorated.__qualname__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it here."""
        return self._decorated.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._decorated, "__wrapped__")
