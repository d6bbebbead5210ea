"""Threads that are idle for long end, and the pool has others when it needs them."""

from __future__ import annotations

import threading

import pytest

from anabranch import WorkerPool
from anabranch.workerpool import _hand
from tests.workerpool.puppets import until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hand, "IDLE_S", 0.02)


@pytest.mark.usefixtures("impatient")
def test_an_idle_thread_ends_and_the_next_task_has_another():
    before = set(threading.enumerate())
    with WorkerPool(3) as pool:
        first = pool.submit(threading.current_thread).result()
        until(lambda: set(threading.enumerate()) <= before)
        assert not pool._board.hands
        second = pool.submit(threading.current_thread).result()
        assert second is not first


@pytest.mark.usefixtures("impatient")
def test_a_thread_that_is_woken_when_its_patience_ends_does_its_task():
    with WorkerPool(2) as pool:
        leave, woken = pool._board.leave, []

        def leave_late(hand: _hand.Hand) -> bool:
            if not woken:  # a task is submitted between the end of its patience and its leaving
                woken.append(pool.submit(threading.current_thread))
            return leave(hand)

        pool._board.leave = leave_late
        idle = pool.submit(threading.current_thread).result()
        until(lambda: bool(woken))
        assert woken[0].result(10) is idle
