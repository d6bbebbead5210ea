"""Put steps one behind another, and run them in the host's loop or in one of their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import anyio
import attrs

from anabranch import _runtime
from anabranch._following import Live
from anabranch._host import Host, current_host
from anabranch._observers import Delivery, check_observer
from anabranch._options import exact, refuse_later
from anabranch._runtime import check_home
from anabranch._work import check_seconds, name_of
from anabranch.abc import Limiter, Observer
from anabranch.errors import ConfigurationError, DuplicateKeyError, HostLoopError
from anabranch.lanes._thread import io_lane
from anabranch.pipeline._check import check_name
from anabranch.pipeline._config import ExecutionConfig
from anabranch.pipeline._context import check_context
from anabranch.pipeline._live import LiveRun
from anabranch.pipeline._node import Frame, In, Node, Out, Run
from anabranch.pipeline._plan import noted, title
from anabranch.pipeline._result import PipelineResult, StepResult, made
from anabranch.pipeline._step import Part, as_node
from anabranch.pipeline._typed import PipelineOptions

T = TypeVar("T")
U = TypeVar("U")

log = logging.getLogger("anabranch")


class Pipeline(Node[In, Out]):
    """Run steps one behind another, each with the output of the one before.

    Args:
        steps: steps, parallel steps, pipelines or functions; at least one.
        name: what people and results call it.
        execution_config: limits of the whole pipeline.

    Raises:
        ConfigurationError: no steps, a step that is none, or a name given twice.
    """

    __slots__ = ("_config", "_needs_context", "_nodes", "_parts", "name")

    name: str | None
    _config: ExecutionConfig
    _needs_context: str
    _nodes: tuple[tuple[str, Node[Any, Any]], ...]
    _parts: tuple[Any, ...]  # as they were given: what has no name of its own may be numbered anew

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Pipeline[T, U], steps: Node[T, U], **options: Unpack[PipelineOptions]
        ) -> None: ...
        @overload
        def __init__(
            self: Pipeline[Any, Any], steps: Sequence[Part], **options: Unpack[PipelineOptions]
        ) -> None: ...

    @exact("Pipeline")
    def __init__(
        self,
        steps: Sequence[Part] | Node[Any, Any],
        *,
        name: str | None = None,
        execution_config: ExecutionConfig | None = None,
    ) -> None:
        where = "Pipeline" if name is None else f"Pipeline {name!r}"
        if name is not None:
            check_name("Pipeline", name)
        config = ExecutionConfig() if execution_config is None else execution_config
        if not isinstance(config, ExecutionConfig):
            raise ConfigurationError(
                f"{where}: execution_config={config!r} ({type(config).__name__}) "
                f"is no ExecutionConfig"
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_config", config)
        parts = _parts(where, steps)
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_nodes", _named(where, parts))
        needs = (node.needs_context() for _, node in self._nodes)
        object.__setattr__(self, "_needs_context", next(filter(None, needs), ""))

    def __repr__(self) -> str:
        return f"<Pipeline {self.name or ''}: {' >> '.join(name for name, _ in self._nodes)}>"

    @property
    def steps(self) -> Mapping[str, Node[Any, Any]]:
        """The steps by name, in order."""
        return dict(self._nodes)

    @exact("Pipeline.run")
    async def run(
        self,
        data: In = None,  # type: ignore[assignment]  # a pipeline that makes its own data needs none
        *,
        context: Any = None,
        budget: None = None,
        limiter: Limiter | None = None,
        breach_event: None = None,
        observer: Observer | None = None,
        timeout: float | None = None,
    ) -> PipelineResult[Out]:
        """Run the pipeline in the host's loop.

        Args:
            data: the first step's input.
            context: a dict, or an attrs, dataclass or pydantic object; handed to functions that
                take ``context``. Steps share it, each branch has a copy of its own.
            limiter: takes the place of the pipeline's own limiter, to share it between runs.
            observer: called with each event, in a thread of its own.
            timeout: seconds for the whole run; None for none.

        Raises:
            ConfigurationError: an argument that cannot be meant, before anything starts.
            HostLoopError: no loop runs here.
        """
        terms = (context, limiter, observer, timeout)
        bare = context is None and limiter is None and observer is None and timeout is None
        if not bare or self._needs_context or budget is not None or breach_event is not None:
            self._check("Pipeline.run", *terms, budget=budget, breach_event=breach_event)
        return await self._run(data, *terms, live=None)

    @exact("Pipeline.open")
    def open(
        self,
        data: In = None,  # type: ignore[assignment]  # as for run
        *,
        context: Any = None,
        budget: None = None,
        limiter: Limiter | None = None,
        breach_event: None = None,
        observer: Observer | None = None,
        timeout: float | None = None,
    ) -> LiveRun[Out]:
        """Run the pipeline while the block of ``async with`` goes on; arguments as for ``run``.

        The block is handed the live run: its ``outcomes``, ``cancel``, ``snapshot``, ``result``.
        Leaving the block waits for the run, an exception in the block cancels it.
        """
        terms = (context, limiter, observer, timeout)
        self._check("Pipeline.open", *terms, budget=budget, breach_event=breach_event)

        async def start(live: Live) -> PipelineResult[Out]:
            return await self._run(data, *terms, live=live)

        return LiveRun(start)

    @exact("Pipeline.run_sync")
    def run_sync(
        self,
        data: In = None,  # type: ignore[assignment]  # as for run
        *,
        loop: str = "trio",
        context: Any = None,
        budget: None = None,
        limiter: Limiter | None = None,
        breach_event: None = None,
        observer: Observer | None = None,
        timeout: float | None = None,
    ) -> PipelineResult[Out]:
        """Run the pipeline in a loop of its own, from a plain program; options as for ``run``.

        Args:
            loop: ``trio`` or ``asyncio``.

        Raises:
            HostLoopError: a loop runs in this thread already.
            ConfigurationError: an argument that cannot be meant.
        """
        if loop not in ("trio", "asyncio"):
            raise ConfigurationError(
                f"Pipeline.run_sync: loop={loop!r} is no loop; give 'trio' or 'asyncio'"
            )
        terms = (context, limiter, observer, timeout)
        self._check("Pipeline.run_sync", *terms, budget=budget, breach_event=breach_event)
        if _runtime.loop_runs_here():
            raise HostLoopError(
                "run_sync opens a loop of its own, and one runs in this thread already; "
                "inside it write: await pipeline.run(...)"
            )
        return anyio.run(partial(self._run, data, *terms, live=None), backend=loop)

    def needs_context(self) -> str:
        """Name the first step in it that does nothing without a context; empty for none."""
        return self._needs_context

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        """Run as a step of another pipeline, or as a branch."""
        run, started_at = frame.run, frame.run.clock()
        history: list[StepResult[Any]] = []
        lane, io_limit = io_lane(run.host), self._config.io_limit
        lane.enter(io_limit)
        try:
            inside = attrs.evolve(frame, limiters=(*frame.limiters, *self._own_limiters(run.host)))
            await self._walk(data, inside, history)
            frame.context = inside.context
        except BaseException as error:
            stopped = frame.kept()
            if stopped is not None and frame.is_cancelled_by(error):
                frame.keep(_as_its_last(stopped, name, run.clock() - started_at))
            raise
        finally:
            lane.leave(io_limit)
        return _as_its_last(history[-1], name, run.clock() - started_at)

    async def _run(
        self,
        data: Any,
        context: Any,
        limiter: Limiter | None,
        observer: Observer | None,
        timeout: float | None,
        *,
        live: Live | None,
    ) -> PipelineResult[Out]:
        host = current_host()
        if limiter is not None:
            check_home(limiter)
        clock = host.clock
        delivery = None if observer is None else Delivery(observer)
        run = Run(host, clock, delivery, live)
        lane, io_limit = io_lane(host), self._config.io_limit
        history: list[StepResult[Any]] = []
        started_at, reason = clock(), ""
        lane.enter(io_limit)
        try:
            limiters = self._own_limiters(host) if limiter is None else (limiter,)
            frame = Frame(run, context, "", limiters, last=live is not None)
            if timeout is None:
                await self._walk(data, frame, history)
            else:
                run.timeout, run.deadline = timeout, started_at + timeout
                with host.runtime.CancelScope(deadline=run.deadline) as scope:
                    await self._walk(data, frame, history)
                if scope.cancelled_caught:
                    reason = f"deadline: {timeout:g} s (timeout= of the pipeline)"
        finally:
            lane.leave(io_limit)
            if delivery is not None:
                delivery.close()
        if reason:
            history += [_stopped(step, reason) for step in _kept(run)]
        return self._result(history, frame.context, clock() - started_at, reason)

    async def _walk(self, data: Any, frame: Frame, history: list[StepResult[Any]]) -> None:
        """Run the steps one behind another, into ``history``; stop at the first that fails."""
        before_last = attrs.evolve(frame, last=False) if frame.last else frame
        for number, (name, node) in enumerate(self._nodes, 1):
            frame_of_step = frame if number == len(self._nodes) else before_last
            if history:  # the step before may have kept a cancellation to itself
                await frame.run.host.runtime.lowlevel.checkpoint_if_cancelled()
            result = await node.run_in(data, frame_of_step, name)
            frame.context = before_last.context = frame_of_step.context
            history.append(result)
            if not result.success:
                log.info("step %r: %s", name, result.feedback)
                return
            data = result.output

    def _result(
        self, history: list[StepResult[Any]], context: Any, duration: float, reason: str
    ) -> PipelineResult[Out]:
        complete = len(history) == len(self._nodes) and history[-1].success
        success = complete and not reason
        if log.isEnabledFor(logging.DEBUG):
            how = "succeeded" if success else "failed"
            log.debug("%r %s in %.3g s %s", self, how, duration, reason)
        return made(
            PipelineResult,
            name=self.name or "pipeline",
            success=success,
            output=history[-1].output if success else None,
            step_history=tuple(history),
            context=context,
            duration=duration,
            reason=reason,
        )

    def _own_limiters(self, host: Host) -> tuple[Limiter, ...]:
        limit = self._config.max_parallel_steps
        return () if limit is None else (host.runtime.CapacityLimiter(limit),)

    def _check(
        self,
        where: str,
        context: Any,
        limiter: object,
        observer: object,
        timeout: object,
        **later: object,
    ) -> None:
        """Raise ConfigurationError for an argument of a run that cannot be meant."""
        refuse_later(where, {option: (value, None) for option, value in later.items()})
        check_seconds(where, "timeout", timeout)
        check_context(context)
        if context is None and self._needs_context:
            raise ConfigurationError(
                f"{where}: {self._needs_context} merges contexts or narrows them, and this run has "
                f"none; give context={{}}, or an attrs, dataclass or pydantic object"
            )
        if limiter is not None and not isinstance(limiter, Limiter):
            raise ConfigurationError(
                f"{where}: limiter={limiter!r} ({type(limiter).__name__}) is no limiter; give a "
                f"CapacityLimiter of the host's loop, or a number as max_parallel_steps="
            )
        check_observer(where, observer)


def _parts(where: str, steps: object) -> tuple[Any, ...]:
    if isinstance(steps, Node):
        steps = [steps]
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        raise ConfigurationError(
            f"{where}: steps={steps!r:.80} ({type(steps).__name__}) is no list; "
            f"give a list of steps"
        )
    if not steps:
        raise ConfigurationError(f"{where}: it has no steps; give it at least one")
    return tuple(steps)


def _as_its_last(final: StepResult[Any], name: str, latency_s: float) -> StepResult[Any]:
    """Make the result of a nested pipeline: that of its last step, under its own name."""
    words = final.feedback if final.success else f"step {final.name!r}: {final.feedback}"
    error = noted(final.error, f"step {title(final.name)} of pipeline {title(name)}")
    return attrs.evolve(final, name=name, latency_s=latency_s, feedback=words, error=error)


def _kept(run: Run) -> list[StepResult[Any]]:
    """Return the step that was stopped, if one was."""
    return [result for path, result in run.stopped.items() if not path]


def _stopped(step: StepResult[Any], reason: str) -> StepResult[Any]:
    """Give the step that the pipeline's own deadline stopped that for its reason."""
    words = step.feedback.removesuffix(step.reason) + reason
    return attrs.evolve(step, reason=reason, feedback=words)


def _named(where: str, parts: tuple[Any, ...]) -> tuple[tuple[str, Node[Any, Any]], ...]:
    """Give each step its name: its own, or its kind, or its function's, and a number."""
    given = [part.name for part in parts if isinstance(part, Node) and part.name is not None]
    for name in given:
        if given.count(name) > 1:
            raise DuplicateKeyError(
                f"{where}: two steps are named {name!r}; give each a name of its own"
            )
    taken = set(given)
    named = []
    for index, part in enumerate(parts, 1):
        if isinstance(part, Node):
            named.append((part.name or _number(_kind_of(part), taken), part))
        else:
            bare = name_of(part).rpartition(".")[2] if callable(part) else f"step {index}"
            name = _number(bare, taken)
            named.append((name, as_node(where, name, part)))
    return tuple(named)


def _kind_of(node: Node[Any, Any]) -> str:
    return "pipeline" if isinstance(node, Pipeline) else "parallel"


def _number(kind: str, taken: set[str]) -> str:
    """Return the first free name of an unnamed step: ``parallel``, ``parallel-2``, ..."""
    number, name = 1, kind
    while name in taken:
        number += 1
        name = f"{kind}-{number}"
    taken.add(name)
    return name


def _join(left: Any, right: Any) -> Pipeline[Any, Any]:
    """Put two parts one behind the other; a pipeline without a config of its own is taken apart."""
    parts: list[Any] = []
    for part in (left, right):
        parts += _parts_of(part)
    return Pipeline(parts)


def _parts_of(part: Any) -> list[Any]:
    if isinstance(part, Pipeline) and part.name is None and part._config == ExecutionConfig():
        return list(part._parts)
    return [part]


Node._join = staticmethod(_join)
