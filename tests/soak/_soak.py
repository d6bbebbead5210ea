"""Run rounds until the time is over, and gather what they did and what they have found.

A round is an act with dice of its own, both drawn by the soak's seed and the round's number, so a
number names a round for ever. What the dice draw comes again; how threads and processes are timed
does not, so a round that failed is run over and over when it is replayed.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.leaks import snapshot
from tests.soak._alarms import HANGS_S, Patience, Unheard, unheard
from tests.soak._killed import soak_killed
from tests.soak._pipelines import soak_pipelines
from tests.soak._pool import soak_pool
from tests.soak._processes import soak_processes
from tests.soak._round import Act, Round
from tests.soak._scripts import soak_scripts
from tests.soak._threads import soak_threads
from tests.soak._virtual import soak_programs, soak_trees
from tests.soak._watching import QUIET_S, Sample, growth, sample, wait_for_quiet

ACTS: Mapping[str, Act] = {
    "programs": soak_programs,
    "trees": soak_trees,
    "threads": soak_threads,
    "pipelines": soak_pipelines,
    "pool": soak_pool,
    "processes": soak_processes,
    "scripts": soak_scripts,
    "killed": soak_killed,
}
WARM_UP = 2  # rounds of each act, after which nothing that stays is excused any more
ENOUGH = 10  # findings, after which it ends


@attrs.frozen
class Finding:
    """Say what went wrong, and in which round; 0 for all of them together."""

    round: int
    act: str
    says: str


@attrs.define(eq=False)
class Soak:
    """Be one soak: its terms, and what has come of it so far."""

    seed: int
    seconds: float
    acts: Mapping[str, Act] = attrs.field(factory=lambda: ACTS)
    only_round: int | None = None
    warm_up: int = WARM_UP
    patience: float = QUIET_S
    tell: Callable[[Soak, str], None] = lambda _, __: None
    stopped: bool = False
    rounds: Counter[str] = attrs.field(factory=Counter)
    took: defaultdict[str, float] = attrs.field(factory=lambda: defaultdict(float))
    did: Counter[str] = attrs.field(factory=Counter)
    injected: Counter[str] = attrs.field(factory=Counter)
    samples: list[Sample] = attrs.field(factory=list)
    findings: list[Finding] = attrs.field(factory=list)
    began: float = attrs.field(factory=time.monotonic)

    def stop(self) -> None:
        """End after the round that runs."""
        self.stopped = True

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def drawn(self, number: int) -> tuple[str, random.Random]:
        """Return the act of a round and its dice; each cycle has every act once."""
        cycle, place = divmod(number - 1, len(self.acts))
        names = sorted(self.acts)
        random.Random(f"{self.seed}, cycle {cycle}").shuffle(names)
        return names[place], random.Random(f"{self.seed}, round {number}")

    def run(self) -> None:
        """Run rounds until the time is over, somebody stops it, or enough is wrong."""
        self.began = time.monotonic()
        with unheard() as ear, Patience(max(HANGS_S, 2 * self.patience)) as patience:
            number = 0
            while not (self.stopped or self.elapsed >= self.seconds):
                number = self.only_round or number + 1
                name, draw = self.drawn(number)
                self.tell(self, name)
                with patience.over(f"round {number} ({name}); {self.replay(number)}"):
                    self._run(number, name, draw, ear)
                if len(self.findings) >= ENOUGH:
                    break
        self.findings += [Finding(0, "all", each) for each in growth(self.samples)]

    def _run(self, number: int, name: str, draw: random.Random, ear: Unheard) -> None:
        before, start = snapshot(), time.monotonic()
        with tempfile.TemporaryDirectory(prefix="anabranch-soak-") as folder:
            this = Round(draw, Path(folder))
            self._play(self.acts[name], this)
        left = wait_for_quiet(before, self.patience)
        warm = self.rounds[name] >= self.warm_up
        if warm:
            this.broken += [f"{kind} left: {[*things.values()]}" for kind, things in left.items()]
        this.broken += ear.taken()
        if warm and not any(self.rounds[each] < self.warm_up for each in self.acts):
            self.samples.append(sample(self.began))
        self.rounds[name] += 1
        self.took[name] += time.monotonic() - start
        self.did += this.did
        self.injected += this.injected
        self.findings += [Finding(number, name, says) for says in this.broken]

    def _play(self, act: Act, this: Round) -> None:
        try:
            act(this)
        except Exception as error:  # an act that fails is a finding, too
            this.claim(False, f"the round raised {error!r}: {_where(error)}")

    def replay(self, number: int) -> str:
        """Say how a round, or with 0 the whole soak, is run again."""
        only = "" if self.acts.keys() == ACTS.keys() else f" --only {','.join(sorted(self.acts))}"
        which = f" --round {number}" if number else f" --minutes {self.seconds / 60:g}"
        return f"replay: python3 scripts/soak.py --seed {self.seed}{only}{which}"


def _where(error: BaseException) -> str:
    """Return the innermost line of ours that an error came through."""
    places: Sequence[Any] = []
    trace = error.__traceback__
    while trace is not None:
        places = [*places[-3:], f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"]
        trace = trace.tb_next
    return " > ".join(places)
