"""Call an async function in the pipeline's own task: nothing runs beside it."""

from __future__ import annotations

from anabranch._branch import Branch
from anabranch._runtime import own_cancel
from anabranch._work import Status
from anabranch.pipeline._node import Frame
from anabranch.pipeline._returned import charge_here


async def run_here(branch: Branch, frame: Frame) -> None:
    """Run a branch to its end; a cancellation from outside goes on."""
    host, pool = frame.run.host, frame.run.pool
    before = host.native_cancels()
    if frame.payer[1] is None:  # else the branch that it is in is charged
        pool.branch = branch
    branch.started_at = host.clock()
    try:
        branch.value = await branch.fn(*branch.args, **branch.kwargs)
        branch.status = Status.SUCCEEDED
        charge_here(branch)
    except Exception as error:
        branch.error = error
        branch.status = Status.FAILED
    except BaseException as error:
        branch.status = Status.CANCELLED
        is_cancel = isinstance(error, host.runtime.Cancelled)
        branch.reason = own_cancel(before) if is_cancel else ""
        if not branch.reason:  # from outside, so it goes on
            branch.reason = frame.why_cancelled()
            raise
    finally:
        pool.branch = None
        branch.ended_at = host.clock()
