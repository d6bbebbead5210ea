"""Run a file's pipeline as a program does: watched, interruptible, with an exit code."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, TextIO

import anyio
import attrs

from anabranch._host import current_host
from anabranch._terminal import Progress, progress_on_stderr
from anabranch._work import Status
from anabranch.cli._exits import DEADLINE, FAILED, OK, guarded
from anabranch.cli._json import line_of_event, line_of_result
from anabranch.cli._load import UserCodeError, WrongUsageError, load
from anabranch.cli._report import report_failure, say, say_warnings, text_of
from anabranch.cli._signals import Signals, kill_children
from anabranch.cli._stdout import results_only, write
from anabranch.cli._watch import Watch
from anabranch.lanes._thread import io_lane
from anabranch.pipeline import Pipeline, PipelineResult


@attrs.frozen
class Options:
    """Keep what the command line says about a run."""

    limit: int | None = None
    data: str | None = None
    loop: Literal["trio", "asyncio"] = "trio"
    json: bool = False
    timeout: float | None = None


def run_file(target: str, options: Options) -> int:
    """Run the pipeline that ``target`` means and return the exit code."""
    watch = Watch()
    with Signals() as signals:
        signals.stuck = watch.words
        work = partial(_results, target, options, signals, watch)
        code = guarded(work, struck=lambda: bool(signals.struck))
    if signals.struck:
        say(f"{signals.words()}{watch.abandoned_words()}")
        if watch.abandoned:
            kill_children()  # what those threads have started would outlive them
        return signals.exit_code()
    return code


def _results(target: str, options: Options, signals: Signals, watch: Watch) -> int:
    with results_only(options.json) as out:
        return _run(target, options, signals, watch, out)


def _run(target: str, options: Options, signals: Signals, watch: Watch, out: TextIO) -> int:
    data = read_data(options.data)
    say_warnings()
    pipeline = load(target)
    progress = None if options.json else progress_on_stderr()
    if options.json:
        watch.listeners.append(lambda event: write(out, line_of_event(event)))
    elif progress is not None:
        watch.listeners.append(progress)
    result = _result(pipeline, data, options, signals, watch, progress)
    if watch.broken is not None:
        raise watch.broken
    if result is None or signals.struck:  # a signal has the last word
        return FAILED
    if options.json:
        write(out, line_of_result(result))
    elif result.success:
        text = text_of(result.output)
        if text is not None:
            write(out, text)
    if not result.success:
        report_failure(result, watch.abandoned_words())
    return _code_of(result)


def _result(
    pipeline: Pipeline[Any, Any],
    data: Any,
    options: Options,
    signals: Signals,
    watch: Watch,
    progress: Progress | None,
) -> PipelineResult[Any] | None:
    """Run the pipeline in a loop of its own; None if it was cancelled."""
    with progress or nullcontext():
        try:
            with signals.deferred():
                work = partial(_main, pipeline, data, options, signals, watch)
                return anyio.run(work, backend=options.loop)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, ExceptionGroup):
                raise
            raise UserCodeError("a branch raised what ends a program") from error
        finally:
            watch.settle()


async def _main(
    pipeline: Pipeline[Any, Any], data: Any, options: Options, signals: Signals, watch: Watch
) -> PipelineResult[Any] | None:
    host = current_host()
    limiter = None if options.limit is None else host.runtime.CapacityLimiter(options.limit)
    scope = host.runtime.CancelScope()
    token = host.runtime.lowlevel.current_trio_token()

    def stop() -> None:
        # A worker that the signal has ended too is reaped twice, and asyncio warns of it.
        logging.getLogger("asyncio").setLevel(logging.ERROR)
        token.run_sync_soon(partial(scope.cancel, reason="stopped by a signal"))

    result = None
    with scope:
        watch.stop = stop
        signals.cancels(stop)
        try:
            result = await pipeline.run(
                data, limiter=limiter, observer=watch, timeout=options.timeout
            )
        finally:
            signals.cancels(lambda: None)
            watch.abandoned = io_lane(host).abandoned
    return result


def read_data(data: str | None) -> Any:
    """Return what ``--data`` says; None for nothing.

    Raises:
        WrongUsageError: it is no JSON.
    """
    if data is None:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WrongUsageError(
            f"--data {data:.80} is no JSON: {error}; quote it for the shell: --data '{{\"n\": 1}}'"
        ) from None


def _code_of(result: PipelineResult[Any]) -> int:
    if result.success:
        return OK
    failed = result.failed_step
    if result.reason.startswith("deadline"):
        return DEADLINE
    return DEADLINE if failed is not None and failed.status is Status.TIMED_OUT else FAILED
