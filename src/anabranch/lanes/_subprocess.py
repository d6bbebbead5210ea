"""Run scripts as child processes that cannot hang, fill memory, or outlive their end.

Each has a session of its own and a thread that reads its pipes and waits for it;
the loop keeps its deadline. Whatever ends the call, its whole process tree has ended before it
returns.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from anabranch._host import Host, current_host
from anabranch._options import exact
from anabranch._work import check_seconds
from anabranch.errors import LaneError, ScriptFailedError
from anabranch.lanes._beside import Beside
from anabranch.lanes._room import FIRST_S, LONGEST_S, PATIENCE_S, ROOM, is_scarce, tell_refusal
from anabranch.lanes._running import Running
from anabranch.lanes._script import GRACE_S, TAIL, Finished, OnLine, Script, Word
from anabranch.lanes._start import why_not
from anabranch.lanes._stop import stop
from anabranch.lanes._thread import io_lane

__all__ = ["Finished", "Script", "SubprocessLane", "run", "run_script"]


@exact("run_script", awaits=True)
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
    script = Script(
        argv,
        cwd=cwd,
        env=env,
        stdin=stdin,
        grace=grace,
        tail=tail,
        stdout_to=stdout_to,
        stderr_to=stderr_to,
        on_line=on_line,
        inherit=inherit,
    )
    check_seconds("run_script", "timeout", timeout)
    return await run(script, timeout)


async def run(script: Script, timeout: float | None = None) -> Finished:
    """Run a script to its end, however it ends; wait with its start where the system has no room.

    Args:
        timeout: seconds from its start; then it is ended, with ``kind="timeout"``.

    Raises:
        LaneError: this is Windows.
        Exception: what ``on_line`` raised; the script was ended for it.
    """
    if sys.platform == "win32":
        raise LaneError("scripts need a POSIX system, and this is Windows: lane='cpu' runs there")
    host = current_host()
    await host.runtime.lowlevel.checkpoint_if_cancelled()
    alone, wait = 0.0, FIRST_S  # seconds of refusals while nothing else of ours ran
    while True:
        while not ROOM.enter():
            await host.runtime.sleep(wait)
        result: Finished | Exception | None = None
        try:
            result = await _run_once(script, timeout, host)
        finally:
            if not isinstance(result, Exception) or not is_scarce(result):
                ROOM.leave()
        if isinstance(result, Finished):
            return result
        others = 0
        if is_scarce(result):
            others = ROOM.refused(result)
            tell_refusal(result, others)
        if not is_scarce(result) or alone > PATIENCE_S:
            kind, why = why_not(script, result)
            return Finished(kind=kind, error=why)
        alone += 0 if others else wait
        await host.runtime.sleep(wait)
        wait = min(2 * wait, LONGEST_S)


async def _run_once(script: Script, timeout: float | None, host: Host) -> Finished | Exception:
    """Run a script to its end; return why, if it could not be started."""
    beside = Beside(host.runtime)
    running = Running(script, beside.tell)
    try:
        beside.start(running.work, f"anabranch script {script.name}")
    except RuntimeError as error:
        return error
    scope = host.runtime.CancelScope()
    if timeout is not None:
        scope.deadline = host.clock() + timeout
    try:
        with scope:
            await beside.news.wait()
    except BaseException:  # a cancellation, which goes on its way
        await _end(running, script.grace, host)
        raise
    timed_out = not running.ended.is_set() and running.failed is None
    if not running.ended.is_set():
        await _end(running, script.grace, host)
    if running.failed is not None:
        raise running.failed
    if timed_out:
        return _timed_out(running.result, timeout)
    assert running.result is not None, "its thread has ended"
    return running.result


async def _end(running: Running, grace: float, host: Host) -> None:
    """End a script and its tree, whatever happens meanwhile."""
    runtime = host.runtime
    with runtime.CancelScope(shield=True):
        try:
            unbounded = io_lane(host).unbounded
            await runtime.to_thread.run_sync(stop, running, grace, limiter=unbounded)
        except RuntimeError:  # there is no room for another thread
            stop(running, 0)


def _timed_out(result: Finished | Exception | None, timeout: float | None) -> Finished:
    error = f"timed out after {timeout:g} s"
    if isinstance(result, Finished):
        return attrs.evolve(result, kind="timeout", error=error)
    return Finished(kind="timeout", error=f"{error}, and a kill has not ended it yet")


class SubprocessLane:
    """Run a branch's script: its function says which, as an argument list or a Script.

    The branch's value is a Finished; a script that fails raises a ScriptFailedError.

    Args:
        timeout: seconds that each script may take. grace: from the wish to end it to the kill.
        cwd, env: as of ``Script``.
    """

    def __init__(
        self,
        *,
        cwd: Word | None = None,
        env: Mapping[Any, Any] | None = None,
        timeout: float | None = None,
        grace: float = GRACE_S,
    ) -> None:
        Script(["true"], cwd=cwd, env=env, grace=grace)  # refuses what cannot be meant
        check_seconds("SubprocessLane", "timeout", timeout)
        self._cwd, self._env, self._timeout, self._grace = cwd, env, timeout, grace

    async def run(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> Finished:
        """Call ``fn`` on the loop, and run the script that it returns.

        Raises:
            ScriptFailedError: the script failed.
            ConfigurationError: what the function returned is no argument list.
        """
        said = fn(*args, **kwargs)
        if inspect.isawaitable(said):
            said = await said
        if not isinstance(said, Script):
            said = Script(said, cwd=self._cwd, env=self._env, grace=self._grace)
        finished = await run(said, self._timeout)
        if not finished.success:
            raise ScriptFailedError(f"{said.name}: {finished.error}", finished)
        return finished
