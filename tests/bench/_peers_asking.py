"""Ask peers, in fresh processes with a time limit, and keep what they answer.

A peer that hangs, crashes or is not there costs its own answer, which then says so; what it has
left running is ended with its process group.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from tests.bench._peers_env import ROOT, Environment
from tests.bench._peers_extent import PeersExtent
from tests.bench._peers_known import Peer

Answer = dict[str, Any]
Answers = dict[str, dict[str, Answer]]  # by the peer's key, then the question
COSTS = ("cost", "cancel")  # asked one peer at a time: they measure
MEMORY = ("memory",)  # in a process that has done nothing before
FACTS = ("breach", "outer", "follow", "timeout", "nested")  # what may hang is last
AT_ONCE = 6
ASKED: set[subprocess.Popen[bytes]] = set()  # the processes that are being asked
NO_TIME = "not asked, for the time was up"


def ask(
    where: Environment, peer: Peer, questions: Sequence[str], extent: PeersExtent
) -> dict[str, Answer]:
    """Ask questions in one process; whatever goes wrong is an answer too, under ``failed``.

    What is not answered when the process has ended, or the time is up, has failed.
    """
    questions = [each for each in questions if not peer.only or each in peer.only]
    if not questions:
        return {}
    asked = json.dumps(attrs.asdict(extent))
    argv = [where.python, "-m", "tests.bench._peers_child", peer.key, ",".join(questions), asked]
    return answers_of(questions, *_ended(argv, where.env, extent.limit), extent.limit)


def answers_of(
    questions: Sequence[str], code: int | None, out: str, words: str, limit: float
) -> dict[str, Answer]:
    """Read what a process has printed; ``code`` is None if it was ended for its time was up."""
    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
    found: dict[str, Answer] = {line["question"]: line["answer"] for line in lines}
    if code is None:
        why = f"no answer within {limit:g} s"
    else:
        said = [line for line in words.splitlines() if line.strip(" |+-\t")] or ["nothing"]
        why = f"exit code {code}: {said[-1].strip(' |+-'):.160}"
    return {each: found.get(each, {"failed": why}) for each in questions}


def _ended(
    argv: Sequence[str], env: Mapping[str, str], limit: float
) -> tuple[int | None, str, str]:
    """Run a program for so long at most and end its group; files, for pipes may be held open."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as words:
        child = subprocess.Popen(
            argv, cwd=ROOT, env=env, stdout=out, stderr=words, start_new_session=True
        )
        code: int | None = None
        ASKED.add(child)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(limit)
        finally:
            _end(child)
            ASKED.discard(child)
        child.wait()
        out.seek(0)
        words.seek(0)
        return code, out.read(), words.read()


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def ask_all(
    where: Environment,
    peers: Sequence[Peer],
    extent: PeersExtent,
    tell: Callable[[str], None],
    until: float,
) -> Answers:
    """Ask every peer everything: what is timed one by one, memory and facts a few at a time.

    After ``until``, by the monotonic clock, nothing more is asked, and each answer says so.
    """
    answers: Answers = {peer.key: {} for peer in peers}

    def one(peer: Peer, questions: Sequence[str]) -> None:
        known = [each for each in answers[peer.key].values() if "missing" in each]
        left = until - time.monotonic()
        tell(f"{left:.0f} s left at most, {peer.name}: {', '.join(questions)}")
        if known or left <= 0:
            answer = known[0] if known else {"failed": NO_TIME}
            answers[peer.key] |= dict.fromkeys(questions, answer)
        else:
            given = attrs.evolve(extent, limit=min(extent.limit, left))
            answers[peer.key] |= ask(where, peer, questions, given)

    for peer in peers:
        one(peer, COSTS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(one, peer, each) for each in (MEMORY, FACTS) for peer in peers]
        try:
            for each in waiting:
                each.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(ASKED):
                _end(child)
            raise
    return answers
