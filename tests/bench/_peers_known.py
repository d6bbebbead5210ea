"""Name the peers: what each is called, where its calls run, and what it needs to be there."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from typing import Any, Literal

import attrs

from tests.bench import _peers_coroutines as coroutines
from tests.bench import _peers_pools as pools

Kind = Literal["coroutines", "threads", "processes", "programs"]
OURS = "anabranch"


@attrs.frozen(kw_only=True)
class Peer:
    """Be one way to run many calls under a limit.

    Attributes:
        key: a word for a command line. needs: a module, or a program, that must be there.
        slow: sizes are divided by it, and what is told is told for each branch.
        opens_small: opens what it offers for few branches, where that is something else.
        only: the questions that it is asked; all of them if none is named.
        spends: it has budgets, and is given one where others raise an error.
    """

    key: str
    name: str
    kind: Kind
    opens: Callable[..., Any] | None = None
    loop: str = "asyncio"
    needs: str = ""
    slow: int = 1
    spends: bool = False
    opens_small: Callable[..., Any] | None = None
    only: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(OURS)

    def missing(self, path: str | None = None) -> str:
        """Say why it cannot be asked, or nothing; programs are looked for in ``path``."""
        if self.kind == "programs":
            there = shutil.which(self.needs, path=path) is not None
        else:
            there = not self.needs or importlib.util.find_spec(self.needs) is not None
        return "" if there else f"{self.needs} is not installed here"


def _coroutines(key: str, name: str, opens: Callable[..., Any], **more: Any) -> Peer:
    return Peer(key=key, name=name, kind="coroutines", opens=opens, **more)


PEERS = (
    _coroutines(
        "ours-asyncio",
        f"{OURS} on asyncio",
        coroutines.anabranch_on("asyncio"),
        opens_small=coroutines.parallel,
        spends=True,
    ),
    _coroutines(
        "ours-streamed",
        f"{OURS} on asyncio, streamed",
        coroutines.streamed_on_asyncio,
        only=("memory",),
    ),
    _coroutines("gather", "asyncio.gather + Semaphore", coroutines.gather),
    _coroutines("group", "asyncio.TaskGroup + Semaphore", coroutines.asyncio_group),
    _coroutines("anyio", "anyio group + CapacityLimiter", coroutines.anyio_group),
    _coroutines("aiometer", "aiometer", coroutines.aiometer_peer, needs="aiometer"),
    _coroutines("aiostream", "aiostream", coroutines.aiostream_peer, needs="aiostream", slow=2),
    _coroutines("langgraph", "LangGraph", coroutines.langgraph_peer, needs="langgraph", slow=50),
    _coroutines(
        "ours-trio",
        f"{OURS} on trio",
        coroutines.anabranch_on("trio"),
        loop="trio",
        opens_small=coroutines.parallel,
        spends=True,
    ),
    _coroutines("trio", "trio nursery + CapacityLimiter", coroutines.nursery, loop="trio"),
    Peer(key="ours-pool", name=f"{OURS} WorkerPool", kind="threads", opens=pools.our_pool),
    Peer(
        key="ours-threads",
        name=f"{OURS} steps, in threads",
        kind="threads",
        opens=pools.our_steps("io"),
        spends=True,
    ),
    Peer(key="threads", name="ThreadPoolExecutor", kind="threads", opens=pools.thread_pool),
    Peer(
        key="joblib-threads",
        name="joblib, threading",
        kind="threads",
        opens=pools.joblib_peer("threading"),
        needs="joblib",
    ),
    Peer(
        key="dask-threads",
        name="Dask, local, threads",
        kind="threads",
        opens=pools.dask_peer(processes=False),
        needs="distributed",
        slow=20,
    ),
    Peer(
        key="ours-processes",
        name=f"{OURS} steps, in processes",
        kind="processes",
        opens=pools.our_steps("cpu"),
        spends=True,
    ),
    Peer(key="processes", name="ProcessPoolExecutor", kind="processes", opens=pools.process_pool),
    Peer(
        key="joblib",
        name="joblib, loky",
        kind="processes",
        opens=pools.joblib_peer("loky"),
        needs="joblib",
    ),
    Peer(
        key="dask",
        name="Dask, local, processes",
        kind="processes",
        opens=pools.dask_peer(processes=True),
        needs="distributed",
        slow=5,
    ),
    Peer(key="ours-exec", name=f"{OURS} exec", kind="programs", needs="python"),
    Peer(key="xargs", name="xargs -P", kind="programs", needs="xargs"),
    Peer(key="parallel", name="GNU parallel", kind="programs", needs="parallel", slow=4),
)
BY_KEY = {peer.key: peer for peer in PEERS}
BESIDE = {"coroutines": "ours-asyncio", "threads": "ours-pool", "processes": "ours-processes"}
BESIDE |= {"programs": "ours-exec"}


def beside(peer: Peer) -> Peer:
    """Return what of ours it is compared with."""
    return BY_KEY["ours-trio" if peer.loop == "trio" else BESIDE[peer.kind]]
