"""Run scripts that end in every way, some of them badly, and keep a journal of it.

What a script must come to is drawn with it; nothing that it started may outlive its result.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import attrs
import psutil

from anabranch import ConcurrentExecutor, Retry
from anabranch.observe import Journal
from tests.soak._round import Round

TIMEOUT_S = 0.4
SLEEP = "import time; time.sleep(60)"
GRANDCHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}, sys.argv[1]])"
)
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


@attrs.frozen
class Script:
    """Say what a script does, and the kind that its result must be."""

    code: str
    kind: str = "exit"
    succeeds: bool = False
    weight: float = 10


SCRIPTS = {
    "quick": Script("print('done')", succeeds=True, weight=30),
    "loud": Script("print('x' * 3_000_000)", succeeds=True),
    "fails": Script("import sys; sys.exit(3)"),
    "raises": Script("raise ValueError('drawn')"),
    "killed": Script("import os; os.kill(os.getpid(), 9)", kind="signal"),
    "hangs": Script(SLEEP, kind="timeout"),
    "deaf": Script(DEAF, kind="timeout", weight=0.5),  # five seconds of grace
    "parent": Script(GRANDCHILD, succeeds=True, weight=5),
    "hanging parent": Script(f"{GRANDCHILD}; {SLEEP}", kind="timeout", weight=5),
    "stops itself": Script("import os; os.kill(os.getpid(), 19)", kind="timeout", weight=2),
    "missing": Script("", kind="not_found", weight=5),
}


def soak_scripts(this: Round) -> None:
    """Run a batch by an executor with a journal; then see who is left."""
    for name, script in SCRIPTS.items():
        if script.code:
            (this.folder / f"{name}.py").write_text(script.code)
    mark = f"anabranch-soak-{this.draw.getrandbits(64):x}"
    this.run(_main, this, mark)
    left = list(living(mark))
    this.claim(not left, f"these outlive their scripts: {left}")


def living(mark: str) -> Iterator[str]:
    """Find processes that have the mark among their words and are no zombies."""
    for each in psutil.process_iter():
        try:
            words = each.cmdline()
            if mark in words and each.status() != psutil.STATUS_ZOMBIE:
                yield f"{each.pid}: {' '.join(words)}"
        except psutil.Error:
            continue


async def _main(this: Round, mark: str) -> None:
    names = list(SCRIPTS)
    weights = [each.weight for each in SCRIPTS.values()]
    drawn = this.draw.choices(names, weights, k=this.draw.randint(3, 14))
    modules = [(f"{n} {name}", this.folder / f"{name}.py", [mark]) for n, name in enumerate(drawn)]
    at = this.draw.choice([math.inf] * 3 + [0.05, 0.2])
    scarce = this.chance(15)
    this.injected["scripts that go wrong"] += sum(not SCRIPTS[name].succeeds for name in drawn)
    with (
        Journal(this.folder / "journal") as journal,
        _few_descriptors(this) if scarce else nullcontext(),
    ):
        executor = ConcurrentExecutor(
            this.draw.randint(1, 6),
            timeout=TIMEOUT_S if this.draw.random() < 0.9 else 2 * TIMEOUT_S,
            retry=this.draw.choice([None, None, Retry(attempts=2, wait=0.01)]),
            journal=journal,
        )
        results: list[dict[str, Any]] = []
        cleaned = at < math.inf and this.chance(50)
        with anyio.move_on_after(math.inf if cleaned else at) as scope:
            async with executor, anyio.create_task_group() as group:
                if cleaned:
                    group.start_soon(_clean, executor, at)
                results = await executor.execute_batch(modules)
                group.cancel_scope.cancel()
        this.did["scripts"] += len(modules)
        this.injected["cancellations from outside"] += scope.cancelled_caught
        this.injected["clean-ups while scripts run"] += cleaned
        if not scope.cancelled_caught:
            _check(this, drawn, modules, results, cleaned=cleaned)
            kept = {entry.key for entry in journal.entries()}
            this.claim(kept == {each[0] for each in modules}, f"the journal has only {kept}")


async def _clean(executor: ConcurrentExecutor, at: float) -> None:
    await anyio.sleep(at)
    executor.cleanup()


@contextmanager
def _few_descriptors(this: Round) -> Iterator[None]:
    """Leave room for few scripts: each needs some descriptors while it runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 64
    this.injected["too few descriptors"] += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 24, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _check(
    this: Round, drawn: list[str], modules: list[Any], results: list[Any], *, cleaned: bool
) -> None:
    ids = [result["module_id"] for result in results]
    this.claim(ids == [each[0] for each in modules], f"not in the order of input: {ids}")
    for name, result in zip(drawn, results, strict=False):
        script = SCRIPTS[name]
        # On a machine that is this busy, anything may take longer than its time.
        fits = (script.kind, "timeout", "cancelled" if cleaned else "timeout")
        this.claim(result["kind"] in fits, f"{name}: {result}")
        if result["kind"] == script.kind:
            this.claim(result["success"] == script.succeeds, f"{name}: {result}")
        this.claim((result["error"] is None) == result["success"], f"{name}: {result}")
        began = time.monotonic() - result["duration_s"]
        this.claim(began <= time.monotonic(), f"{name} took {result['duration_s']} s")
