"""Hold what one round of a soak draws by, what it did, and which promises it saw broken."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import attrs

LOOPS = ("trio", "asyncio")
SHOWN = 2_000  # characters of one broken promise


@attrs.define(eq=False)
class Round:
    """Draw, count and claim for one act.

    Attributes:
        draw: the round's own dice; equal seeds draw equal rounds.
        folder: empty when the round begins, removed after it.
        did: what was done, by name. injected: which faults were put in, by name.
        broken: the promises that did not hold, in words.
    """

    draw: random.Random
    folder: Path
    did: Counter[str] = attrs.field(factory=Counter)
    injected: Counter[str] = attrs.field(factory=Counter)
    broken: list[str] = attrs.field(factory=list)

    def claim(self, holds: object, says: str) -> None:
        """Note a broken promise unless it holds."""
        if not holds:
            self.broken.append(says if len(says) <= SHOWN else says[:SHOWN] + " ...")

    def chance(self, percent: float) -> bool:
        """Draw whether something happens that does so in so many of a hundred cases."""
        return self.draw.random() * 100 < percent

    def home(self, *limiters: Any) -> None:
        """Claim that all tokens of these limiters are home."""
        for each in limiters:
            self.claim(not each.borrowed_tokens, f"{each.borrowed_tokens:g} tokens are not home")
            self.did["limiters seen with all tokens home"] += 1

    def run(self, async_fn: Callable[..., Any], *args: Any) -> Any:
        """Run an async function on a loop that is drawn, in real time."""
        loop = self.draw.choice(LOOPS)
        self.did[f"runs on {loop}"] += 1
        return anyio.run(async_fn, *args, backend=loop)


Act: TypeAlias = Callable[[Round], None]
