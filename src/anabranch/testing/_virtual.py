"""Run a program in virtual time on either loop: an hour of sleeping costs nothing.

Virtual time does not wait for threads or child processes: what needs those needs the real clock.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar, TypeVarTuple

from trio.testing import MockClock

from anabranch._runtime import loop_runs_here
from anabranch.errors import ConfigurationError, HostLoopError
from anabranch.pipeline._plan import NO_ASYNCIO
from anabranch.testing import _clock
from anabranch.testing._schedule import LOOPS, Choices, Schedule
from anabranch.testing._schedules import Dice, run_asyncio, run_trio
from anabranch.testing._standing import Standing
from anabranch.testing._unwaited import OnTrio, on_asyncio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualLoop(_clock.VirtualLoop):
    """Run an asyncio program in virtual time; a `VirtualTimeWarning` says what it passed over.

    Args:
        order: Draws the order of what may run in any; first come first served without.
        deadlock: What to do when everything waits and there is no timer. A thread or a process
            may still send something, so ``"wait"`` is the default; ``"raise"`` is for programs
            that have neither, and raises `DeadlockError` with the line where each task sits.
    """

    def __init__(
        self, *, order: _clock.Order | None = None, deadlock: Literal["wait", "raise"] = "wait"
    ) -> None:
        super().__init__(order=order, deadlock=deadlock, unwaited=on_asyncio())


def virtual_time(loop: str = "trio") -> dict[str, Any]:
    """Return the keywords with which ``anyio.run`` runs in virtual time, from 0.0 on.

    They serve one run: ``anyio.run(main, **virtual_time("asyncio"))``.

    Raises:
        ConfigurationError: a loop that is neither "trio" nor "asyncio".
    """
    check_loop("virtual_time", loop)
    return {"backend": loop, "backend_options": virtual_options(loop)}


def virtual_options(loop: str, standing: Standing | None = None) -> dict[str, Any]:
    """Return what anyio's backend is to be told; ``standing`` watches a test for a standstill."""
    if loop == "trio":
        clock = MockClock(autojump_threshold=0)
        instrument = OnTrio(clock, standing)
        unwaited = instrument.unwaited
        options: dict[str, Any] = {"clock": clock, "instruments": [instrument]}
    else:
        unwaited = on_asyncio(standing)
        options = {"loop_factory": lambda: _clock.VirtualLoop(unwaited=unwaited)}
    if standing is not None:
        standing.tell = unwaited.tell
    return options


def run_virtual(
    async_fn: Callable[[*Ts], Coroutine[Any, Any, T]],
    *args: *Ts,
    loop: str = "trio",
    seed: int | None = None,
) -> T:
    """Run a program in virtual time, and return what it returns.

    Args:
        loop: "trio" or "asyncio".
        seed: draws the order of those who are ready at once; the same one each time.
            None for first come, first served.

    Raises:
        DeadlockError: everything waits for ever; it says who waits where.
        ConfigurationError: a loop or a seed that is none.
    """
    check_loop("run_virtual", loop)
    if isinstance(seed, bool) or not isinstance(seed, int | None):
        raise ConfigurationError(
            f"run_virtual: seed={seed!r:.80} ({type(seed).__name__}) is no whole number; "
            f"give one, or leave it out"
        )
    if loop_runs_here():
        raise HostLoopError(
            "run_virtual was called where a loop runs, and it runs one of its own; "
            "call it from a plain function"
        )
    order: int | Dice = Choices(Schedule(loop=loop)) if seed is None else seed
    if loop == "asyncio":
        return run_asyncio(async_fn, *args, seed=order)
    try:
        return run_trio(async_fn, *args, seed=order)
    except RuntimeError as error:
        if any(words in str(error) for words in NO_ASYNCIO):
            error.add_note("run_virtual ran it on trio; for what needs asyncio give loop='asyncio'")
        raise


def check_loop(where: str, loop: object) -> None:
    """Raise ConfigurationError unless ``loop`` names one."""
    if loop not in LOOPS:
        raise ConfigurationError(
            f"{where}: loop={loop!r:.80} ({type(loop).__name__}) is neither 'trio' nor 'asyncio'; "
            f"give one of them"
        )
