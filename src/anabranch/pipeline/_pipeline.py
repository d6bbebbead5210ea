"""Put steps one behind another, and run them in the host's loop or in one of their own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import anyio
import attrs

from anabranch import _runtime
from anabranch._budget import Budget, UsageLimits
from anabranch._host import Host, current_host
from anabranch._options import exact
from anabranch._pool import close_pool, open_pool
from anabranch._work import Usage
from anabranch.abc import BreachEvent, Limiter, Observer
from anabranch.errors import (
    ConfigurationError,
    HostLoopError,
    UsageLimitExceededError,
)
from anabranch.lanes._thread import io_lane
from anabranch.pipeline._check import check_name
from anabranch.pipeline._config import ExecutionConfig
from anabranch.pipeline._depth import depth_around
from anabranch.pipeline._guard import walk_guarded
from anabranch.pipeline._live import LiveRun
from anabranch.pipeline._naming import named, parts_of
from anabranch.pipeline._node import Frame, In, Node, Out, Run
from anabranch.pipeline._plan import noted, title
from anabranch.pipeline._resources import watched
from anabranch.pipeline._result import NO_USAGE, PipelineResult, StepResult, made
from anabranch.pipeline._returned import costs_together
from anabranch.pipeline._run import BARE, RunTerms, cut_behind, run_of, stopped_steps
from anabranch.pipeline._step import Part
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

    __slots__ = ("_config", "_depth", "_needs_context", "_nodes", "_parts", "name")
    kind = "pipeline"

    name: str | None
    _config: ExecutionConfig
    _depth: int
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
        parts = parts_of(where, steps)
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_nodes", named(where, parts))
        depth = depth_around(where, (node.depth() for _, node in self._nodes))
        object.__setattr__(self, "_depth", depth)
        needs = (node.needs_context() for _, node in self._nodes)
        object.__setattr__(self, "_needs_context", next(filter(None, needs), ""))

    def __repr__(self) -> str:
        steps = " >> ".join(title(name) for name, _ in self._nodes)
        return f"<Pipeline {title(self.name or '')}: {steps}>"

    @property
    def steps(self) -> Mapping[str, Node[Any, Any]]:
        """The steps by name, in order."""
        return dict(self._nodes)

    @exact("Pipeline.run", awaits=True)
    def run(
        self,
        data: In = None,  # type: ignore[assignment]  # a pipeline that makes its own data needs none
        *,
        context: Any = None,
        budget: Budget | UsageLimits | None = None,
        limiter: Limiter | None = None,
        breach_event: BreachEvent | None = None,
        observer: Observer | None = None,
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, PipelineResult[Out]]:
        """Run the pipeline in the host's loop.

        Args:
            data: the first step's input.
            context: a dict, or an attrs, dataclass or pydantic object; handed to functions that
                take ``context``. Steps share it, each branch has a copy of its own.
            budget: a Budget or UsageLimits: what all branches together may spend.
            limiter: takes the place of the pipeline's own limiter, to share it between runs.
            breach_event: an Event of trio, asyncio or anyio that ends the run when it is set.
            observer: called with each event, in a thread of its own.
            timeout: seconds for the whole run; None for none.

        Raises:
            ConfigurationError: an argument that cannot be meant, before anything starts.
            HostLoopError: no loop runs here.
            UsageLimitExceededError: the budget was passed or ``breach_event`` set; its ``.result``
                is what had finished by then.
        """
        bare = context is None and budget is None and limiter is None and breach_event is None
        if bare and observer is None and timeout is None and not self._needs_context:
            return self._run(data, BARE)
        terms = RunTerms(context, budget, limiter, breach_event, observer, timeout)
        terms.check("Pipeline.run", self._needs_context)
        return self._run(data, terms)

    @exact("Pipeline.open")
    def open(
        self,
        data: In = None,  # type: ignore[assignment]  # as for run
        *,
        context: Any = None,
        budget: Budget | UsageLimits | None = None,
        limiter: Limiter | None = None,
        breach_event: BreachEvent | None = None,
        observer: Observer | None = None,
        timeout: float | None = None,
    ) -> LiveRun[Out]:
        """Run the pipeline while the block of ``async with`` goes on; arguments as for ``run``.

        The block is handed the live run: its ``outcomes``, ``cancel``, ``snapshot``, ``result``.
        Leaving the block waits for the run, an exception in the block cancels it.
        A breach is raised when the block is left; the run's ``result`` has what finished.
        """
        terms = RunTerms(context, budget, limiter, breach_event, observer, timeout)
        terms.check("Pipeline.open", self._needs_context)
        return LiveRun(partial(self._run, data, terms))

    @exact("Pipeline.run_sync")
    def run_sync(
        self,
        data: In = None,  # type: ignore[assignment]  # as for run
        *,
        loop: str = "trio",
        context: Any = None,
        budget: Budget | UsageLimits | None = None,
        limiter: Limiter | None = None,
        breach_event: BreachEvent | None = None,
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
        terms = RunTerms(context, budget, limiter, breach_event, observer, timeout)
        terms.check("Pipeline.run_sync", self._needs_context)
        if _runtime.loop_runs_here():
            raise HostLoopError(
                "run_sync opens a loop of its own, and one runs in this thread already; "
                "inside it write: await pipeline.run(...)"
            )
        return anyio.run(self._run, data, terms, backend=loop)

    def depth(self) -> int:
        """Count the steps in it that are nested in each other."""
        return self._depth

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
            if frame.is_cancelled_by(error):
                stopped = frame.kept()
                if stopped is not None:
                    history.append(stopped)
                if history:
                    cut = _as_its_last(history, name, run.clock() - started_at)
                    frame.keep(cut_behind(cut, frame.why_cancelled()) if cut.success else cut)
            raise
        finally:
            lane.leave(io_limit)
        return _as_its_last(history, name, run.clock() - started_at)

    async def _run(
        self,
        data: Any,
        terms: RunTerms,
        live: LiveRun[Out] | None = None,
    ) -> PipelineResult[Out]:
        host = current_host()
        clock, bare = host.clock, terms is BARE and live is None
        if not bare:
            terms.check_homes()
        started_at, reason = clock(), ""
        lane, io_limit = io_lane(host), self._config.io_limit
        history: list[StepResult[Any]] = []
        pool, before = open_pool()
        lane.enter(io_limit)
        run = Run(host, clock, None, None, pool)
        if not bare:
            run = run_of(terms, host, pool, live, started_at)
        try:
            limiters = self._own_limiters(host) if terms.limiter is None else (terms.limiter,)
            frame = Frame(run, terms.context, "", limiters, (pool, None, None))
            if not bare and run.guard is not None:
                frame.last, frame.rules = live is not None, (run.guard,)
            if not bare and (terms.may_end_early or live is not None):
                walk = partial(self._walk, data, frame, history)
                if await walk_guarded(walk, run, terms.breach_event):
                    reason = run.why_cancelled()
                    history += stopped_steps(run, reason)
            else:
                await self._walk(data, frame, history)
        finally:
            close_pool(pool, before)
            lane.leave(io_limit)
            if run.delivery is not None:
                run.delivery.close()
        seconds = host.clock() - started_at
        result = self._result(history, frame.context, seconds, reason, pool.usage())
        if run.guard is not None and run.guard.breach:
            raise UsageLimitExceededError(f"{run.guard.breach}; see .result", result)
        return result

    def _walk(self, data: Any, frame: Frame, history: list[StepResult[Any]]) -> Awaitable[None]:
        """Run the steps one behind another, into ``history``; stop at the first that fails."""
        limits = self._config.resource_limits
        if limits.bounded:
            return watched(partial(self._walk_on, data, frame, history), limits, frame)
        return self._walk_on(data, frame, history)

    async def _walk_on(self, data: Any, frame: Frame, history: list[StepResult[Any]]) -> None:
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
        self,
        history: list[StepResult[Any]],
        context: Any,
        duration: float,
        reason: str,
        usage: Usage | None,
    ) -> PipelineResult[Out]:
        complete = len(history) == len(self._nodes) and history[-1].success
        success = complete and not reason
        if log.isEnabledFor(logging.DEBUG):
            how = "succeeded" if success else "failed"
            log.debug("%r %s in %.3g s %s", self, how, duration, reason)
        fields = {
            "name": self.name or "pipeline",
            "success": success,
            "output": history[-1].output if success else None,
            "step_history": tuple(history),
            "context": context,
            "duration": duration,
            "reason": reason,
            "usage": usage or NO_USAGE,
        }
        return made(PipelineResult, fields)

    def _own_limiters(self, host: Host) -> tuple[Limiter, ...]:
        limit = self._config.max_parallel_steps
        return () if limit is None else (host.runtime.CapacityLimiter(limit),)


def _as_its_last(history: list[StepResult[Any]], name: str, latency_s: float) -> StepResult[Any]:
    """Make the result of a nested pipeline: that of its last step, under its own name."""
    final = history[-1]
    words = final.feedback if final.success else f"step {final.name!r}: {final.feedback}"
    error = noted(final.error, f"step {title(final.name)} of pipeline {title(name)}")
    own: dict[str, Any] = {"name": name, "latency_s": latency_s, "feedback": words, "error": error}
    return attrs.evolve(final, steps=tuple(history), **own, **costs_together(history))


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
