"""Take up a batch that ended early: return from a journal how a module ended, and run the rest.

A module is known by its id, so under one journal an id must mean one command: each that is held as
done is compared before anything starts.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from anabranch._redact import Redaction
from anabranch._work import Outcome
from anabranch.abc import Recorder
from anabranch.errors import ConfigurationError
from anabranch.executor._modules import Module

DETAIL = "module"  # under which a journal keeps what is said here
RAN = ("exit", "signal", "timeout", "output")  # a script that never began is left to do
UNKEPT = ("module_id", "stdout", "stderr")  # of a result: the last two may hold anything

Result = dict[str, Any]
ResultOf = Callable[[Outcome], Result]


class Entry(Protocol):
    """Say what a journal holds of one branch."""

    @property
    def done(self) -> bool: ...
    @property
    def detail(self) -> Mapping[str, Any]: ...


@runtime_checkable
class Keeper(Protocol):
    """Record outcomes with what else is to be known of each, and tell what is held; a Journal."""

    async def record_described(
        self, outcomes: Sequence[Outcome], details: Sequence[Mapping[str, Any]], /
    ) -> None: ...
    def find(self, key: str, /) -> Entry | None: ...


class Described:
    """Record how modules ended together with what they are; a recorder for one batch."""

    def __init__(self, journal: Keeper, named: Mapping[str, Module], result_of: ResultOf) -> None:
        self._journal = journal
        self._named = named
        self._result_of = result_of

    async def record(self, outcome: Outcome) -> None:
        """Wait until it is recorded."""
        await self.record_all((outcome,))

    async def record_all(self, outcomes: Sequence[Outcome]) -> None:
        """Likewise wait for several."""
        details = [{DETAIL: self._detail(outcome)} for outcome in outcomes]
        await self._journal.record_described(outcomes, details)

    def _detail(self, outcome: Outcome) -> Mapping[str, Any]:
        result = self._result_of(outcome)
        cut = result["truncated"] or bool(result["stdout"] or result["stderr"])
        kept = {name: value for name, value in result.items() if name not in UNKEPT}
        return {"command": shown(self._named[outcome.key]), **kept, "truncated": cut}


def recorder_for(
    journal: Recorder | None, named: Mapping[str, Module], result_of: ResultOf
) -> Recorder | None:
    """Return who records a batch: the journal itself, where it cannot be taken up."""
    return Described(journal, named, result_of) if isinstance(journal, Keeper) else journal


def done(journal: Keeper, named: Mapping[str, Module], *, failed_again: bool) -> dict[str, Result]:
    """Return the results of the modules that are held as done; blocks while the file is read.

    Args:
        failed_again: what failed counts as not done.

    Raises:
        ConfigurationError: something else was recorded under a module's id.
        JournalError: the journal is not open.
    """
    redact = Redaction().text
    results: dict[str, Result] = {}
    for key, module in named.items():
        entry = journal.find(key)
        if entry is None or not entry.done:
            continue
        kept = entry.detail.get(DETAIL)
        if not isinstance(kept, Mapping) or not kept.keys() >= {"command", "kind", "success"}:
            raise ConfigurationError(
                f"ConcurrentExecutor: the journal holds {key!r:.80}, and as no script of an "
                f"executor; give another journal"
            )
        if kept["kind"] not in RAN:
            continue
        _compare(key, kept["command"], redact(shown(module)))
        if kept["success"] or not failed_again:
            results[key] = _result(module, kept)
    return results


def shown(module: Module) -> str:
    """Return what a module runs, as a shell would read it, and where if that was said."""
    words = [_word(module.script_path)]
    args = module.args
    if args is not None:
        words += [_word(arg) for arg in args] if isinstance(args, tuple) else [_word(args)]
    line = shlex.join(words)
    return line if module.cwd is None else f"{line} (in {_word(module.cwd)})"


def _word(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else repr(value)


def _compare(key: str, known: str, now: str) -> None:
    if known != now:
        raise ConfigurationError(
            f"ConcurrentExecutor: module {key!r:.80} was recorded as {known!r:.200}, and is now "
            f"{now!r:.200}; give the modules of the batch that is taken up, or another journal"
        )


def _result(module: Module, kept: Mapping[str, Any]) -> Result:
    told = {name: value for name, value in kept.items() if name != "command"}
    return {"module_id": module.module_id, "stdout": "", "stderr": "", **told}
