"""Be the branches of a machine: they do what they are told, and note what befalls them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs

from anabranch import charge
from tests.properties._machine_model import Note


class BoomError(Exception):
    """What a puppet raises."""


@attrs.frozen(eq=False)
class Paid:
    """What a puppet returns: an object of its own, which may say what it cost."""

    cost_usd: Decimal | None = None


@attrs.define(eq=False)
class Stage:
    """Keep the puppets' orders, and their notes in the order in which things happened."""

    runtime: Any
    clock: Callable[[], float]
    breached: Callable[[], bool] = bool
    notes: list[Note] = attrs.field(factory=list)
    orders: dict[str, deque[Any]] = attrs.field(factory=dict)
    waking: dict[str, Any] = attrs.field(factory=dict)

    def tell(self, key: str, order: Any) -> None:
        """Give a running puppet an order, for the next moment."""
        self.orders[key].append(order)
        if key in self.waking:
            self.waking[key].set()

    def note(self, kind: str, key: str, detail: Any = None) -> None:
        self.notes.append(Note(self.clock(), kind, key, detail, self.breached()))

    async def act(self, key: str) -> Paid:
        """Be one attempt of a branch."""
        self.orders[key] = deque()
        self.note("began", key)
        try:
            paid = await self._obey(key)
        except BoomError as error:
            self.note("raised", key, error)
            raise
        except BaseException:
            self.note("stopped", key)
            raise
        self.note("returned", key, paid)
        return paid

    async def _obey(self, key: str) -> Paid:
        while True:
            order = await self._next_order(key)
            match order:
                case "fail":
                    raise BoomError(key)
                case Paid():
                    return order
                case (amount, "here"):
                    self._pay(key, amount)
                case (amount, "child"):
                    async with self.runtime.open_nursery() as nursery:
                        nursery.start_soon(self._pay_in_child, key, amount)

    async def _next_order(self, key: str) -> Any:
        while not self.orders[key]:
            self.waking[key] = self.runtime.Event()
            try:
                await self.waking[key].wait()
            finally:
                del self.waking[key]
        return self.orders[key].popleft()

    def _pay(self, key: str, amount: Decimal) -> None:
        charge(cost_usd=amount)
        self.note("charged", key, amount)

    async def _pay_in_child(self, key: str, amount: Decimal) -> None:
        await self.runtime.lowlevel.checkpoint()
        self._pay(key, amount)
