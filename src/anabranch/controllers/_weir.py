"""Follow the load: the default law, guards over a search.

At every sample each guard says how many branches its own matter allows: memory, failures, cores, a
lagging loop, an unused limit. Between them the search looks for the limit that buys throughput. The
least of what they say is decided, so that more pressure can never raise a limit.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch._options import exact_fields
from anabranch.controllers import (
    _check,
    _weir_climb,
    _weir_cpu,
    _weir_epochs,
    _weir_failures,
    _weir_rest,
    _weir_room,
    _weir_search,
)
from anabranch.controllers._seen import decided, seen
from anabranch.controllers._weir_window import Window

GAP = 3.5  # seconds without a sample after which counts say nothing
SHORT = 0.3  # seconds of run time, below which it is looked at so soon while it grows
SETTLE = 0.75  # of a run time, after a cut
HURRIED = 2.0  # seconds for which it looks often for the first branches to end
SOONER = 0.5  # and after a raise, to see what it does
REST = 1.2  # run times after a cut for memory in which nothing grows
LONGEST_RUN = 30.0


@attrs.frozen
class Say:
    """Say which limit a part asks for, and why."""

    limit: float
    cause: str


@attrs.frozen
class State:
    """Hold what each part remembers, and what is common to them.

    Attributes:
        limit: that was decided. t: of the last sample; began: of the first one. changed, raised:
            when it last was.
        usual, run_time: of those that have ended; of those that run too; seconds, 0 if unknown.
        heavy_until, light: no growth before that, after a cut for memory; the limit before it.
        busy: the share of the CPU that was usual of late.
    """

    bounds: Bounds
    limit: int
    epochs: _weir_epochs.Epochs
    t: float = -math.inf
    began: float = math.inf
    changed: float = -math.inf
    raised: float = -math.inf
    usual: float = 0.0
    run_time: float = 0.0
    heavy_until: float = -math.inf
    light: int = 0
    busy: float | None = None
    rooms: _weir_room.Rooms = attrs.field(factory=_weir_room.Rooms)
    failures: _weir_failures.Failures = attrs.field(factory=_weir_failures.Failures)
    cpu: _weir_cpu.Cpu = attrs.field(factory=_weir_cpu.Cpu)
    rest: _weir_rest.Rest = attrs.field(factory=_weir_rest.Rest)


@exact_fields
@attrs.frozen(kw_only=True)
class Weir:
    """Decide by memory, failures, cores and throughput, whichever allows the least.

    Args:
        memory, gpu_memory: shares of what there is that may be used, where it can be foreseen.

    Raises:
        ConfigurationError: a share that is none.
    """

    memory: float = attrs.field(default=0.85, validator=_check.share)
    gpu_memory: float = attrs.field(default=0.88, validator=_check.share)

    def initial(self, bounds: Bounds, /) -> State:
        """Return the state of a run that begins."""
        epochs = _weir_epochs.Epochs(Window(bounds.initial), climbs=True)
        return State(bounds, bounds.initial, epochs)

    def next(self, state: State, load: Load, /) -> Decision:
        """Decide from one load."""
        bounds = state.bounds
        now = seen(load, bounds, state.t)
        began = state.t == -math.inf
        dt = _weir_climb.begun(now) if began else now.t - state.t
        if not began and dt <= 0:
            return decided(state, load, bounds, now.limit, "")
        limit = int(now.limit)
        usual = _usual(state.usual, now)
        run_time, first = _run_time(usual, now), min(state.began, now.t)
        state = attrs.evolve(state, t=now.t, began=first, usual=usual, run_time=run_time)
        if limit != state.limit or began or dt > GAP:
            epochs = _weir_epochs.moved(state.epochs, limit, now.t)
            changed = now.t - min(max(now.ages, default=0.0), LONGEST_RUN) if began else now.t
            raised = changed if began else state.raised
            state = attrs.evolve(state, limit=limit, epochs=epochs, changed=changed, raised=raised)
        shares = (self.memory, self.gpu_memory)
        rooms, room = _weir_room.looked(state.rooms, now, min(dt, GAP), run_time, first, shares)
        state = attrs.evolve(state, rooms=rooms)
        state, caps = self._guards(state, now, dt)
        cut = Say(room.now, room.cause)
        if _weir_room.is_too_much(rooms, room, now, self.memory):
            caps.append(cut)
            state = attrs.evolve(
                state,
                heavy_until=now.t + max(1.0, REST * state.run_time),
                light=max(state.light, limit),
            )
        state, wish = self._wish(state, now, dt, room.last)
        if wish.limit > max(limit, room.last):  # not even back to where it was
            wish = Say(max(limit, room.last), wish.cause)
        chosen = min([*caps, wish], key=_limit)
        if chosen.cause and chosen in caps and chosen is not cut:
            epochs = _weir_epochs.moved(state.epochs, limit, now.t, rest=True)
            state = attrs.evolve(state, epochs=epochs)
        again = _weir_room.again(rooms, now)
        if again is None and (began or chosen.limit > limit or _grows(state)):
            again = _weir_room.SOON if state.run_time < SHORT else SOONER
        decision = decided(state, load, bounds, chosen.limit, chosen.cause, again)
        return attrs.evolve(decision, state=_after(state, now, decision.limit, chosen is wish))

    def _guards(self, state: State, now: Load, dt: float) -> tuple[State, list[Say]]:
        """Ask each guard for its cap; those which have none are left out."""
        caps = []
        if 0 < dt <= GAP:
            failures = _weir_failures.count(state.failures, now, dt, state.run_time)
            failures, most, cause = _weir_failures.heed(
                failures, now, dt, _alone(state), state.raised, _lowered(state)
            )
            caps.append(Say(most, cause))
            settled = now.in_use <= now.limit and now.t - dt >= state.changed
            cpu, most, cause = _weir_cpu.press(
                state.cpu,
                now,
                dt,
                settled and _weir_rest.reached(now),
                state.run_time,
                state.epochs.window,
                state.epochs.proven,
            )
            caps.append(Say(most, cause))
            rest, most, cause = _weir_rest.lagging(state.rest, now)
            caps.append(Say(most, cause))
            least = min(state.bounds.initial, state.limit)
            rest, most, cause = _weir_rest.unused(rest, now, least)
            caps.append(Say(most, cause))
            state = attrs.evolve(state, failures=failures, cpu=cpu, rest=rest)
        return state, [cap for cap in caps if cap.limit < math.inf]

    def _wish(self, state: State, now: Load, dt: float, room: float) -> tuple[State, Say]:
        """Ask the search, and whatever would undo a cut, within what the guards allow."""
        stay = Say(now.limit, "")
        busy = state.busy
        if now.cpu is not None:
            state = attrs.evolve(
                state, busy=now.cpu if busy is None else busy + 0.5 * (now.cpu - busy)
            )
        if not 0 < dt <= GAP or not _weir_rest.reached(now):
            return state, stay
        reach = min(room, _weir_cpu.reach(state.cpu, now, busy, state.epochs.window))
        reach = min(reach, _weir_failures.reach(state.failures, now))
        unseen = _weir_room.unseen(state.rooms, now, state.raised, state.run_time)
        if now.t < state.heavy_until or state.failures.bad or unseen:
            reach = min(reach, now.limit)
        walled = reach < _weir_search.WALLED * now.limit
        reach = min(reach, state.bounds.ceiling)
        undone = _undone(state, now, dt, reach, room)
        if undone is not None:
            return undone
        if now.in_use > now.limit or state.failures.bad:
            return state, stay
        # After a cut those that run are behind what others are at their age.
        lowered = state.changed > state.raised
        if lowered and now.t - dt < state.changed + SETTLE * state.run_time:
            return state, stay
        excused = busy is not None and busy > _weir_search.EXCUSED
        excused = excused and not _weir_cpu.is_innocent(state.cpu, state.epochs.window)
        top = now.limit >= state.bounds.ceiling
        epochs = attrs.evolve(state.epochs, excused=excused, top=top)
        epochs, most, cause = _weir_search.search(epochs, now, dt, state.run_time, reach)
        # For the next sample: or a look below that is due would be left out for more pressure.
        epochs = attrs.evolve(epochs, walled=walled)
        return attrs.evolve(state, epochs=epochs), Say(most, cause)


def _undone(
    state: State, now: Load, dt: float, reach: float, room: float
) -> tuple[State, Say] | None:
    """Return what takes back a cut whose cause has ended; None for nothing."""
    twice = 2 * now.limit
    failures, back, cause = _weir_failures.recovered(state.failures, now, state.run_time)
    if back:
        state = attrs.evolve(state, failures=failures)
        return state, Say(min(twice, max(back, now.limit)), cause)
    drained = now.in_use <= now.limit and now.t - dt >= state.changed
    cpu, most, cause = _weir_cpu.acquit(state.cpu, now, state.epochs.window, state.epochs.proven)
    most = min(most, room)
    if most > now.limit:
        epochs = _weir_epochs.Epochs(Window(int(now.limit)), proven=state.epochs.window)
        return attrs.evolve(state, cpu=cpu, epochs=epochs), Say(min(most, twice), cause)
    cpu, most, cause = _weir_cpu.relieve(cpu, now, drained, state.run_time)
    if most > now.limit:
        epochs = state.epochs
        if cpu.above == 0:  # whom it was for has left, or other work has come
            epochs = _weir_epochs.Epochs(Window(int(now.limit)))
        return attrs.evolve(state, cpu=cpu, epochs=epochs), Say(min(most, twice), cause)
    most = min(state.light, reach, room * 0.95)
    if now.t < state.heavy_until or most < max(1.1 * now.limit, now.limit + 1):
        return None
    until = now.t + state.run_time
    state = attrs.evolve(state, light=state.light if most < state.light else 0, heavy_until=until)
    return state, Say(min(most, twice), f"there is room again, for {most:.0f}")


def _alone(state: State) -> float:
    """Return the run time of a branch which waits for no other; by Little's law, where proven."""
    proven = state.epochs.proven
    if proven is not None and proven.done >= 5:
        return min(LONGEST_RUN, proven.limit / proven.rate)
    return state.run_time


def _lowered(state: State) -> float:
    """Return when the limit was last changed, if it was lowered; who is refused came before."""
    return state.changed if state.changed > state.raised else -math.inf


def _limit(say: Say) -> float:
    return say.limit


def _usual(usual: float, now: Load) -> float:
    """Return the usual run time of those which have ended; they may be the short ones."""
    if not now.latencies:
        return usual
    mean = sum(now.latencies) / len(now.latencies)
    return min(LONGEST_RUN, mean if usual == 0 else usual + 0.3 * (mean - usual))


def _run_time(usual: float, now: Load) -> float:
    """Return the run time that must be waited for: also those that run are heard."""
    age = sum(now.ages) / len(now.ages) if now.ages else 0.0
    return max(usual, min(age, LONGEST_RUN))


def _after(state: State, now: Load, limit: int, searched: bool) -> State:
    """Return the state after the limit was decided."""
    if limit == now.limit:
        epochs = state.epochs
        if epochs.window.limit != limit:  # it would have been raised, but there is no room
            epochs = _weir_epochs.moved(epochs, limit, now.t)
        return attrs.evolve(state, limit=limit, epochs=epochs)
    raised = now.t if limit > now.limit else state.raised
    light = 0 if searched and limit < now.limit else state.light
    epochs = state.epochs
    if not searched or epochs.window.limit != limit:
        epochs = _weir_epochs.moved(epochs, limit, now.t)
    return attrs.evolve(
        state, limit=limit, changed=now.t, raised=raised, epochs=epochs, light=light
    )


def _grows(state: State) -> bool:
    """Tell whether the search is on its way up, and in a hurry."""
    epochs = state.epochs
    begins = epochs.low is None and epochs.window.span < HURRIED and state.t >= epochs.paused
    grows = epochs.low is not None and epochs.low.limit < state.limit
    return epochs.mode == "grow" and (begins or grows) and state.run_time < 4
