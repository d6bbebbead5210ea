"""Turn modules into scripts, and how those ended into the dicts that seed 000 shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from anabranch._work import Outcome, Status, check_seconds
from anabranch.errors import ConfigurationError, ScriptFailedError
from anabranch.lanes._script import Finished, Script

PARTS = ("module_id", "script_path", "args", "cwd", "timeout")


def _to_args(args: Any) -> Any:
    """Keep what can be gone through only once: a script may run again."""
    one = args is None or isinstance(args, (str, bytes)) or not isinstance(args, Iterable)
    return args if one else tuple(args)


@attrs.frozen
class Module:
    """Name a Python script that is to run, and with what."""

    module_id: str
    script_path: Any
    args: Any = attrs.field(default=None, converter=_to_args)
    cwd: Any = None
    timeout: float | None = None

    def script(self) -> Script:
        """Return what is to run: this interpreter, the script by its whole path, its arguments.

        Raises:
            FileNotFoundError: the script is not there.
            ConfigurationError: a value that cannot be meant.
        """
        path = self._found()
        args = [] if self.args is None else self.args
        if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
            raise ConfigurationError(
                f"args={args!r:.80} ({type(args).__name__}) is no list of arguments; "
                f"give [{args!r:.40}] for one"
            )
        return Script([sys.executable, path, *args], cwd=self.cwd)

    def _found(self) -> str:
        if not isinstance(self.script_path, (str, os.PathLike)):
            raise ConfigurationError(
                f"script_path={self.script_path!r:.80} ({type(self.script_path).__name__}) "
                f"is no path; give a Path or a str"
            )
        named = os.fsdecode(self.script_path)
        if "\0" in named:
            raise ConfigurationError(f"script_path={named!r:.80} has a NUL, which no path can have")
        # As strings: pathlib takes longer than all else that is done here for a script.
        here = os.getcwd()  # noqa: PTH109
        place = os.path.join(here, named)  # noqa: PTH118
        if _runs(place):
            return place
        if self.cwd is not None:  # as a shell would find it there
            there = os.path.join(here, os.fsdecode(self.cwd), named)  # noqa: PTH118
            if _runs(there):
                return there
        if os.path.isdir(place):  # noqa: PTH112
            raise IsADirectoryError(f"Script is a folder without __main__.py: {named}")
        raise FileNotFoundError(f"Script file not found: {named}")


def _runs(path: str) -> bool:
    """Tell whether an interpreter finds a program there."""
    return os.path.isfile(path) or os.path.isfile(f"{path}/__main__.py")  # noqa: PTH113


def modules_of(modules: object) -> list[Module]:
    """Return what ``execute_batch`` was given.

    Raises:
        ConfigurationError: something else than tuples of a module.
    """
    if isinstance(modules, (str, bytes)) or not isinstance(modules, Iterable):
        raise ConfigurationError(
            f"execute_batch: {modules!r:.80} ({type(modules).__name__}) is no list of modules; "
            f"give [(module_id, script_path, args), ...]"
        )
    return [_module(number, given) for number, given in enumerate(modules)]


def _module(number: int, given: Any) -> Module:
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise ConfigurationError(
            f"execute_batch: module {number} is {given!r:.80} ({type(given).__name__}); "
            f"give a tuple (module_id, script_path, args)"
        )
    if not 2 <= len(given) <= len(PARTS):
        raise ConfigurationError(
            f"execute_batch: module {number} has {len(given)} parts: {given!r:.80}; "
            f"give two to five of ({', '.join(PARTS)})"
        )
    module = Module(*given)
    check_seconds(f"execute_batch: module {number}", "timeout", module.timeout)
    return module


def result_of(module: Module, outcome: Outcome, timeout: float | None) -> dict[str, Any]:
    """Return how a module ended, in the seed's words."""
    finished = outcome.value if outcome.status is Status.SUCCEEDED else _unfinished(outcome)
    return result_from(module, finished, timeout)


def result_from(module: Module, finished: Finished, timeout: float | None) -> dict[str, Any]:
    """Return what a module is told to have come to."""
    error = finished.error
    if finished.kind == "timeout" and timeout is not None:
        error = f"Module execution timed out after {timeout:g}s"
    return {
        "module_id": module.module_id,
        "exit_code": -1 if finished.kind == "timeout" else finished.exit_code,
        "success": error is None,
        "error": error,
        "stdout": finished.stdout.decode(errors="replace"),
        "stderr": finished.stderr.decode(errors="replace"),
        "truncated": finished.truncated,
        "duration_s": finished.duration_s,
        "kind": finished.kind,
    }


def _unfinished(outcome: Outcome) -> Finished:
    error = outcome.error
    if isinstance(error, ScriptFailedError) and isinstance(error.finished, Finished):
        return error.finished
    if outcome.status is Status.FAILED and error is not None:
        return Finished(kind="spawn", error=f"{type(error).__name__}: {error}")
    why = outcome.reason or "nobody says why"
    return Finished(kind="cancelled", error=f"cancelled: {why}", duration_s=outcome.ran_s)
