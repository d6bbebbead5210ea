"""Write a schedule as a line, and read it again: which loop, which order, what is disturbed where.

A schedule is drawn from a seed, or says each decision by itself; only the second kind can be
shortened, and only it stands in a line that replays. A decision is the order in which those
begin that are ready at once; what is not said is first come, first served.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

import attrs

from anabranch.errors import ConfigurationError

VERSION = 1  # of what a seed draws and a line means; another version's is refused
LOOPS = ("trio", "asyncio")
DISTURBANCES = ("order", "cancel", "fail")

Order = tuple[int, ...]

_PARTS = re.compile(r"(\d+):(trio|asyncio)((?::[a-z]+=[0-9.,>]+)*)")
_MOVES = re.compile(r"\d+>\d+(\.\d+)+(,\d+>\d+(\.\d+)+)*")


@attrs.frozen(kw_only=True)
class Schedule:
    """Say under what a program runs.

    Attributes:
        seed: draws each order; None for those in ``moves``, and first come first served else.
        moves: the number of a decision, and who goes in which order by then.
        cancel: before which step of what may be interrupted it is cancelled.
        fail: which of its waits fails.
    """

    loop: str
    seed: int | None = None
    moves: Mapping[int, Order] = attrs.field(factory=dict)
    cancel: int | None = None
    fail: int | None = None

    def disturbed(self, how: str, at: int | None) -> Schedule:
        """Return the same with a step to ``cancel`` before, or a wait to ``fail``; or None."""
        change: dict[str, Any] = {how: at}
        return attrs.evolve(self, **change)

    def line(self) -> str:
        """Return the text from which ``parse`` makes this schedule again."""
        parts = [str(VERSION), self.loop]
        if self.moves:
            moves = sorted(self.moves.items())
            parts.append(
                "order=" + ",".join(f"{at}>{'.'.join(map(str, order))}" for at, order in moves)
            )
        for name, at in (("cancel", self.cancel), ("fail", self.fail)):
            if at is not None:
                parts.append(f"{name}={at}")
        return ":".join(parts)

    def words(self) -> str:
        """Say what it does to a program."""
        said = [f"on {self.loop}"]
        if self.moves:
            count = len(self.moves)
            said.append(f"{count} order{'s' if count > 1 else ''} other than first come")
        if self.cancel is not None:
            said.append(f"cancelled before step {self.cancel}")
        if self.fail is not None:
            said.append(f"wait {self.fail} fails")
        return ", ".join(said)


def parse(where: str, line: object) -> Schedule:
    """Make a schedule of its line.

    Raises:
        ConfigurationError: a line that is none, or one of another version.
    """
    seen = f"{where}: replay={line!r:.200}"
    match = _PARTS.fullmatch(line) if isinstance(line, str) else None
    if match is None:
        version = re.match(r"(\d+):", line) if isinstance(line, str) else None
        if version and int(version[1]) != VERSION:
            raise _other_version(seen, version[1])
        raise ConfigurationError(f"{seen} is no schedule; give the line that a failure printed")
    if int(match[1]) != VERSION:
        raise _other_version(seen, match[1])
    terms: dict[str, Any] = {"loop": match[2]}
    for part in filter(None, match[3].split(":")):
        name, value = part.split("=")
        if name not in DISTURBANCES or name in terms or (name == "order" and "moves" in terms):
            raise ConfigurationError(f"{seen}: {part!r} is unknown or there twice; copy it whole")
        if name == "order":
            terms["moves"] = _moves(seen, value)
        elif value.isdigit():
            terms[name] = int(value)
        else:
            raise ConfigurationError(f"{seen}: {value!r} is no number; copy the line whole")
    return Schedule(**terms)


def _other_version(seen: str, version: str) -> ConfigurationError:
    return ConfigurationError(
        f"{seen} was written by version {version} of schedules, and this is version {VERSION}: "
        f"it would mean another one here; explore again, and keep the new line"
    )


def _moves(seen: str, text: str) -> dict[int, Order]:
    if not _MOVES.fullmatch(text):
        raise ConfigurationError(f"{seen}: {text!r} is no list of orders; copy the line whole")
    moves: dict[int, Order] = {}
    for each in text.split(","):
        at, order = each.split(">")
        moves[int(at)] = tuple(map(int, order.split(".")))
        if sorted(moves[int(at)]) != list(range(len(moves[int(at)]))):
            raise ConfigurationError(f"{seen}: {order!r} is no order; copy the line whole")
    return moves


class Choices:
    """Be the dice of one run, and keep what they showed.

    Attributes:
        made: decisions that were not first come, first served, by their number.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.made: dict[int, Order] = {}
        self._misfits: list[str] = []
        self._count = 0
        self._moves = schedule.moves
        self._dice = None if schedule.seed is None else random.Random(schedule.seed)
        self._last_goes_first = schedule.loop == "trio"  # it takes a batch from its end

    def shuffle(self, x: list[Any]) -> None:
        """Rearrange a batch of those that are ready, which stand there by age."""
        x[:] = [x[at] for at in self._order(len(x))]
        if self._last_goes_first:
            x.reverse()

    def misfits(self) -> list[str]:
        """Say, after the run, which decisions of the schedule did not fit what was ready."""
        never = [
            f"there were {self._count} decisions, and none of number {at}"
            for at in sorted(self._moves)
            if at >= self._count
        ]
        return self._misfits + never

    def lots(self, count: int) -> list[float]:
        """Say for each of so many when it goes."""
        lots = [0.0] * count
        for place, at in enumerate(self._order(count)):
            lots[at] = float(place)
        return lots

    def _order(self, count: int) -> Order:
        first_come = tuple(range(count))
        if count < 2:
            return first_come
        number, self._count = self._count, self._count + 1
        if self._dice is not None:
            order = tuple(self._dice.sample(first_come, count))
        else:
            order = self._moves.get(number, first_come)
        if len(order) != count:
            self._misfits.append(f"decision {number} is of {count}, not of {len(order)}")
            order = first_come
        if order != first_come:
            self.made[number] = order
        return order
