"""Name one call: a function, where it runs, and how long it may take."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Unpack, overload

from anabranch._branch import ASYNC, call_in
from anabranch._breaker import CircuitBreaker, check_breaker
from anabranch._options import exact, refuse_later
from anabranch._retry import Retry
from anabranch._scheduler import Scheduler
from anabranch._work import check_lane, check_on_cancel, check_retry, check_seconds, name_of
from anabranch.abc import BreachEvent, Lane, Limiter
from anabranch.errors import ConfigurationError
from anabranch.events import StepFinished, StepStarted
from anabranch.pipeline._check import check_function, check_name, spelled, takes_context
from anabranch.pipeline._conclude import Reduce
from anabranch.pipeline._config import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    MergeConfig,
    MergeStrategy,
)
from anabranch.pipeline._fallback import check_fallback, fallback_plan
from anabranch.pipeline._here import run_here
from anabranch.pipeline._map import MapStep
from anabranch.pipeline._merge_terms import Strategy, merge_terms_of
from anabranch.pipeline._node import Frame, In, Node, Out, run_nested
from anabranch.pipeline._parallel import ParallelStep
from anabranch.pipeline._plan import Plan, result_of, title
from anabranch.pipeline._result import StepResult
from anabranch.pipeline._returned import charge_ended
from anabranch.pipeline._rules import CancelWhen, Halt, check_priorities
from anabranch.pipeline._terms import terms_of
from anabranch.pipeline._typed import MapOptions, ParallelOptions, StepOptions, TakesContext

T = TypeVar("T")
U = TypeVar("U")
Part: TypeAlias = Node[Any, Any] | Callable[..., Any]  # what may stand in a branch
Items: TypeAlias = Iterable[Any] | AsyncIterable[Any] | Callable[[Any], Any]


class Step(Node[In, Out]):
    """Call ``fn(data)``, or ``fn(data, context=...)`` if it takes a context.

    Async functions run on the loop, plain ones in a thread.

    Args:
        name: what people and results call it.
        fn: the function; its one argument is the data.
        lane: ``auto``, ``inline``, ``io`` (a thread), ``cpu`` (a process), or a Lane.
        timeout: seconds from its start, all attempts and waits together; None for none.
        retry: a Retry: when it is called again after it failed.
        breaker: a CircuitBreaker that each of its calls goes through; it may be shared.
        fallback: a step, or a function of the data (and ``error=``, if it has that), which runs
            when it has failed for good or its timeout has struck; what it returns is the output.
        on_cancel: what a cancellation does to a thread: ``abandon`` or ``wait``.

    Raises:
        ConfigurationError: what cannot be meant; NotBuiltYetError for what a later version brings.
    """

    __slots__: tuple[str, ...] = ("_breaker", "_fallback", "_lane", "_on_cancel", "_retry")
    __slots__ += ("_takes_context", "_timeout", "fn", "name")

    name: str
    fn: Callable[..., Any]
    _breaker: CircuitBreaker | None
    _fallback: Part | None
    _lane: str | Lane
    _on_cancel: str
    _retry: Retry | None
    _takes_context: bool
    _timeout: float | None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Step[T, U],
            name: str,
            fn: Callable[[T], Coroutine[Any, Any, U]],
            **options: Unpack[StepOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: Step[T, U],
            name: str,
            fn: TakesContext[T, Coroutine[Any, Any, U]],
            **options: Unpack[StepOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: Step[T, U], name: str, fn: Callable[[T], U], **options: Unpack[StepOptions]
        ) -> None: ...
        @overload
        def __init__(
            self: Step[T, U], name: str, fn: TakesContext[T, U], **options: Unpack[StepOptions]
        ) -> None: ...

    @exact("Step")
    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        *,
        lane: str | Lane = "auto",
        timeout: float | None = None,
        retry: Retry | None = None,
        breaker: CircuitBreaker | None = None,
        fallback: Part | None = None,
        cache: None = None,
        on_cancel: str = "abandon",
    ) -> None:
        check_name("Step", name)
        where = f"Step {name!r}"
        refuse_later(where, {"cache": (cache, None)})
        check_function(where, fn)
        check_lane(where, lane)
        check_seconds(where, "timeout", timeout)
        check_on_cancel(where, on_cancel)
        check_retry(where, retry)
        check_breaker(where, breaker)
        check_fallback(where, fallback)
        call_in(lane, fn, where)
        takes = takes_context(where, fn)
        values = (breaker, fallback, lane, on_cancel, retry, takes, timeout, fn, name)
        for slot, value in zip(Step.__slots__, values, strict=True):
            object.__setattr__(self, slot, value)

    def __repr__(self) -> str:
        return f"<Step {self.name!r}: {name_of(self.fn)}>"

    if TYPE_CHECKING:

        @overload
        @staticmethod
        def parallel(
            name: str | Mapping[str, Callable[[T], Any]] | None = None,
            branches: Mapping[str, Callable[[T], Any]] | None = None,
            **options: Unpack[ParallelOptions],
        ) -> ParallelStep[T]: ...
        @overload
        @staticmethod
        def parallel(
            name: str | Mapping[str, Node[T, Any]] | None = None,
            branches: Mapping[str, Node[T, Any]] | None = None,
            **options: Unpack[ParallelOptions],
        ) -> ParallelStep[T]: ...
        @overload
        @staticmethod
        def parallel(
            name: str | Mapping[str, Part] | None = None,
            branches: Mapping[str, Part] | None = None,
            **options: Unpack[ParallelOptions],
        ) -> ParallelStep[Any]: ...
        @overload
        @staticmethod
        def parallel(
            name: str | Mapping[str, Part] | None = None,
            branches: Mapping[str, Part] | None = None,
            *,
            reduce: Reduce | None,
            **options: Unpack[ParallelOptions],
        ) -> Node[Any, Any]: ...

    @staticmethod
    @exact("Step.parallel")
    def parallel(
        name: str | Mapping[str, Part] | None = None,
        branches: Mapping[str, Part] | None = None,
        *,
        merge_strategy: Strategy = MergeStrategy.NO_MERGE,
        merge_config: MergeConfig | None = None,
        merge_order: str = "declared",
        concurrency: ConcurrencyConfig | None = None,
        max_concurrency: int | Limiter | None = None,
        track_completion: bool | None = None,
        timeout: float | None = 30.0,
        on_branch_failure: BranchFailureStrategy = BranchFailureStrategy.PROPAGATE,
        halt: Halt | None = None,
        priorities: Mapping[str, int] | None = None,
        cancel_when: Sequence[CancelWhen] = (),
        cancel_grace: float | None = 5.0,
        breach_event: BreachEvent | None = None,
        context_include_keys: Collection[str] | None = None,
        field_mapping: Mapping[str, Collection[str]] | None = None,
        reduce: Reduce | None = None,
    ) -> ParallelStep[Any]:
        """Run branches side by side, each with the step's input.

        Spelled ``Step.parallel("name", {...})``, ``Step.parallel({...})`` or
        ``Step.parallel(branches={...})``.

        Args:
            concurrency: a ConcurrencyConfig; None for the simple path, every branch at once.
            max_concurrency: short for ``ConcurrencyConfig(max_concurrent_branches=n)``, or a
                CapacityLimiter of the host's loop, shared with whoever else uses it.
            track_completion: False leaves ``completion_order`` empty.
            timeout: seconds for the whole step; None for none.
            on_branch_failure: PROPAGATE (the step fails; siblings finish) or IGNORE (it succeeds
                if one branch did).
            halt: a Halt: end the step early when enough branches have ended in a certain way.
            priorities: glob over keys to a whole number, larger is more urgent; 0 for the rest. A
                free token goes to the most urgent queued branch, the first declared among equals.
            cancel_when: CancelWhen rules: cancel some branches when others have ended.
            cancel_grace: seconds after which a branch that works on although it was cancelled is
                named by a BranchStubborn event and the snapshot; None for never.
            breach_event: an Event of trio, asyncio or anyio that ends the step when it is set.
            merge_strategy, merge_config: what of the branches' contexts comes back, and how; or
                a function of the context and ``{key: branch's context}``.
            merge_order: ``declared``, or ``completed``: in the order in which branches ended.
            field_mapping: branch to the fields taken from it. context_include_keys: all it sees.
            reduce: a function, sync or async, of ``{key: StepResult}``; it returns the output.

        Raises:
            ConfigurationError: what cannot be meant, or is not built yet.
        """
        title, parts = spelled(name, branches)
        where = "Step.parallel" if title is None else f"Step.parallel {title!r}"
        limit = (concurrency, max_concurrency, track_completion)
        plans = _plans(where, parts, priorities)
        strict = (on_branch_failure, halt)
        terms = terms_of(where, *limit, timeout, *strict, reduce, cancel_grace, breach_event)
        terms = terms.with_rules(where, plans, cancel_when)
        merge = (merge_strategy, merge_config, merge_order, field_mapping, context_include_keys)
        merging = merge_terms_of(where, [plan.key for plan in plans], *merge)
        return ParallelStep(title, plans, terms, merging)

    if TYPE_CHECKING:

        @overload
        @staticmethod
        def map_over(
            name: str,
            step: Node[Any, U] | Callable[..., Coroutine[Any, Any, U]],
            *,
            items: Items | None = None,
            **options: Unpack[MapOptions],
        ) -> MapStep[Any, U]: ...
        @overload
        @staticmethod
        def map_over(
            name: str,
            step: Callable[..., U],
            *,
            items: Items | None = None,
            **options: Unpack[MapOptions],
        ) -> MapStep[Any, U]: ...
        @overload
        @staticmethod
        def map_over(
            name: str,
            step: Part,
            *,
            items: Items | None = None,
            reduce: Reduce | None,
            **options: Unpack[MapOptions],
        ) -> Node[Any, Any]: ...

    @staticmethod
    @exact("Step.map_over")
    def map_over(
        name: str,
        step: Part,
        *,
        items: Items | None = None,
        concurrency: ConcurrencyConfig | None = None,
        max_concurrency: int | Limiter | None = None,
        timeout: float | None = None,
        on_branch_failure: BranchFailureStrategy = BranchFailureStrategy.PROPAGATE,
        halt: Halt | None = None,
        reduce: Reduce | None = None,
    ) -> MapStep[Any, Any]:
        """Run ``step`` once for each item, pulled only as fast as it runs.

        Args:
            items: None takes the step's input; a callable is given it; an iterable or async
                iterable is taken as it is.
            concurrency, max_concurrency: as for ``parallel``. Without either, items whose number
                is known all run at once, and others under ``min(10, 2 * cores)``.
            timeout: seconds for the whole step; None for none.
            on_branch_failure: PROPAGATE (the step fails; siblings finish) or IGNORE (it succeeds
                if one item did).
            halt: a Halt: end the step early; ``percent`` needs items with a length.
            reduce: a function, sync or async, of ``{key: StepResult}``; it returns the output.

        Raises:
            ConfigurationError: what cannot be meant.
        """
        check_name("Step.map_over", name)
        where = f"Step.map_over {name!r}"
        limit = (concurrency, max_concurrency, None)
        terms = terms_of(where, *limit, timeout, on_branch_failure, halt, reduce)
        return MapStep(name, _plan(where, "item", step), items, terms)

    def needs_context(self) -> str:
        """Name the first step in it that does nothing without a context; empty for none."""
        return self.plan(self.name).needs_context() if self._fallback is not None else ""

    def depth(self) -> int:
        """Count the steps nested in what it falls back to."""
        return self.plan(self.name).depth if self._fallback is not None else 0

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        """Run as a step of a pipeline."""
        plan, run, path = self.plan(name), frame.run, frame.path + name
        branch = plan.branch(name, (data,), frame, run.clock(), shares_context=True)
        if run.delivery is not None:
            frame.emit(StepStarted(branch.queued_at, path, 1))
        try:
            if branch.kind == ASYNC and branch.timeout is None:
                await run_here(branch, frame)
            else:
                scheduler = Scheduler([], reads=False, leases=False, host=run.host, outside=frame)
                await scheduler.run_all([branch])
                charge_ended(branch, scheduler.ledger)
        except BaseException as error:
            if frame.is_cancelled_by(error):
                frame.keep(result_of(name, branch, f"step {title(name)}"))
                frame.stopped(name)
            raise
        result = result_of(name, branch, f"step {title(name)}")
        if run.delivery is not None:
            frame.emit(StepFinished(branch.ended_at, path, str(result.status)))
        return result

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
            retry=self._retry,
            breaker=self._breaker,
            fallback=self._plan_fallback(key),
        )

    def _plan_fallback(self, key: str) -> Plan | None:
        fallback = self._fallback
        if fallback is None or isinstance(fallback, Step):
            return None if fallback is None else fallback.plan(key)
        return fallback_plan(f"Step {self.name!r}: fallback", key, fallback, self)


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


def _plans(where: str, branches: object, priorities: object = None) -> tuple[Plan, ...]:
    if not isinstance(branches, Mapping):
        raise ConfigurationError(
            f"{where}: branches={branches!r:.80} ({type(branches).__name__}) is no mapping; "
            f"give {{key: branch}}"
        )
    for key in branches:
        check_name(f"{where}: a branch", key)
        if "/" in key:
            raise ConfigurationError(
                f"{where}: the key {key!r} holds '/', which parts a path; leave it out"
            )
    plans = tuple(_plan(where, key, branch) for key, branch in branches.items())
    urgent = check_priorities(where, list(branches), priorities)
    return plans if urgent is None else tuple(each.as_urgent_as(urgent) for each in plans)


def _plan(where: str, key: str, part: object) -> Plan:
    node = as_node(where, key, part)
    if isinstance(node, Step):
        return node.plan(key)
    return Plan(key=key, node=node, kind=ASYNC, fn=run_nested, nested=True)
