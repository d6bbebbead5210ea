"""Carry how a nested step ended to the branch that it was."""

from __future__ import annotations

from typing import Any

from anabranch._branch import Branch
from anabranch._work import Status
from anabranch.errors import StepFailedError
from anabranch.pipeline._result import StepResult


class NestedStepError(StepFailedError):
    """Carry the result of a nested step that failed up to the branch that it was."""

    def __init__(self, result: StepResult[Any]) -> None:
        super().__init__(f"step {result.name!r}: {result.feedback}")
        self.result = result


def was_stopped_inside(branch: Branch) -> bool:
    """Tell whether all that is nested in ``branch`` was stopped by the user's wish."""
    error = branch.error
    if not isinstance(error, NestedStepError) or error.result.reason.startswith("breach"):
        return False
    return error.result.status is Status.CANCELLED
