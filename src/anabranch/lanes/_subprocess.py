"""Run scripts as child processes that cannot hang, fill memory, or outlive their end.

Each has a session of its own and a thread that reads its pipes and waits for it;
the loop keeps its deadline. Whatever ends the call, its whole process tree has ended before it
returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.lanes._script import GRACE_S, TAIL, Finished, OnLine, Script, Word

__all__ = ["Finished", "Script", "run_script"]


async def run_script(
    argv: Sequence[Word],
    *,
    cwd: Word | None = None,
    env: Mapping[Any, Any] | None = None,
    stdin: Any = None,
    timeout: float | None = None,
    grace: float = GRACE_S,
    tail: int = TAIL,
    stdout_to: Word | None = None,
    stderr_to: Word | None = None,
    on_line: OnLine | None = None,
    inherit: bool = False,
) -> Finished:
    """Run a script to its end, however it ends; what the arguments mean is told at ``Script``.

    A script that fails raises nothing: ``Finished.error`` says why it failed.
    A cancellation ends its whole process tree, and then goes on its way.

    Args:
        timeout: seconds from its start; then it is ended, with ``kind="timeout"``.

    Raises:
        ConfigurationError: an argument that cannot be meant.
        Exception: what ``on_line`` raised; the script was ended for it.
    """
    raise NotImplementedError
