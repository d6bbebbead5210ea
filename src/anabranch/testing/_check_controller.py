"""Check a law of one's own: bounds, reasons, and that it is a pure function of what it is told."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch._work import check_limit
from anabranch.abc import Controller
from anabranch.errors import ConfigurationError
from anabranch.testing._promises import Promises, claim

LENGTH = 40  # loads of a run
MACHINE = {"cores": 4.0, "memory_total": 16e9, "gpu_memory_total": 24e9}
SHARES = ("cpu", "cpu_pressure", "memory_pressure")


def check_controller(controller: Controller, *, runs: int = 30, seed: int = 0) -> None:
    """Check that a law keeps what the regulator relies on, whatever it is told.

    Args:
        runs: so many drawn sequences of loads, some of them absurd, some without any signal.
        seed: draws them.

    Raises:
        ConformanceError: it breaks a promise; all of them are named.
        ConfigurationError: what has no ``initial`` and ``next``.
    """
    check_limit("check_controller", "runs", runs)
    if isinstance(controller, type) or not isinstance(controller, Controller):
        raise ConfigurationError(
            f"check_controller: {controller!r:.80} ({type(controller).__name__}) is no law; "
            f"give an object with initial(bounds) and next(state, load)"
        )
    drawn = [_Run.drawn(random.Random(seed * 1_000_003 + number)) for number in range(runs)]
    promises = Promises(controller, "controller")
    promises.keep(
        "what it decides of one limit does not depend on what it decided of others",
        partial(_see_order, controller, drawn),
    )
    each = [
        ("it decides whatever it is told", _decides),
        ("its limits are whole numbers within the bounds", _keeps_bounds),
        ("it gives a reason exactly when the limit changes", _gives_reasons),
        ("it asks again in a number of seconds above 0, or None", _asks_again),
        ("it remembers in its state only, and changes none that it was given", _is_pure),
        ("two limits that it decides in turn do not disturb each other", _keeps_apart),
    ]
    for promise, see in each:
        promises.keep(promise, partial(_see_all, see, controller, drawn))
    promises.done()


def _see_all(see: Callable[..., None], controller: Controller, drawn: list[_Run]) -> None:
    for run in drawn:
        see(controller, run)


def _see_order(controller: Controller, drawn: list[_Run]) -> None:
    """Let it decide of the runs forwards and then backwards; it must be new to tell anything."""
    forwards = [_told(run.follow(controller)) for run in drawn]
    backwards = [_told(run.follow(controller)) for run in reversed(drawn)]
    claim(forwards == backwards[::-1], "equal loads gave other decisions when asked again later")


@attrs.frozen
class _Run:
    """Be bounds, and what is told under them: all of a load but the limit."""

    bounds: Bounds
    told: tuple[dict[str, Any], ...]

    @classmethod
    def drawn(cls, dice: random.Random) -> _Run:
        ceiling = dice.choice([1, 2, 8, 64, 1000])
        floor = dice.randint(1, ceiling)
        bounds = Bounds(ceiling=ceiling, floor=floor, initial=dice.randint(floor, ceiling))
        known = dice.choice([0.0, 0.7, 1.0])  # how many of the signals
        t, told = dice.uniform(0, 1e6), []
        for _ in range(LENGTH):
            t += dice.choice([0.25, 1.0, 1.0, 1.0, 10.0])
            told.append(_fields(dice, t, known))
        return cls(bounds, tuple(told))

    def load(self, at: int, limit: int) -> Load:
        fields = self.told[at]
        in_use = min(fields["in_use"], limit)
        return Load(**fields | {"limit": limit, "in_use": in_use, "peak": max(in_use, 0)})

    def follow(self, controller: Controller) -> list[Decision]:
        """Let a law decide all of it."""
        state, limit, decisions = controller.initial(self.bounds), self.bounds.initial, []
        for at in range(len(self.told)):
            decision = controller.next(state, self.load(at, limit))
            _see_decision(decision)
            decisions.append(decision)
            state, limit = decision.state, decision.limit
            if isinstance(limit, bool) or not isinstance(limit, int):
                break
        return decisions


def _fields(dice: random.Random, t: float, known: float) -> dict[str, Any]:
    finished = dice.choice([0, 0, 1, 5, 500])
    failed = dice.choice([0, 0, 0, 1, 40])
    seconds = dice.choice([0.0, 0.01, 1.0, 60.0])
    fields: dict[str, Any] = {
        "t": t,
        "in_use": dice.choice([0, 1, 8, 10**6]),
        "queued": dice.choice([0, 1, 10**6]),
        "started": finished + failed,
        "finished": finished,
        "failed": failed,
        "rejected": dice.randint(0, failed),
        "latencies": [dice.uniform(0.5, 1.5) * seconds for _ in range(min(64, finished))],
        "ages": [dice.uniform(0, 2) * seconds for _ in range(dice.choice([0, 1, 64]))],
    }
    signals: dict[str, Any] = dict(MACHINE)
    signals |= {name: dice.choice([0.0, dice.random(), 0.99, 1.0]) for name in SHARES}
    signals["memory_used"] = dice.choice([0.1, 0.5, 0.95, 1.2]) * 16e9
    signals["own_memory"] = dice.choice([0.0, 0.1, 0.6]) * 16e9
    signals["gpu_memory_used"] = dice.choice([0.1, 0.99]) * 24e9
    signals["loop_lag"] = dice.choice([0.0, 0.001, 0.7, 10.0])
    return fields | {name: value for name, value in signals.items() if dice.random() < known}


def _see_decision(decision: object) -> None:
    claim(
        isinstance(decision, Decision),
        f"next gave {decision!r:.80} ({type(decision).__name__}); return a Decision",
    )


def _told(decisions: list[Decision]) -> list[tuple[Any, str, float | None]]:
    return [(each.limit, each.reason, each.again) for each in decisions]


def _decides(controller: Controller, run: _Run) -> None:
    run.follow(controller)


def _keeps_bounds(controller: Controller, run: _Run) -> None:
    bounds = run.bounds
    for each in run.follow(controller):
        whole = isinstance(each.limit, int) and not isinstance(each.limit, bool)
        claim(whole, f"limit={each.limit!r} ({type(each.limit).__name__})")
        within = bounds.floor <= each.limit <= bounds.ceiling
        claim(within, f"{each.limit} is not from {bounds.floor} to {bounds.ceiling}")


def _gives_reasons(controller: Controller, run: _Run) -> None:
    limit = run.bounds.initial
    for each in run.follow(controller):
        words = isinstance(each.reason, str) and bool(each.reason.strip())
        claim(
            words == (each.limit != limit), f"{limit} -> {each.limit}, reason={each.reason!r:.80}"
        )
        limit = each.limit


def _asks_again(controller: Controller, run: _Run) -> None:
    for each in run.follow(controller):
        again = each.again
        claim(again is None or (math.isfinite(again) and again > 0), f"again={again!r}")


def _is_pure(controller: Controller, run: _Run) -> None:
    state, limit = controller.initial(run.bounds), run.bounds.initial
    for at in range(len(run.told)):
        load = run.load(at, limit)
        first, second = controller.next(state, load), controller.next(state, load)
        same = _told([first]) == _told([second])
        claim(same, f"one state and load gave {_told([first])}, then {_told([second])}")
        state, limit = first.state, first.limit


def _keeps_apart(controller: Controller, run: _Run) -> None:
    alone = _told(run.follow(controller))
    states = [controller.initial(run.bounds), controller.initial(run.bounds)]
    limits, found = [run.bounds.initial] * 2, []
    for at in range(len(run.told)):
        for which, other in ((0, at), (1, len(run.told) - 1 - at)):
            decision = controller.next(states[which], run.load(other, limits[which]))
            states[which], limits[which] = decision.state, decision.limit
            if which == 0:
                found.append(decision)
    claim(_told(found) == alone, "the decisions about one depend on what the other was told")
