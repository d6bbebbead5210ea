"""Make the environment of the peers: build/peers-venv, holding what peers.lock names, hashed.

It is made only when peers are asked for, and each step of it is said in a line. What cannot be
installed costs its own rows: with the project's environment alone the others are measured.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = Path(__file__).resolve().parent / "peers.lock"
VENV = ROOT / "build" / "peers-venv"
PARALLEL = VENV / "gnu-parallel"  # a Debian package, unpacked and not installed

Say = Callable[[str], None]


@attrs.frozen
class Environment:
    """Say which interpreter has the peers, what its programs find, and what could not be had."""

    python: str
    env: dict[str, str]
    missing: tuple[str, ...] = ()


def prepare(say: Say) -> Environment:
    """Make the environment what the lock says, once; say each step that takes long."""
    python, missing = VENV / "bin" / "python", []
    if sys.platform == "win32":
        python = VENV / "Scripts" / "python.exe"
    stamp = VENV / ".peers.stamp"
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode() + bytes(VENV)).hexdigest()
    if not (python.exists() and stamp.exists() and stamp.read_text() == digest):
        say(f"making {VENV} and installing what {LOCK.relative_to(ROOT)} names (once, a minute)")
        words = _installed(python)
        if words:
            say(f"that failed, so peers of other packages are left out: {words}")
            missing.append(words)
            python = Path(sys.executable)
        else:
            stamp.write_text(digest)
    if shutil.which("parallel") is None and not _program().exists():
        say("fetching GNU parallel by apt-get download (once); it is unpacked there, not installed")
        words = _fetched()
        if words:
            say(f"that failed, so GNU parallel is left out: {words}")
    return Environment(str(python), _environ(python), tuple(missing))


def _installed(python: Path) -> str:
    """Install; return what went wrong, or nothing."""
    made = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    wanted = [str(python), "-m", "pip", "install", "--no-input", "--quiet", "--require-hashes"]
    return _call(made) or _call([*wanted, "-r", str(LOCK)])


def _fetched() -> str:
    """Unpack the package of GNU parallel, where there is an apt; return what went wrong."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return "there is no apt-get here"
    PARALLEL.mkdir(parents=True, exist_ok=True)
    words = _call(["apt-get", "--quiet", "download", "parallel"], PARALLEL)
    for package in PARALLEL.glob("*.deb"):
        words = words or _call(["dpkg", "-x", str(package), str(PARALLEL)])
    return words


def _program() -> Path:
    return PARALLEL / "usr" / "bin" / "parallel"


def _call(argv: list[str], folder: Path = ROOT) -> str:
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    words = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
    return f"{argv[0]}: exit code {done.returncode}: {words[-1]:.200}"


def _environ(python: Path) -> dict[str, str]:
    """Return variables by which a peer finds us, our tests, and programs."""
    paths = [str(python.parent), str(_program().parent), os.environ.get("PATH", "")]
    return {
        **os.environ,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PYTHONWARNINGS": "ignore",
        "PARALLEL": "--will-cite",
        "LANGSMITH_TRACING": "false",
    }
