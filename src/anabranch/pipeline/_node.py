"""Be a part of a pipeline: something with a name that turns data into a StepResult."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import attrs

from anabranch._branch import Branch
from anabranch._following import Heeding, Live
from anabranch._host import Host
from anabranch._nursery import is_cancelled
from anabranch._observers import Delivery
from anabranch._pool import Payer, Pool, payer_here
from anabranch._scheduler import Scheduler
from anabranch.abc import Limiter
from anabranch.events import Event, StepFinished
from anabranch.pipeline._context import copy_for_branch
from anabranch.pipeline._guard import Guard
from anabranch.pipeline._merge_step import Merge
from anabranch.pipeline._nested import NestedStepError
from anabranch.pipeline._result import StepResult
from anabranch.pipeline._typed import TakesContext

if TYPE_CHECKING:
    from anabranch.pipeline._pipeline import Pipeline

In = TypeVar("In", contravariant=True)  # noqa: PLC0105  # types are for people to read
Out = TypeVar("Out", covariant=True)  # noqa: PLC0105
New = TypeVar("New")


@attrs.define(eq=False)
class Run:
    """Share what belongs to one run of one pipeline, nested ones included."""

    host: Host
    clock: Callable[[], float]
    delivery: Delivery | None
    live: Live | None
    pool: Pool  # of what it spends
    guard: Guard | None = None  # where it may be breached, or is followed live
    timeout: float | None = None  # of the whole run
    deadline: float = math.inf
    stopped: dict[str, StepResult[Any]] = attrs.field(factory=dict)  # by the path of their branch

    def why_cancelled(self) -> str:
        """Say what cancels a step that nothing of its own has stopped."""
        if self.guard is not None and self.guard.at < self.deadline:
            return self.guard.breach or self.guard.stopped
        if self.clock() >= self.deadline:
            return f"deadline: {self.timeout:g} s (timeout= of the pipeline)"
        return "outer"


@attrs.define(eq=False)
class Frame:
    """Hand a step what it needs from above: the run, its context, its path, the limiters."""

    run: Run
    context: Any
    path: str  # of the branch that the step runs in, with a trailing slash; empty at the top
    limiters: tuple[Limiter, ...]  # of the pipelines around it, outermost first
    payer: Payer  # who is charged for what runs here
    last: bool = False  # nothing follows it in the whole run
    step: Scheduler | None = None  # of the step whose branch this is
    rules: tuple[Heeding, ...] = ()  # of the steps around it
    heeded: tuple[Heeding, ...] = ()  # those, and the step's own
    merge: Merge | None = None  # of the step whose branches are made with this frame
    gates: tuple[Limiter, ...] = ()  # which hold branches back while the machine is short

    def why_cancelled(self) -> str:
        """Say what cancels a step here that nothing of its own has stopped."""
        if self.step is not None:
            return self.step.ledger.why_below(self.path[:-1])
        return self.run.why_cancelled()

    def heeds(self, branch: Branch) -> bool:
        """Tell whether rules may act on how ``branch`` has ended; a thread asks."""
        return any(rules.heeds(branch) for rules in self.heeded) if self.heeded else False

    def below(self, step: Scheduler, rules: Heeding | None, merge: Merge | None = None) -> Frame:
        """Return the frame for the branches of ``step``."""
        above = self.rules if rules is None else (*self.rules, rules)
        return attrs.evolve(self, step=step, rules=above, merge=merge)

    def is_cancelled_by(self, error: BaseException) -> bool:
        """Tell whether ``error`` is a cancellation, so that what the step was is to be kept."""
        return is_cancelled(error, self.run.host.runtime)

    def keep(self, result: StepResult[Any]) -> None:
        """Keep the result of a step that was cancelled, for whoever shows it: what is around it."""
        self.run.stopped[self.path] = result

    def stopped(self, step: str) -> None:
        """Tell the observer how a step ended that was cancelled, and whose result was kept."""
        result = self.kept()
        if result is not None:
            self.emit(StepFinished(self.run.clock(), self.path + step, str(result.status)))

    def kept(self) -> StepResult[Any] | None:
        """Return the result of the step that was cancelled here, if one was."""
        return self.run.stopped.get(self.path)

    def emit(self, event: Event) -> None:
        """Tell the observer, if there is one."""
        if self.run.delivery is not None:
            self.run.delivery.emit(event)


class Node(Generic[In, Out]):
    """Be a step, a parallel step, a map, or a pipeline: whatever ``>>`` and branches take."""

    __slots__ = ()

    name: str | None
    kind: ClassVar[str] = "parallel"  # what one without a name is called, and a number
    _join: ClassVar[Callable[[Any, Any], Any]]  # set by _pipeline.py, which knows them all

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} cannot be changed ({name}); make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self!r} cannot be changed ({name}); make another one")

    if TYPE_CHECKING:

        @overload
        def __rshift__(self, other: Node[Out, New]) -> Pipeline[In, New]: ...
        @overload
        def __rshift__(
            self, other: Callable[[Out], Coroutine[Any, Any, New]]
        ) -> Pipeline[In, New]: ...
        @overload
        def __rshift__(
            self, other: TakesContext[Out, Coroutine[Any, Any, New]]
        ) -> Pipeline[In, New]: ...
        @overload
        def __rshift__(self, other: Callable[[Out], New]) -> Pipeline[In, New]: ...
        @overload
        def __rshift__(self, other: TakesContext[Out, New]) -> Pipeline[In, New]: ...

    def __rshift__(self, other: Any) -> Any:
        """Put ``other``, a step or a function, behind this one."""
        return Node._join(self, other)

    def __rrshift__(self, other: Callable[[Any], Any]) -> Pipeline[Any, Out]:
        """Put this one behind a function."""
        joined: Pipeline[Any, Out] = Node._join(other, self)
        return joined

    def needs_context(self) -> str:
        """Name the first step in it that does nothing without a context; empty for none."""
        return ""

    def depth(self) -> int:
        """Count the steps in it that are nested in each other; 0 for a plain step."""
        return 0

    def paths_below(self) -> list[str] | None:
        """List the paths of all its branches, nested ones too; None if nobody can know them."""
        return None

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        """Run with ``data``; never raises what a branch raised."""
        raise NotImplementedError


async def run_nested(
    node: Node[Any, Any], data: Any, frame: Frame, key: str, shares_context: bool = False
) -> StepResult[Any]:
    """Run a node as a branch: with a path of its own, failing as a branch fails.

    Its context is a copy, unless nothing runs beside it.
    """
    merge, path = frame.merge, f"{frame.path}{key}/"
    copy = None if merge is None else merge.copy(key)
    if copy is not None:
        context = copy.context
    else:
        context = frame.context if shares_context else copy_for_branch(frame.context)
    inside = attrs.evolve(
        frame, path=path, context=context, payer=payer_here(frame.run.pool), last=False, merge=None
    )
    result = await node.run_in(data, inside, node.name or key)
    if not result.success:
        raise NestedStepError(result)
    if merge is not None and copy is not None:
        merge.note(key, copy, inside.context)
    elif shares_context:
        frame.context = inside.context
    return result
