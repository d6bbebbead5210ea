"""Name one call: a function, where it runs, and how long it may take."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from anabranch._branch import ASYNC, Branch, call_in
from anabranch._scheduler import Scheduler
from anabranch._work import (
    Status,
    check_callable,
    check_lane,
    check_on_cancel,
    check_seconds,
    name_of,
)
from anabranch.abc import Lane
from anabranch.errors import ConfigurationError
from anabranch.pipeline._config import refuse_options
from anabranch.pipeline._map import MapStep
from anabranch.pipeline._node import Frame, In, Node, Out, run_nested
from anabranch.pipeline._parallel import ParallelStep
from anabranch.pipeline._plan import Plan, result_of
from anabranch.pipeline._result import StepResult

T = TypeVar("T")
U = TypeVar("U")
T_contra = TypeVar("T_contra", contravariant=True)
U_co = TypeVar("U_co", covariant=True)


class _TakesContext(Protocol[T_contra, U_co]):
    def __call__(self, data: T_contra, /, *, context: Any) -> U_co: ...


_OPTIONS = ("lane", "timeout", "on_cancel")
_LATER = {"retry": None, "breaker": None, "fallback": None, "cache": None}


class Step(Node[In, Out]):
    """Call ``fn(data)``, or ``fn(data, context=...)`` if it takes a context.

    Async functions run on the loop, plain ones in a thread.

    Args:
        name: what people and results call it.
        fn: the function; its one argument is the data.
        lane: ``auto``, ``inline``, ``io`` (a thread), ``cpu`` (a process), or a Lane.
        timeout: seconds from its start; None for none.
        on_cancel: what a cancellation does to a thread: ``abandon`` or ``wait``.

    Raises:
        ConfigurationError: what cannot be meant; NotBuiltYetError for what a later version brings.
    """

    __slots__ = ("_lane", "_on_cancel", "_takes_context", "_timeout", "fn", "name")

    name: str
    fn: Callable[..., Any]

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Step[T, U],
            name: str,
            fn: Callable[[T], Coroutine[Any, Any, U]],
            *,
            lane: str | Lane = "auto",
            timeout: float | None = None,
            retry: None = None,
            breaker: None = None,
            fallback: None = None,
            cache: None = None,
            on_cancel: str = "abandon",
        ) -> None: ...
        @overload
        def __init__(
            self: Step[T, U],
            name: str,
            fn: _TakesContext[T, Coroutine[Any, Any, U]],
            *,
            lane: str | Lane = "auto",
            timeout: float | None = None,
            retry: None = None,
            breaker: None = None,
            fallback: None = None,
            cache: None = None,
            on_cancel: str = "abandon",
        ) -> None: ...
        @overload
        def __init__(
            self: Step[T, U],
            name: str,
            fn: Callable[[T], U],
            *,
            lane: str | Lane = "auto",
            timeout: float | None = None,
            retry: None = None,
            breaker: None = None,
            fallback: None = None,
            cache: None = None,
            on_cancel: str = "abandon",
        ) -> None: ...
        @overload
        def __init__(
            self: Step[T, U],
            name: str,
            fn: _TakesContext[T, U],
            *,
            lane: str | Lane = "auto",
            timeout: float | None = None,
            retry: None = None,
            breaker: None = None,
            fallback: None = None,
            cache: None = None,
            on_cancel: str = "abandon",
        ) -> None: ...

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        *,
        lane: str | Lane = "auto",
        timeout: float | None = None,
        on_cancel: str = "abandon",
        **others: object,
    ) -> None:
        check_name("Step", name)
        where = f"Step {name!r}"
        refuse_options(where, others, _OPTIONS, _LATER)
        check_function(where, fn)
        check_lane(where, lane)
        check_seconds(where, "timeout", timeout)
        check_on_cancel(where, on_cancel)
        call_in(lane, fn, where)
        values = (lane, on_cancel, takes_context(where, fn), timeout, fn, name)
        for slot, value in zip(Step.__slots__, values, strict=True):
            object.__setattr__(self, slot, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} is immutable; make another Step")

    def __repr__(self) -> str:
        return f"<Step {self.name!r}: {name_of(self.fn)}>"

    @staticmethod
    def parallel(
        name: str | Mapping[str, Any] | None = None,
        branches: Mapping[str, Node[T, Any] | Callable[..., Any]] | None = None,
        **options: Any,
    ) -> ParallelStep[T]:
        """Run branches side by side, each with the step's input.

        Spelled ``Step.parallel("name", {...})``, ``Step.parallel({...})`` or
        ``Step.parallel(branches={...})``. The options are those of ParallelStep.
        """
        if branches is None and isinstance(name, Mapping):
            name, branches = None, name
        if branches is None:
            raise ConfigurationError(
                f"Step.parallel: no branches (got name={name!r}); give a mapping of key to branch"
            )
        if name is not None:
            check_name("Step.parallel", name)
        return ParallelStep(name, _plans(name, branches), options)

    @staticmethod
    def map_over(
        name: str,
        step: Node[Any, U] | Callable[[Any], Coroutine[Any, Any, U]] | Callable[[Any], U],
        *,
        items: Iterable[Any] | AsyncIterable[Any] | Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> MapStep[Any, U]:
        """Run ``step`` once for each item, pulled only as fast as it runs.

        ``items=None`` takes the step's input, a callable is given it, an iterable or async
        iterable is taken as it is. The options are those of MapStep.
        """
        check_name("Step.map_over", name)
        return MapStep(name, _plan(f"Step.map_over {name!r}", "item", step), items, options)

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        """Run as a step of a pipeline."""
        plan = self.plan(name)
        branch = plan.branch(name, data, frame, frame.run.clock(), shares_context=True)
        if branch.kind == ASYNC and branch.timeout is None:
            await _run_here(branch, frame)
        else:
            await Scheduler([], reads=False, leases=False).run_all([branch])
        return result_of(plan, name, branch, f"step {name!r}")

    def plan(self, key: str) -> Plan:
        """Return what a parallel step needs to make a branch of this step."""
        kind, lane = call_in(self._lane, self.fn, f"Step {self.name!r}")
        return Plan(
            key=key,
            node=self,
            kind=kind,
            fn=self.fn,
            lane=lane,
            timeout=self._timeout,
            on_cancel=self._on_cancel,
            takes_context=self._takes_context,
        )


async def _run_here(branch: Branch, frame: Frame) -> None:
    """Call an async function in the pipeline's own task: nothing runs beside it."""
    clock = frame.run.clock
    branch.started_at = clock()
    try:
        branch.value = await branch.fn(*branch.args, **branch.kwargs)
    except Exception as error:
        branch.error = error
        branch.status = Status.FAILED
    else:
        branch.status = Status.SUCCEEDED
    finally:
        branch.ended_at = clock()


def as_node(where: str, name: str, part: object) -> Node[Any, Any]:
    """Return ``part`` if it is a node, else the Step that it becomes."""
    if isinstance(part, Node):
        return part
    if not callable(part):
        raise ConfigurationError(
            f"{where}: {name!r} is {part!r:.80} ({type(part).__name__}), which is neither callable "
            f"nor a step; give a function, a Step, a Pipeline or a Step.parallel"
        )
    return Step(name, part)


def _plans(
    name: str | None, branches: Mapping[str, Node[Any, Any] | Callable[..., Any]]
) -> tuple[Plan, ...]:
    where = "Step.parallel" if name is None else f"Step.parallel {name!r}"
    if not isinstance(branches, Mapping):
        raise ConfigurationError(
            f"{where}: branches={branches!r:.80} ({type(branches).__name__}) is no mapping; "
            f"give {{key: branch}}"
        )
    for key in branches:
        check_name(f"{where}: a branch", key)
        if "/" in key:
            raise ConfigurationError(
                f"{where}: the key {key!r} holds '/', which separates the parts of a path; leave it out"
            )
    return tuple(_plan(where, key, branch) for key, branch in branches.items())


def _plan(where: str, key: str, part: object) -> Plan:
    node = as_node(where, key, part)
    if isinstance(node, Step):
        return node.plan(key)
    return Plan(key=key, node=node, kind=ASYNC, fn=run_nested, nested=True)


def check_name(where: str, name: object) -> None:
    """Raise ConfigurationError unless ``name`` is a string that is not empty."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"{where}: name={name!r} ({type(name).__name__}) is no name; "
            f"give a string that is not empty"
        )


def check_function(where: str, fn: object) -> None:
    """Raise ConfigurationError for what cannot be called with the data."""
    check_callable(where, fn)
    try:
        signature = inspect.signature(fn)  # type: ignore[arg-type]  # check_callable has seen to it
    except (TypeError, ValueError):  # some builtins have none
        return
    parameters = signature.parameters
    keywords = {"context": None} if "context" in parameters else {}
    try:
        signature.bind(object(), **keywords)
    except TypeError as error:
        raise ConfigurationError(
            f"{where}: {name_of(fn)}{signature} cannot be called with the data alone ({error}); "
            f"a branch is called as fn(data), or fn(data, context=...)"
        ) from None


def takes_context(where: str, fn: Callable[..., Any]) -> bool:
    """Tell whether ``fn`` has a parameter named ``context`` that can be given by name."""
    try:
        parameter = inspect.signature(fn).parameters.get("context")
    except (TypeError, ValueError):
        return False
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if parameter is None or parameter.kind not in by_name:
        return False
    return next(iter(inspect.signature(fn).parameters)) != "context"
