"""Run Python scripts, a bounded number at once, and tell how each ended: nothing raises.

Each is a branch of a scheduler, whose limiter all calls of one executor share.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, Literal, Self

from anabranch._branch import branch_of
from anabranch._host import current_host
from anabranch._options import exact
from anabranch._recording import check_recorder
from anabranch._retry import Retry
from anabranch._scheduler import Scheduler
from anabranch._work import Job, Outcome, check_limit, check_retry, check_seconds
from anabranch.abc import Recorder
from anabranch.errors import ConfigurationError, ScriptFailedError
from anabranch.executor._binding import Binding, Call
from anabranch.executor._following import Scripts, following
from anabranch.executor._modules import Module, modules_of, result_from, result_of
from anabranch.executor._past import Keeper, Result, done, recorder_for
from anabranch.executor._resources import ResourceManager, admitted, in_thread
from anabranch.executor._wrapper import SubprocessWrapper
from anabranch.lanes._script import Finished

Once = Callable[[], Awaitable[Finished]]
Runs = Callable[[Once], Awaitable[Finished]]


class ConcurrentExecutor:
    """Run Python scripts as child processes, at most ``max_concurrent`` of them at once.

    It belongs to the loop that uses it first, until that loop has ended.

    Args:
        max_concurrent: how many run at once, of all calls together.
        resource_manager: asked before each script starts; None for no such check.
        on_pressure: what happens where it says no: ``reject`` the script, or ``wait``.
        timeout: seconds that a script may run, for calls that give none; and that it waits for
            room at most while no other script of this executor runs, whose end would make some.
        retry: a Retry: when a script that failed runs again; an error that its ``on=`` is asked
            about is a ScriptFailedError, whose ``finished.kind`` says how it failed.
        journal: a recorder that each outcome is handed to before it is returned. An open Journal
            is taken up as well: a module that it holds as done under its id, in whatever run or
            call that was, is not run again; its result is returned from there, without stdout and
            stderr, which no journal keeps (``truncated`` says that there was some). Done is a
            script that ran to an end, failures included; one that was cancelled or never began
            is not.
        resume_failed: modules that the journal holds as failed run again.

    Raises:
        ConfigurationError: a value that cannot be meant; from a call, before anything starts, a
            journal that holds another command under the id of a module.
    """

    @exact("ConcurrentExecutor")
    def __init__(
        self,
        max_concurrent: int = 10,
        resource_manager: ResourceManager | None = None,
        *,
        on_pressure: Literal["reject", "wait"] = "reject",
        timeout: float | None = None,
        retry: Retry | None = None,
        journal: Recorder | None = None,
        resume_failed: bool = False,
    ) -> None:
        where = "ConcurrentExecutor"
        check_limit(where, "max_concurrent", max_concurrent)
        check_seconds(where, "timeout", timeout)
        check_retry(where, retry)
        check_recorder(where, journal, "stop")
        _check_resume(journal, resume_failed)
        _check_manager(resource_manager)
        if on_pressure not in ("reject", "wait"):
            raise ConfigurationError(
                f"{where}: on_pressure={on_pressure!r} is neither 'reject' nor 'wait'; give one"
            )
        if on_pressure == "wait" and resource_manager is None:
            resource_manager = ResourceManager(memory_required_gb=0)
        self.max_concurrent = max_concurrent
        self.resource_manager = resource_manager
        self._sampler = None if resource_manager is None else resource_manager.own_sampler
        self._waits = on_pressure == "wait"
        self._timeout = timeout
        self._retry = retry
        self._journal = journal
        self._keeper: Keeper | None = journal if isinstance(journal, Keeper) else None
        self._resume_failed = resume_failed
        self._wrapper = SubprocessWrapper()
        self._running = 0
        self._binding = Binding(where)

    async def __aenter__(self) -> Self:
        self._binding.host()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.cleanup()
        await self._binding.all_ended()

    @exact("execute_module", awaits=True)
    async def execute_module(
        self,
        module_id: str,
        script_path: str | os.PathLike[str],
        args: Sequence[str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Run one script by this interpreter; return how it ended.

        The keys: module_id, exit_code (-N for signal N, -1 where there is none), success, error
        (None exactly on success), stdout and stderr (their ends), truncated (that is not all),
        duration_s, and kind: exit, signal, timeout, resources, not_found, spawn, cancelled.
        """
        check_seconds("execute_module", "timeout", timeout)
        return (await self._run([Module(module_id, script_path, args, cwd, timeout)]))[0]

    async def execute_batch(self, modules: Iterable[tuple[Any, ...]]) -> list[Result]:
        """Run tuples ``(module_id, script_path, args)``, with ``cwd`` and ``timeout`` if wanted.

        Returns:
            what ``execute_module`` does of each, in the order of ``modules``.
        """
        return await self._run(modules_of(modules))

    def cleanup(self) -> None:
        """End what runs, with all that it has started; the executor may be used again."""
        self._binding.cancel("cleanup()")

    async def _run(self, modules: list[Module]) -> list[Result]:
        named = _named(modules)
        with self._binding.call() as call:
            results = await call.guarded(partial(self._done, named))
            if results is None:  # cleanup() came while the journal was read
                results = {key: _cancelled(module) for key, module in named.items()}
            left = {key: module for key, module in named.items() if key not in results}
            if left:
                results |= await self._run_all(left, call)
        return [results[key] for key in named]

    async def _done(self, named: Mapping[str, Module]) -> dict[str, Result]:
        """Return the results of the modules that the journal holds as done."""
        if self._keeper is None:
            return {}
        failed_again = self._resume_failed
        return await in_thread(partial(done, self._keeper, named, failed_again=failed_again))

    async def _run_all(self, named: Mapping[str, Module], call: Call) -> dict[str, Result]:
        def result(outcome: Outcome) -> Result:
            module = named[outcome.key]
            return result_of(module, outcome, self._timeout_of(module))

        limiters = [self._binding.limiter(self.max_concurrent)]
        run: Runs = _plainly
        moved: AbstractAsyncContextManager[None] = nullcontext()
        if self._waits and len(named) > 1:
            batch = Scripts(len(named), self.max_concurrent)
            limiters.append(batch.limiter)
            run, moved = batch.run, following(batch, self._sampler)
        recorder = recorder_for(self._journal, named, result)
        # Nobody reads outcomes one by one: a task that did would be woken for each script.
        scheduler = Scheduler(limiters, recorder=recorder, reads=False)
        now = current_host().clock()
        branches = []
        for key, module in named.items():
            fn = partial(run, partial(self._module, module))
            branches.append(branch_of(Job(key, fn, retry=self._retry), now, None))
        call.ends_by(partial(scheduler.cancel, _all))
        async with moved:
            await scheduler.run_all(branches)
        return {branch.key: result(branch.outcome(0)) for branch in branches}

    async def _module(self, module: Module) -> Finished:
        """Run a script, and raise unless it succeeded: so the scheduler knows what to do."""
        try:
            script = module.script()
        except OSError as error:
            raise _failed(Finished(kind="not_found", error=str(error))) from None
        except ConfigurationError as error:
            raise _failed(Finished(kind="spawn", error=str(error))) from None
        timeout = self._timeout_of(module)
        ended: Callable[[], object] = bool
        if self.resource_manager is not None:
            reason, ended = await admitted(
                self.resource_manager,
                waits=self._waits,
                patience=timeout,
                busy=lambda: self._running > 0,
            )
            if reason is not None:
                error_words = f"Insufficient system resources: {reason}"
                raise _failed(Finished(kind="resources", error=error_words))
        self._running += 1
        try:
            finished = await self._wrapper.run_script(script, timeout)
        finally:
            self._running -= 1
            ended()
        if not finished.success:
            raise _failed(finished)
        return finished

    def _timeout_of(self, module: Module) -> float | None:
        return self._timeout if module.timeout is None else module.timeout


def _failed(finished: Finished) -> ScriptFailedError:
    return ScriptFailedError(str(finished.error), finished)


async def _plainly(once: Once) -> Finished:
    return await once()


def _cancelled(module: Module) -> Result:
    return result_from(module, Finished(kind="cancelled", error="cancelled: cleanup()"), None)


def _all(_: str) -> bool:
    return True


def _named(modules: Sequence[Module]) -> dict[str, Module]:
    """Give each module a name of its own, its id; one whose id is taken is numbered."""
    named: dict[str, Module] = {}
    numbers: Counter[str] = Counter()
    for module in modules:
        name = key = str(module.module_id) or "module"
        while key in named:
            numbers[name] += 1
            key = f"{name}#{numbers[name] + 1}"
        named[key] = module
    return named


def _check_resume(journal: object, resume_failed: object) -> None:
    if not isinstance(resume_failed, bool):
        raise ConfigurationError(
            f"ConcurrentExecutor: resume_failed={resume_failed!r:.80} is neither True nor False"
        )
    if resume_failed and not isinstance(journal, Keeper):
        raise ConfigurationError(
            "ConcurrentExecutor: resume_failed=True without a journal that can be taken up; "
            "give journal=, an open Journal"
        )


def _check_manager(manager: object) -> None:
    if manager is not None and not isinstance(manager, ResourceManager):
        raise ConfigurationError(
            f"ConcurrentExecutor: resource_manager={manager!r:.80} ({type(manager).__name__}) "
            f"is no ResourceManager; give ResourceManager(), or None for no check"
        )
