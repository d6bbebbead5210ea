"""Ask one peer some questions, in a process of its own: PEER QUESTION,... whole|fast|JSON.

It prints each answer when it is there, and ends at once after the last one, without waiting for
what a peer has left running.
"""

from __future__ import annotations

import json
import os
import sys

from tests.bench import _peers_async, _peers_async_facts, _peers_programs, _peers_sync
from tests.bench._peers_extent import EXTENTS, PeersExtent
from tests.bench._peers_known import BY_KEY

ASKED = {
    "coroutines": {**_peers_async.QUESTIONS, **_peers_async_facts.QUESTIONS},
    "threads": _peers_sync.QUESTIONS,
    "processes": _peers_sync.QUESTIONS,
    "programs": _peers_programs.QUESTIONS,
}


def answer(key: str, question: str, extent: PeersExtent) -> dict[str, object]:
    """Return what was found, or why there is nothing to be found."""
    peer = BY_KEY[key]
    words = peer.missing()
    if words:
        return {"missing": words}
    try:
        return ASKED[peer.kind][question](peer, extent)
    except Exception as error:  # whatever a peer raises costs this answer, and no other
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:160]}


def main(key: str, questions: str, extent: str) -> None:
    """Answer each question in a line, or run what another process looks at."""
    if questions == "held":
        _peers_sync.held(BY_KEY[key], **json.loads(extent))
        return
    given = EXTENTS.get(extent) or PeersExtent(**json.loads(extent))
    for question in questions.split(","):
        found = answer(key, question, given)
        print("\n" + json.dumps({"question": question, "answer": found}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
