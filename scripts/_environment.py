"""The project's own environment: `.venv` in the root, holding just what the lock names.

It is made when it is missing and made anew when the lock has changed.
Standard library only, and in syntax that an old Python can read, so that it can say it is too old.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, NoReturn, Optional

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "scripts" / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
VENV = ROOT / ".venv"
OLDEST = (3, 11)
INTERRUPTED = 130


def program(name: str) -> str:
    """Return the path of a program of the environment."""
    if sys.platform == "win32":
        return str(VENV / "Scripts" / f"{name}.exe")
    return str(VENV / "bin" / name)


def prepare() -> None:
    """Make the environment what the lock says; say each step that this takes in a line."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"anabranch needs Python 3.11 or newer; {sys.executable} is {found}.")
    try:
        with _alone():
            _make()
    except subprocess.CalledProcessError as error:
        print(error.stdout, file=sys.stderr)
        sys.exit(f"That failed (exit code {error.returncode}); it starts again the next time.")
    except KeyboardInterrupt:
        print("Interrupted; what is unfinished is made again the next time.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def hand_over(name: str, *args: str) -> NoReturn:
    """Become a program of the environment, in the root: its exit code and Ctrl-C are its own."""
    prepare()
    os.chdir(ROOT)
    argv = [program(name), *args]
    sys.stdout.flush()
    if sys.platform == "win32":  # its exec returns to the prompt at once: wait, however often
        child = subprocess.Popen(argv)  # Ctrl-C is pressed, which is the child's to obey
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                sys.exit(child.wait())
    else:
        os.execv(argv[0], argv)


def passed_on(text: Optional[str]) -> "list[str]":
    """Return the arguments after the script's name; answer `--help` with `text`, its docstring."""
    args = sys.argv[1:]
    if args[:1] in (["-h"], ["--help"]):
        print((text or "").strip())
        sys.exit(0)
    return args


def _make() -> None:
    # A stamp is written last: a half-made environment has none and is made again.
    locked = _digest(str(ROOT).encode(), LOCK.read_bytes())  # a moved checkout's .venv is no use
    if not _stamped("lock", locked):
        _say(f"making {VENV} (once, about a minute)")
        _call(sys.executable, "-m", "venv", "--clear", str(VENV))
        _say("installing what scripts/requirements.lock names")
        _pip("--require-hashes", "-r", str(LOCK))
        _stamp("lock", locked)
    project = _digest(PROJECT.read_bytes())
    if not _stamped("project", project):
        _say("installing anabranch itself, editable")
        _pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))
        _stamp("project", project)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep a second script that starts now waiting; the system frees the lock of a dead one."""
    with (ROOT / ".venv.lock").open("w") as file:
        if sys.platform == "win32":
            while True:
                with contextlib.suppress(OSError):  # it gives up after ten seconds; we do not
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stamped(name: str, digest: str) -> bool:
    stamp = VENV / f".{name}.stamp"
    return Path(program("python")).exists() and stamp.exists() and stamp.read_text() == digest


def _stamp(name: str, digest: str) -> None:
    (VENV / f".{name}.stamp").write_text(digest)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _pip(*args: str) -> None:
    _call(program("python"), "-m", "pip", "install", "--no-input", *args)


def _call(*argv: str) -> None:
    # Its output is shown if it fails; not when it is interrupted, which would be a traceback.
    subprocess.run(
        argv, check=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _say(step: str) -> None:
    print(f"environment: {step}", file=sys.stderr, flush=True)
