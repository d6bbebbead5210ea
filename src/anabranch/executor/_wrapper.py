"""Run one script in the way that the environment or the caller chooses."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs

from anabranch._options import exact
from anabranch._work import check_seconds
from anabranch.errors import ConfigurationError
from anabranch.executor._binding import Binding
from anabranch.lanes._script import Finished, Script, Word
from anabranch.lanes._subprocess import run

VARIABLE = "PRISMQ_RUN_MODE"


class RunMode(StrEnum):
    """Say where a script runs.

    ``ASYNC``: a child process whose output is kept. ``THREADED``: the same, and it needs nothing
    of the loop but threads, which here ``ASYNC`` does not either. ``LOCAL``: it reads and writes
    where this process does. ``DRY_RUN``: its command is printed, and nothing runs.
    """

    ASYNC = "async"
    THREADED = "threaded"
    LOCAL = "local"
    DRY_RUN = "dry_run"


def chosen(mode: object) -> RunMode:
    """Return the mode that is given, or else the one that the environment names, or else ASYNC.

    Raises:
        ConfigurationError: there is no such mode.
    """
    said = os.environ.get(VARIABLE, "") if mode is None else mode
    where = f"{VARIABLE} in the environment" if mode is None else "mode="
    word = said.strip().lower().replace("-", "_") if isinstance(said, str) else said
    if word == "":
        return RunMode.ASYNC
    try:
        return RunMode(word)  # type: ignore[arg-type]  # it refuses what is no string
    except ValueError:
        known = ", ".join(each.name for each in RunMode)
        raise ConfigurationError(
            f"SubprocessWrapper: {where} is {said!r:.80}, which is no mode; give one of {known}"
        ) from None


class SubprocessWrapper:
    """Run scripts; ``run`` may be awaited many times at once.

    Args:
        mode: a RunMode or its name; None for what PRISMQ_RUN_MODE says, or else ASYNC.
    """

    def __init__(self, mode: RunMode | str | None = None) -> None:
        self.mode = chosen(mode)
        self._binding = Binding("SubprocessWrapper")

    @exact("SubprocessWrapper.run", awaits=True)
    async def run(
        self,
        argv: Sequence[Word],
        *,
        cwd: Word | None = None,
        env: Mapping[Any, Any] | None = None,
        timeout: float | None = None,
    ) -> Finished:
        """Run a script to its end, however it ends: a failure is told, not raised.

        Args:
            argv: the program and its arguments; no shell reads them.
            cwd: the folder to run in. env: the whole environment; None for this process's own.
            timeout: seconds; then its process tree is ended.

        Raises:
            ConfigurationError: an argument that cannot be meant.
        """
        check_seconds("SubprocessWrapper.run", "timeout", timeout)
        script = Script(argv, cwd=cwd, env=env)
        with self._binding.call() as call:
            finished = await call.guarded(lambda: self.run_script(script, timeout))
        if finished is None:
            return Finished(kind="cancelled", error="cancelled: cleanup()")
        return finished

    async def run_script(self, script: Script, timeout: float | None) -> Finished:
        """Run a script in this mode; ``cleanup`` does not reach it."""
        if self.mode is RunMode.DRY_RUN:
            sys.stdout.write(shlex.join(map(os.fsdecode, script.argv)) + "\n")
            return Finished(exit_code=0)
        if self.mode is RunMode.LOCAL:
            script = attrs.evolve(script, inherit=True)
        return await run(script, timeout)

    def cleanup(self) -> None:
        """End what runs; the wrapper may be used again."""
        self._binding.cancel("cleanup()")
