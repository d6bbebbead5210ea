"""A deadline that comes between the moment a task is taken and the moment it is called."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch import TaskStatus, WorkerPool, WorkerPoolConfig
from anabranch.workerpool._hand import Hand
from tests.workerpool.puppets import until


def test_a_task_whose_deadline_comes_before_its_call_is_never_called(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    call, called = Hand._call, []

    def late(hand: Hand, task: Any) -> bool:
        until(lambda: task.status is not TaskStatus.RUNNING or task.name == "next")
        return call(hand, task)

    monkeypatch.setattr(Hand, "_call", late)
    with WorkerPool(WorkerPoolConfig(max_workers=1, task_timeout_seconds=0.1)) as pool:
        first = pool.submit_task("first", called.append, (1,))
        assert pool.get_task_result(pool.submit_task("next", int), timeout=5).success
        assert pool.get_task_result(first).metrics.status is TaskStatus.ABANDONED
    assert not called
    assert "raised after its end" not in caplog.text
