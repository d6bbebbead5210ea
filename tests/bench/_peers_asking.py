"""Ask peers, each question in a fresh process with a time limit, and keep what they answer.

A peer that hangs, crashes or is not there costs its own answer, which then says so; what it has
left running is ended with its process group.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from tests.bench._peers_env import ROOT, Environment
from tests.bench._peers_extent import PeersExtent
from tests.bench._peers_known import Peer

Answer = dict[str, Any]
Answers = dict[str, dict[str, Answer]]  # by the peer's key, then the question
TIMED = ("cost", "memory", "cancel")  # asked one at a time: they measure
FACTS = ("timeout", "nested", "breach", "outer", "follow")  # asked a few at once: they only look
AT_ONCE = 3


def ask(where: Environment, peer: Peer, question: str, extent: PeersExtent) -> Answer:
    """Ask one question; whatever goes wrong is an answer too, under ``failed``."""
    asked = json.dumps(attrs.asdict(extent))
    argv = [where.python, "-m", "tests.bench._peers_child", peer.key, question, asked]
    code, out, words = _ended(argv, where.env, extent.limit)
    if code is None:
        return {"failed": f"no answer within {extent.limit:g} s"}
    answers = [line for line in out.splitlines() if line.startswith("{")]
    if code or not answers:
        said = [line for line in words.splitlines() if line.strip(" |+-\t")] or ["nothing"]
        return {"failed": f"exit code {code}: {said[-1].strip(' |+-'):.160}"}
    found: Answer = json.loads(answers[-1])
    return found


def _ended(
    argv: Sequence[str], env: Mapping[str, str], limit: float
) -> tuple[int | None, str, str]:
    """Run a program for so long at most and end its group; files, for pipes may be held open."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as words:
        child = subprocess.Popen(
            argv, cwd=ROOT, env=env, stdout=out, stderr=words, start_new_session=True
        )
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = child.wait(limit)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        out.seek(0)
        words.seek(0)
        return code, out.read(), words.read()


def ask_all(
    where: Environment, peers: Sequence[Peer], extent: PeersExtent, tell: Callable[[str], None]
) -> Answers:
    """Ask every peer everything: what is timed one by one, facts a few at a time."""
    answers: Answers = {peer.key: {} for peer in peers}

    def one(peer: Peer, question: str) -> None:
        if peer.only and question not in peer.only:
            return
        tell(f"{peer.name}: {question}")
        known = [each["missing"] for each in answers[peer.key].values() if "missing" in each]
        answers[peer.key][question] = (
            {"missing": known[0]} if known else ask(where, peer, question, extent)
        )

    for question in TIMED:
        for peer in peers:
            one(peer, question)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(one, peer, question) for question in FACTS for peer in peers]
        try:
            for each in waiting:
                each.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            sys.exit(130)
    return answers
