"""Make branches that do what a test says, step by step, and keep what became of them.

    branches = script({"a": [sleep(1), returns(3)], "b": [sleep(2), raises(ValueError)]})
    await Pipeline([Step.parallel(branches)]).run(None)
    assert branches.peak == 2

A behaviour is an async function of the call that it is part of; `_behaviours` makes the usual ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from anabranch._runtime import current
from anabranch._work import is_async
from anabranch.errors import ConfigurationError

Branch: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]


@attrs.define(eq=False)
class Call:
    """Tell of one call of a branch.

    Attributes:
        key: the branch. number: which call of it, from 0. data: what it was given.
        began, ended: by the loop's clock; ``ended`` is None while it runs.
        how: "returned", "raised" or "cancelled"; empty while it runs.
        value: what it returns, or would return by now.
    """

    key: str
    number: int
    data: Any
    began: float
    ended: float | None = None
    how: str = ""
    value: Any = None
    _played: Any = attrs.field(default=None, repr=False)

    def event_of(self, key: str) -> Any:
        """Return the event that is set when a branch has ended."""
        return self._played.event_of(key)


Behaviour: TypeAlias = Callable[[Call], Awaitable[object]]


class Scripted(Mapping[str, Branch]):
    """Be branches by their keys, as ``Step.parallel`` takes them; and tell what they did.

    Attributes:
        calls: all of them, in the order of their beginning.
        running: keys of those that run now. peak: the most that ran at once.
    """

    def __init__(self, lines: Mapping[str, tuple[Any, ...]]) -> None:
        self.calls: list[Call] = []
        self.peak = 0
        self._lines = dict(lines)
        self._events: dict[str, Any] = {}
        self._branches = {key: self._branch(key) for key in self._lines}

    def __getitem__(self, key: str) -> Branch:
        return self._branches[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._branches)

    def __len__(self) -> int:
        return len(self._branches)

    def __repr__(self) -> str:
        return f"script({self._lines!r})"

    @property
    def running(self) -> tuple[str, ...]:
        """The keys of those that run now, in the order of their beginning."""
        return tuple(call.key for call in self.calls if call.ended is None)

    def event_of(self, key: str) -> Any:
        """Return the event that is set when a branch has ended."""
        if key not in self._lines:
            raise ConfigurationError(
                f"waits_for({key!r:.80}): there is no such branch; "
                f"there are {', '.join(map(repr, self._lines))}"
            )
        if key not in self._events:
            self._events[key] = current().Event()
        return self._events[key]

    def _branch(self, key: str) -> Branch:
        async def branch(data: Any = None) -> Any:
            return await self._play(key, data)

        branch.__name__ = branch.__qualname__ = key
        return branch

    async def _play(self, key: str, data: Any) -> Any:
        runtime = current()
        clock = runtime.lowlevel.current_clock().current_time
        number = sum(each.key == key for each in self.calls)
        call = Call(key, number, data, clock(), value=data, played=self)
        self.calls.append(call)
        self.peak = max(self.peak, len(self.running))
        call.how = "raised"
        try:
            for each in self._lines[key]:
                await each(call)
            call.how = "returned"
        except runtime.Cancelled:
            call.how = "cancelled"
            raise
        finally:
            call.ended = clock()
            self.event_of(key).set()
        return call.value


def script(branches: Mapping[str, Sequence[Behaviour] | Behaviour]) -> Scripted:
    """Make branches that behave as said: each a key and what it does, in order.

    A branch returns what ``returns`` says last, and what it was given without one.

    Raises:
        ConfigurationError: what is no mapping of keys to behaviours.
    """
    if not isinstance(branches, Mapping):
        raise ConfigurationError(
            f"script: {branches!r:.80} ({type(branches).__name__}) is no mapping; "
            f"give {{'a': [sleep(1), returns(3)]}}"
        )
    return Scripted(
        {
            _key(key): check_line(f"script: branch {key!r:.80}", acts)
            for key, acts in branches.items()
        }
    )


def check_line(where: str, acts: object) -> tuple[Behaviour, ...]:
    """Return what a branch does, in order.

    Raises:
        ConfigurationError: something that is no behaviour.
    """
    line = (acts,) if isinstance(acts, str) or not isinstance(acts, Sequence) else tuple(acts)
    for each in line:
        if isinstance(each, type) or not is_async(each):
            raise ConfigurationError(
                f"{where}: {each!r:.80} ({type(each).__name__}) is no behaviour; "
                f"give sleep(1), returns(3), raises(ValueError), or an async function of a Call"
            )
    return line


def _key(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"script: {key!r:.80} is no key of a branch; give a string")
    return key
