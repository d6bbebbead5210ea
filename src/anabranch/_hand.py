"""Run branch after branch with one token and one cancel scope: the hot loop.

A hand is a task of the scheduler's nursery. It keeps its tokens while it works, and where single
branches may be cancelled it leases one cancel scope: a scope cannot be entered twice, but its
deadline can be moved, so a new one is entered only after the leased one was cancelled or ran out.
Before each branch it asks: has a limit shrunk below what is borrowed, does somebody else wait,
is a checkpoint due. docs/explanation/hand.md tells why, with the figures.
"""

from __future__ import annotations

from contextvars import Context
from types import CoroutineType, SimpleNamespace
from typing import Any

from anabranch._again import settled
from anabranch._attempt import step_in
from anabranch._branch import ASYNC, PLAIN, STRUCK, THREAD, Branch
from anabranch._courtesy import (
    let_the_loop_go_round,
    must_make_way,
    only_reader_is_behind,
    wait_for_reader,
)
from anabranch._knot import look_again, take
from anabranch._lease import Lease
from anabranch._ledger import SLICE_S, Ledger
from anabranch._pool import charged
from anabranch._runtime import for_thread
from anabranch._thread_hand import ThreadHand
from anabranch._token import Held, holding, take_nowait
from anabranch._work import Status
from anabranch.lanes._thread import io_lane


class Hand(Lease):
    """Hold tokens, and run branches until the queue is empty or somebody else comes first."""

    __slots__ = ("_fresh", "_leases", "_origin", "_proven", "_succeed")

    def __init__(self, ledger: Ledger, held: Held, *, guest: bool = False) -> None:
        self.ledger = ledger
        self.held = held
        self.branch = None
        self._guest = guest
        self._thread = None
        self._scope = None
        self._used_up = False
        self._cancels = ledger.host.native_cancels() if guest else 0
        self._leases = ledger.leases
        self.slept: Any = None  # the coroutine, once it has suspended: so the loop went round
        self.listens = True  # it is to hear when its branch suspends
        self._succeed = False  # work is left: another hand should follow this one
        self._fresh = True
        self._proven = False  # it has run a branch
        ledger.fresh += 1
        if ledger.alive is not None:
            ledger.alive.add(self)
        if self._leases:
            ledger.hands.add(self)
        self._origin: Context = ledger.context  # what each branch's own context is a copy of
        if ledger.block is not None:
            ledger.block.helds.add(held)
        if held.limiters or held.parent is not None:
            self._origin = ledger.context.copy()
            self._origin.run(holding.set, held)
        payer = ledger.outside.payer
        if payer is not None:
            if self._origin is ledger.context and not guest:
                self._origin = ledger.context.copy()
            held.hand = self
            self._origin.run(charged.set, (payer[0], held))

    async def run(self) -> None:
        """Work until there is nothing left to do, then give the tokens back."""
        ledger = self.ledger
        try:
            again = True
            while again:
                try:
                    again = await (self._lease() if self._leases else self._work())
                except ledger.runtime.Cancelled:
                    branch = self.branch
                    # All hands of a nursery that is cancelled: ten thousand exceptions which it
                    # collects cost more than those that they end, so each just ends.
                    many = not self._guest and ledger.ends_early()
                    if branch is None or not (many or self._is_own_cancel()):
                        raise
                    self._record(branch, None)
                    if many:
                        return
                if again:
                    await self._pass_on_cancel()
        except BaseException as error:
            if self.branch is None:
                raise
            part = self._ended_by(error)  # recorded, and on its way
            if part is not None:
                raise part from None
            raise
        finally:
            if self._fresh:
                self._become_stale()
            if self._leases:
                ledger.hands.discard(self)
            if ledger.grace is not None and ledger.grace.known:
                ledger.grace.forget(self)
            if ledger.alarm is not None:
                ledger.alarm.look()
            if ledger.block is not None:
                ledger.block.helds.discard(self.held)
            if self._thread is None:  # else the abandoned thread holds them until it ends
                self.held.give_back()
            if ledger.block is not None:
                look_again(ledger.block)
            ledger.room = True
            if self._succeed:
                ledger.grow(1)
            alive = ledger.alive
            if alive is not None:
                alive.discard(self)
                if not alive:
                    ledger.last_hand_ended()

    def suspended(self, trap: Any) -> None:
        """Hear that the branch has suspended: the moment to start further hands.

        So branches that never suspend get one hand in all, those that suspend briefly get few,
        and those that sleep soon have all that the limit allows.
        The loop need not know the deadline while branches pass a checkpoint each and end.
        """
        ledger = self.ledger
        if self._used_up:
            self._works_on()
        if ledger.unarmed and (self.slept or trap is not ledger.host.brief):
            ledger.arm()
        if self._fresh:
            self._fresh = False
            ledger.fresh -= 1
            if ledger.room and (ledger.queue or ledger.pull is not None):
                ledger.grow_in_step()
        self.listens = ledger.unarmed

    def recorded(self, error: BaseException) -> bool:
        """Record a plain branch that ends because everything is being cancelled, and say so."""
        ledger, branch = self.ledger, self.branch
        if branch is None or branch.kind != ASYNC or branch.timeout is not None or self._guest:
            return False
        if error.__class__ is not ledger.runtime.Cancelled or not ledger.ends_early():
            return False
        self.branch = None
        ledger.end(branch, Status.CANCELLED, branch.reason or ledger.why_cancelled())
        return True

    async def _lease(self) -> bool:
        """Work under one cancel scope; True when a fresh one should follow it."""
        ledger = self.ledger
        again, left = True, None
        self._scope = scope = ledger.runtime.CancelScope()
        try:
            with scope:
                again = await self._work()
        except Exception as error:  # what the scope left of a group after it took its own
            left = error
        except ledger.runtime.Cancelled:
            if not self._is_own_cancel():
                raise
        if self.branch is not None:
            self._record(self.branch, left)
        elif left is not None:
            raise left  # no branch's: ours
        if self._thread is not None:
            ledger.shared = True  # the thread gives the tokens back some time, so wait in line
            self._succeed = True
            return False
        return again

    async def _work(self) -> bool:
        """Run branches; True when the scope is used up, False when the hand should end."""
        ledger, held, origin = self.ledger, self.held, self._origin
        clock, host = ledger.clock, ledger.host
        nameplate: Any = (
            SimpleNamespace() if self._guest else ledger.runtime.lowlevel.current_task()
        )
        now = clock()
        while True:
            if held.missing or (
                ledger.shared and must_make_way(ledger, held, now, proven=self._proven)
            ):
                self._succeed = True
                return False
            branch = ledger.pop() if now < ledger.deadline else None
            if branch is None:
                if ledger.dispatching is not None:
                    ledger.unpark()
                if not only_reader_is_behind(ledger):
                    return False
                self._become_stale()
                await wait_for_reader(ledger)
                self._become_fresh()
                now = clock()
                continue
            if branch.timeout is not None and not self._leases:
                ledger.queue.put_back(branch)
                self._leases = True
                return True
            self.branch = branch
            self.slept = None
            self._proven = True
            nameplate.name = branch.key
            started = now
            if branch.kind == ASYNC and branch.timeout is None:
                branch.started_at = now
                if ledger.delivery is not None:
                    ledger.started(branch)
                context = branch.context
                if context is None:
                    context = origin.copy()
                else:
                    context.run(holding.set, held)
                try:
                    branch.value = await step_in(
                        context, context.run(branch.fn, *branch.args, **branch.kwargs), self
                    )
                except Exception as error:
                    self._failed(branch, error)
                else:
                    if branch.status is not None:  # recorded: everything is being cancelled
                        return False
                    branch.status = Status.SUCCEEDED
            else:
                branch = await self._run_other(branch, now)
            now = clock()
            self.branch = None
            if branch is not None:  # else a thread has recorded it, or it goes on later
                branch.ended_at = now
                if self._used_up and branch.status is Status.SUCCEEDED:
                    branch.reason = self._ignored(branch)
                ledger.ended.append(branch)
                if ledger.listening:
                    ledger.publish(branch)
            if self._used_up:
                return True
            if self.slept:
                if started > host.tick:  # nobody has noticed since that the loop went round
                    host.tick = now
            elif now - host.tick >= SLICE_S:
                if ledger.yielding:  # one hand is enough for branches that do not suspend
                    return False
                self._become_fresh()
                now = await let_the_loop_go_round(ledger, now)

    async def _run_other(self, branch: Branch, now: float) -> Branch | None:
        """Run what is no plain case of the hot loop; return the branch that is to be recorded."""
        if branch.kind == THREAD:
            return await self._run_thread(branch)
        if branch.kind == STRUCK:
            branch.status = Status.CANCELLED
            return branch
        self._begin(branch, now)
        context = self._origin.copy() if branch.context is None else branch.context
        context.run(holding.set, self.held)
        try:
            value = context.run(branch.fn, *branch.args, **branch.kwargs)
            if branch.kind != PLAIN or type(value) is CoroutineType:
                value = await step_in(context, value, self)
        except Exception as error:
            self._failed(branch, error)
        else:
            branch.value = value
            branch.status = Status.SUCCEEDED
        self._end_deadline(branch)
        return branch if branch.tries is None or settled(self.ledger, branch) else None

    async def _run_thread(self, branch: Branch) -> Branch | None:
        """Run a plain function, and those behind it in the queue, in a thread."""
        ledger = self.ledger
        runtime = ledger.runtime
        lane = io_lane(ledger.host)
        ledger.begin_threads()
        self.suspended(branch)  # it will: others may start
        self.slept = branch
        place = Held((lane.limiter,), parent=self.held, inside=True)
        if branch.tries is not None:
            self._take_up(branch)
        if not take_nowait(place.limiters, runtime, place):
            await take(place.limiters, runtime, place)
        self._begin(branch, ledger.clock())
        thread = self._thread = ThreadHand(ledger, branch, [self.held, place], self._origin, lane)
        try:
            await runtime.to_thread.run_sync(
                for_thread(thread.run),
                abandon_on_cancel=branch.on_cancel == "abandon",
                limiter=lane.unbounded,
            )
        except BaseException:  # a cancellation, or an exit which the function raised
            thread.abandon()
            raise
        finally:
            self.branch = thread.branch
            if not thread.abandoned:
                self._thread = None
                place.give_back()
            ledger.settle()
        return await self._finish_left(thread, branch)

    async def _finish_left(self, thread: ThreadHand, first: Branch) -> Branch | None:
        """Await the coroutine that a plain function returned; see to one that failed."""
        branch = thread.branch
        if branch is not None and isinstance(branch.error, Exception):
            self._failed(branch, branch.error)
        elif branch is not None and thread.left is not None:
            context, coroutine = thread.left
            context.run(holding.set, self.held)
            try:
                value = await step_in(context, coroutine, self)
            except Exception as error:
                self._failed(branch, error)
            else:
                branch.value = value
                branch.status = Status.SUCCEEDED
        self._end_deadline(first)
        if branch is not None and branch.tries is not None and not settled(self.ledger, branch):
            return None
        return branch

    def _become_stale(self) -> None:
        """Count as a hand whose branch has suspended: it will not start the next one soon."""
        if self._fresh:
            self._fresh = False
            self.ledger.fresh -= 1

    def _become_fresh(self) -> None:
        """Count as a hand that may start others again: some may have ended meanwhile."""
        if not self._fresh:
            self._fresh = self.listens = True
            self.ledger.fresh += 1
