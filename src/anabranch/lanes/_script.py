"""Say what a script is and how one ended: the values between those who run scripts and the lane.

A script is an argument list, never a line for a shell: what is in an argument stays in it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from anabranch._options import exact_fields
from anabranch.errors import ConfigurationError

GRACE_S = 5.0
TAIL = 64 * 1024

Word: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
OnLine: TypeAlias = Callable[[str, bytes], object]


def _to_argv(argv: Any) -> Any:
    if isinstance(argv, (str, bytes, os.PathLike)):
        raise ConfigurationError(
            f"a script is a list of arguments, not one string: {argv!r:.80}; give "
            f"['program', 'argument'], or ['sh', '-c', line] if a shell is meant"
        )
    if not isinstance(argv, Sequence):
        raise ConfigurationError(
            f"a script is a list of arguments, not {argv!r:.80} ({type(argv).__name__})"
        )
    return tuple(_to_word(number, word) for number, word in enumerate(argv))


def _to_word(number: int, word: Any) -> str | bytes:
    if not isinstance(word, (str, bytes, os.PathLike)):
        raise ConfigurationError(
            f"argument {number} of a script is {word!r:.80} ({type(word).__name__}); "
            f"give strings: str({word!r:.20})"
        )
    plain: str | bytes = os.fspath(word)
    return plain


def _check_argv(_: object, __: object, argv: tuple[str | bytes, ...]) -> None:
    if not argv or not argv[0]:
        raise ConfigurationError(f"a script without a program: {list(argv)!r:.80}; name one first")


def _check_env(_: object, __: object, env: Any) -> None:
    if env is None:
        return
    if not isinstance(env, Mapping):
        raise ConfigurationError(
            f"env={env!r:.80} ({type(env).__name__}) is no mapping; "
            f"give {{**os.environ, 'NAME': 'value'}}, or None for this process's own"
        )
    wrong = [name for pair in env.items() for name in pair if not isinstance(name, (str, bytes))]
    if wrong:
        raise ConfigurationError(
            f"env= holds {wrong[0]!r:.80} ({type(wrong[0]).__name__}); names and values are strings"
        )


def _check_stdin(_: object, __: object, stdin: Any) -> None:
    whole = isinstance(stdin, int) and not isinstance(stdin, bool) and stdin >= 0
    if not (stdin is None or whole or isinstance(stdin, bytes) or hasattr(stdin, "fileno")):
        raise ConfigurationError(
            f"stdin={stdin!r:.80} ({type(stdin).__name__}) is neither bytes nor an open file; "
            f"encode text: text.encode()"
        )


def _check_grace(_: object, __: object, grace: Any) -> None:
    number = isinstance(grace, (int, float)) and not isinstance(grace, bool)
    if not number or not 0 <= grace < math.inf:
        raise ConfigurationError(
            f"grace={grace!r} is no number of seconds between the wish to end and the kill; "
            f"give 0 to kill at once"
        )


def _check_tail(_: object, __: object, tail: Any) -> None:
    if isinstance(tail, bool) or not isinstance(tail, int) or tail < 0:
        raise ConfigurationError(
            f"tail={tail!r} is no number of bytes to keep of each stream; "
            f"give a whole number, 0 for none"
        )


def _check_path(_: object, attribute: attrs.Attribute[Any], path: Any) -> None:
    if path is not None and not isinstance(path, (str, bytes, os.PathLike)):
        raise ConfigurationError(
            f"{attribute.name}={path!r:.80} ({type(path).__name__}) is no path; give a str or Path"
        )


def _check_on_line(_: object, __: object, on_line: Any) -> None:
    if on_line is not None and not callable(on_line):
        raise ConfigurationError(
            f"on_line={on_line!r:.80} is not callable; give a function of (stream, line)"
        )


@exact_fields
@attrs.frozen(eq=False)
class Script:
    """Describe a child process.

    Args:
        argv: the program, looked up in PATH, and its arguments.
        cwd: the folder it runs in; None for this process's own.
        env: its whole environment; None for this process's own.
        stdin: bytes that it reads, or an open file or descriptor; None for nothing.
        grace: seconds between SIGTERM and SIGKILL when it is to end.
        tail: bytes that are kept of the end of each stream.
        stdout_to, stderr_to: files that the whole output is written to, made new.
        on_line: called as ``on_line("stdout" | "stderr", line)`` in a thread of the script, line
            by line as bytes with their line end; one that blocks slows the script down.
        inherit: it reads and writes where this process does, and nothing is kept.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    argv: tuple[str | bytes, ...] = attrs.field(converter=_to_argv, validator=_check_argv)
    cwd: Word | None = attrs.field(default=None, kw_only=True, validator=_check_path)
    env: Mapping[Any, Any] | None = attrs.field(default=None, kw_only=True, validator=_check_env)
    stdin: Any = attrs.field(default=None, kw_only=True, validator=_check_stdin)
    grace: float = attrs.field(default=GRACE_S, kw_only=True, validator=_check_grace)
    tail: int = attrs.field(default=TAIL, kw_only=True, validator=_check_tail)
    stdout_to: Word | None = attrs.field(default=None, kw_only=True, validator=_check_path)
    stderr_to: Word | None = attrs.field(default=None, kw_only=True, validator=_check_path)
    on_line: OnLine | None = attrs.field(default=None, kw_only=True, validator=_check_on_line)
    inherit: bool = attrs.field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        """The program, as people know it."""
        return Path(os.fsdecode(self.argv[0])).name or os.fsdecode(self.argv[0])


@attrs.frozen(kw_only=True)
class Finished:
    """Tell how a script ended.

    Attributes:
        exit_code: what it returned; -N where signal N ended it; -1 where it has none.
        signal: the number of the signal that ended it, None if none did.
        stdout, stderr: the ends of what it wrote, as many bytes as ``tail`` says.
        truncated: that is not all: there was more than the tail keeps, or something that it left
            behind held its output open and was not waited for.
        duration_s: real seconds from its start to its end.
        kind: how it ended: ``exit``, ``signal``, ``timeout``; ``not_found`` and ``spawn`` where it
            never ran; ``output`` where what it wrote could not be written to a file.
        error: why it failed, in a line; None exactly when it succeeded.
        notes: what else is to be known, a sentence each.
    """

    exit_code: int = -1
    signal: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False
    duration_s: float = 0.0
    kind: str = "exit"
    error: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def success(self) -> bool:
        """Whether it ran to its end and returned 0."""
        return self.error is None
