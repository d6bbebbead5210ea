"""Start hands: as many as there is work for, with the tokens they work with.

When tokens are in hand a task is started, a hand, which pops the most urgent branch of that moment.
Hands start hands: whenever a branch suspends while tokens are free, more.
When no token is free a transient task, the dispatcher, waits in line for one.
"""

from __future__ import annotations

from typing import Any

from anabranch._feed import Feeds
from anabranch._hand import Hand
from anabranch._knot import look_again, take
from anabranch._ledger import Ledger
from anabranch._token import Held, take_nowait

MOST_FRESH = 16  # hands that have been started for what is fed, and have not suspended yet


class Dispatcher:
    """Start the hands of one scheduler in its nursery; none where it has no nursery."""

    def __init__(self, ledger: Ledger, nursery: Any) -> None:
        self.feeds: Feeds | None = None  # once the scheduler is fed
        self._ledger = ledger
        self._nursery = nursery
        ledger.grow = self.grow
        ledger.nursery = nursery

    def resume(self) -> None:
        """Start a hand for what is queued or fed, unless one is about to look."""
        self._ledger.resume()

    def grow(self, count: int) -> None:
        """Start up to ``count`` hands, as far as there is work and tokens are free."""
        ledger = self._ledger
        while count > 0 and self._wants_hands():
            held = Held(ledger.limiters, ledger.parent)
            if ledger.limiters and not take_nowait(ledger.limiters, ledger.runtime, held):
                ledger.room = False
                above = ledger.parent  # its tokens may be on their way back to it
                waits = ledger.shared or (above is not None and above.lacks())
                if waits and ledger.dispatching is None:
                    ledger.dispatching = ledger.runtime.CancelScope()
                    self._nursery.start_soon(self._dispatch)
                return
            self._nursery.start_soon(Hand(ledger, held).run)
            count -= 1

    async def token_is_free(self) -> None:
        """Wait until a token could be taken, for which nothing is queued yet."""
        ledger = self._ledger
        while True:
            held = Held(ledger.limiters, ledger.parent)
            if not take_nowait(held.limiters, ledger.runtime, held):
                await take(held.limiters, ledger.runtime, held, ledger.block)
            ledger.room = True  # whoever found none while it was held here has gone without
            if not ledger.queue:
                held.give_back()
                if ledger.block is not None:
                    look_again(ledger.block)
                return
            # Given back, it would go to the next who asks like this, and so round and round.
            self._nursery.start_soon(Hand(ledger, held).run)
            await ledger.runtime.lowlevel.checkpoint()  # for the hand that is about to look

    def _wants_hands(self) -> bool:
        ledger = self._ledger
        if ledger.stopped or self._nursery is None:
            return False
        if len(ledger.queue) > ledger.fresh:
            return True
        # How much is fed nobody knows: without a bound, hands would be started for ever.
        return self.feeds is not None and ledger.fresh < MOST_FRESH and self.feeds.has_plain()

    async def _dispatch(self) -> None:
        """Wait in line for tokens while there is work, and start hands with them."""
        ledger = self._ledger
        scope = ledger.dispatching
        ledger.arm()
        try:
            with scope:
                while self._wants_hands():
                    held = ledger.parked = Held(ledger.limiters, ledger.parent)
                    await take(ledger.limiters, ledger.runtime, held, ledger.block)
                    ledger.parked = None
                    ledger.note_limits()
                    self._nursery.start_soon(Hand(ledger, held).run)
                    ledger.room = True
                    # What is fed is not counted here: its hands start hands when they suspend.
                    self.grow(len(ledger.queue))
        finally:
            ledger.parked = None
            ledger.dispatching = None
        if scope.cancelled_caught:
            self.resume()  # something may have come after it was unparked
        ledger.rest()
