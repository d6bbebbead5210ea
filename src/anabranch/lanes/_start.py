"""Start the process of a script, and say in words why one cannot be started.

``Popen`` with bare descriptors: it starts by vfork, twice as fast as ``os.posix_spawn`` here, and
closes what the child must not inherit.
"""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from anabranch.lanes._lifeline import LIFELINE
from anabranch.lanes._script import Script

MISSING = (errno.ENOENT, errno.ENOTDIR)
LONGEST_ARGUMENT = 128 * 1024  # Linux's for a single one; there is a limit for all together too


@attrs.define(eq=False)
class Process:
    """Hold a process that runs, and our ends of its pipes; None where there is none."""

    popen: subprocess.Popen[bytes]
    slot: int | None
    stdout: int | None
    stderr: int | None
    stdin: int | None

    @property
    def pid(self) -> int:
        """Its number, which is that of its session and its group too."""
        return self.popen.pid


def start(script: Script) -> Process:
    """Start a script in a session of its own.

    Raises:
        OSError, ValueError, RuntimeError: it cannot be started; nothing is left open.
    """
    with ExitStack() as theirs, ExitStack() as ours:
        stdin, feed = _stdin(script, theirs, ours)
        stdout, stdout_end = (None, None) if script.inherit else _pipe(ours, theirs)
        stderr, stderr_end = (None, None) if script.inherit else _pipe(ours, theirs)
        inode = 0 if stdout is None else os.fstat(stdout).st_ino
        slot = LIFELINE.enter(inode)
        try:
            popen = subprocess.Popen(
                script.argv,
                stdin=stdin,
                stdout=stdout_end,
                stderr=stderr_end,
                cwd=script.cwd,
                env=script.env,
                start_new_session=True,
            )
        except BaseException:
            LIFELINE.leave(slot)
            raise
        LIFELINE.started(slot, popen.pid, inode)
        ours.pop_all()
        return Process(popen, slot, stdout, stderr, feed)


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    reads, writes = os.pipe()
    ours.callback(os.close, reads)
    theirs.callback(os.close, writes)
    return reads, writes


def _stdin(script: Script, theirs: ExitStack, ours: ExitStack) -> tuple[Any, int | None]:
    """Return what the child reads, and where to write what it is fed."""
    if isinstance(script.stdin, bytes):
        reads, writes = os.pipe()
        theirs.callback(os.close, reads)
        ours.callback(os.close, writes)
        os.set_blocking(writes, False)
        return reads, writes
    if script.stdin is not None:
        return script.stdin, None
    return (None if script.inherit else subprocess.DEVNULL), None


def why_not(script: Script, error: Exception) -> tuple[str, str]:
    """Say why a script could not be started: the kind of it, and a sentence."""
    program = os.fsdecode(script.argv[0])
    if not isinstance(error, OSError):
        return "spawn", f"{program!r} cannot be started: {_why_unfit(script, error)}"
    for path in (script.stdout_to, script.stderr_to):
        if path is not None and error.filename == path:
            name = os.fsdecode(path)
            return "output", f"its output cannot be written to {name!r}: {error.strerror}"
    if script.cwd is not None and not Path(os.fsdecode(script.cwd)).is_dir():
        what = "is no folder" if os.path.lexists(script.cwd) else "does not exist"
        return "not_found", f"the folder to run in {what}: {os.fsdecode(script.cwd)!r} (cwd=)"
    if error.errno in MISSING:
        return "not_found", _why_missing(script, program)
    return "spawn", _why_refused(script, program, error)


def _why_refused(script: Script, program: str, error: OSError) -> str:
    if error.errno == errno.E2BIG:
        return f"{program!r} cannot be started: {_why_too_long(script)}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EISDIR):
        if (Path(os.fsdecode(script.cwd or ".")) / program).is_dir():
            return f"{program!r} is a folder, no program"
        if error.errno == errno.EACCES:
            return f"{program!r} is not executable: allow it (chmod +x), or name what runs it first"
    if error.errno == errno.ENOEXEC:
        return f"{program!r} is no program: its first line must name one, as #!/bin/sh does"
    return f"{program!r} cannot be started: {error.strerror or error}"


def _why_unfit(script: Script, error: Exception) -> str:
    for number, word in enumerate(script.argv):
        if b"\0" in (word if isinstance(word, bytes) else word.encode(errors="replace")):
            return f"argument {number} has a NUL, which no argument can have: {word!r:.80}"
    if isinstance(error, UnicodeEncodeError):
        return f"an argument or variable cannot be written in the file system's encoding: {error}"
    return f"{error}"


def _why_too_long(script: Script) -> str:
    lengths = [len(os.fsencode(word)) for word in script.argv]
    longest = max(lengths)
    if longest >= LONGEST_ARGUMENT:
        where = lengths.index(longest)
        return f"argument {where} has {longest:,} bytes, more than the system takes in one"
    return (
        f"its {len(lengths):,} arguments have {sum(lengths):,} bytes, more than the system takes "
        f"together with the environment; hand over fewer at once, or give them to its stdin"
    )


def _why_missing(script: Script, program: str) -> str:
    """Say what is missing: the program, or the one that its first line names."""
    place = Path(os.fsdecode(script.cwd or "."), program)
    if "/" in program and place.is_file():
        try:
            with place.open("rb") as file:
                line = file.readline(256)
        except OSError:
            line = b""
        if line.startswith(b"#!"):
            named = line[2:].strip().decode(errors="replace")
            return f"{program!r} asks for an interpreter that does not exist: {named}"
        return f"{program!r} cannot be started: what loads it does not exist (another system's?)"
    where = "" if "/" in program else " in PATH"
    return f"no such file or program{where}: {program!r}"
