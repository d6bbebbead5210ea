"""Run the one loop behind a pool, in a thread of its own: started when it is first needed.

It is needed for async functions, for deadlines, and for the waits between attempts; plain
functions go from hand to hand without it.
"""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

import anyio

from anabranch._attempt import step_in
from anabranch._runtime import Runtime, current
from anabranch.errors import LaneError
from anabranch.workerpool._awaits import calling
from anabranch.workerpool._clock import monotonic
from anabranch.workerpool._task import FAILED, RETRYING, RUNNING, Task
from anabranch.workerpool._ways import abandon, finish, run_out, settle, strike

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board


class Silent:
    """Hear nothing of how a call goes on."""

    listens = False
    slept = False

    def suspended(self, trap: Any) -> None:
        """Do nothing: no hand is to be started for it."""

    def interrupted(self) -> None:
        """Do nothing: the scope of the call knows."""

    def recorded(self, error: BaseException) -> bool:
        """Let every error go on."""
        return False


SILENT = Silent()


class Engine:
    """Own the loop of one pool; what has no underscore is called with the board's lock held."""

    def __init__(self, board: Board, loop: str, name: str) -> None:
        self.alarm = math.inf  # when it looks again, unasked
        self.ident: int | None = None  # of its thread
        self.thread: threading.Thread | None = None
        self.broken: list[threading.Thread] = []  # whose loops broke down, while they end
        self._board = board
        self._loop = loop
        self._name = f"{name}-loop"
        self._spawned: list[Task] = []
        self._called: set[Task] = set()  # what the loop runs now
        # When; its number; how many attempts it had then; the task; whether it is due or struck.
        self._moments: list[tuple[float, int, int, bool, Task]] = []
        self._wanted = False
        self._token: Any = None
        self._runtime: Runtime
        self._event: Any = None

    def spawn(self, task: Task) -> None:
        """Have a task called in the loop; it holds a token already."""
        task.thread_name = self._name
        self._spawned.append(task)
        self.poke()

    def queue_at(self, moment: float, task: Task) -> None:
        """Put a task in line again at ``moment``."""
        heappush(self._moments, (moment, task.number, task.attempts, True, task))
        self.ring_by(moment)

    def strike_at(self, moment: float, task: Task) -> None:
        """End a task that has not begun its next attempt at ``moment``."""
        heappush(self._moments, (moment, task.number, task.attempts, False, task))
        self.ring_by(moment)

    def ring_by(self, moment: float) -> None:
        """Look at ``moment`` at the latest for what is due."""
        if moment < self.alarm:
            self.alarm = moment
            self.poke()

    def poke(self) -> None:
        """Have the loop look now; start it if it never ran and anything is to be done."""
        if self._token is not None:
            with suppress(RuntimeError):  # it has just broken down, and ``_broken`` will look
                self._token.run_sync_soon(self._look)
        elif not self._wanted and not self._board.is_over():
            self._wanted = True
            self._board.starts.append(self)

    def take_waiting(self) -> set[Task]:
        """Forget all tasks that wait for another attempt, and return them."""
        found = {each[4] for each in self._moments if _holds(each)}
        self._moments = []
        return found

    def start(self) -> None:
        """Start the thread; without the lock.

        Raises:
            RuntimeError: the system gives no thread, or the interpreter ends.
        """
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def not_started(self, error: RuntimeError) -> None:
        """End what only the loop could have gone on with; without the lock.

        It is started again when something new needs it.
        """
        board = self._board
        with board.lock:
            self._wanted, self.alarm = False, math.inf
            tasks, self._spawned = self._spawned, []
            for task in tasks:
                board.end(task, FAILED, error=error)
                board.give_back()
            waiting = {each[4] for each in self._moments if each[3] and _holds(each)}
            self._moments = [each for each in self._moments if each[4] not in waiting]
            heapify(self._moments)
            for task in sorted(waiting, key=lambda task: task.number):
                if task.error is not None:
                    task.error.add_note(f"it is not tried again: no thread could wait ({error})")
                board.end(task, FAILED, error=task.error)
        settle(board, [*tasks, *waiting])

    def _run(self) -> None:
        self.ident, self.thread = threading.get_ident(), threading.current_thread()
        try:
            anyio.run(self._serve, backend=self._loop)
        finally:
            if self._token is not None:
                self._broken()

    def _broken(self) -> None:
        """Go on in another loop after this one broke down, as a task can make it do."""
        board = self._board
        with board.lock:
            self._token, self._wanted, self.alarm = None, False, math.inf
            alive = [thread for thread in self.broken if thread.is_alive()]
            self.broken = [*alive, threading.current_thread()]
            tasks = [task for task in self._called if task.status is RUNNING]
            self._called = set()
            for task in tasks:
                error = LaneError(
                    f"the pool's loop broke down in task {task.name!r}; most likely it has left a "
                    f"cancel scope open: leave it in the task that has entered it"
                )
                board.end(task, FAILED, error=error)
                if task.lends:
                    continue
                board.give_back()
            self.poke()
        settle(board, tasks)
        board.launch()

    def _look(self) -> None:
        self._event.set()

    async def _serve(self) -> None:
        """Run tasks and look for what is due, until the pool is over."""
        board = self._board
        self._runtime = runtime = current()
        clock = runtime.lowlevel.current_clock().current_time
        self._event = runtime.Event()
        with board.lock:
            self._token = runtime.lowlevel.current_trio_token()
        async with runtime.open_nursery() as nursery:
            while True:
                self._event = runtime.Event()
                with board.lock:
                    ended = self._ring()
                    spawned, self._spawned = self._spawned, []
                    delay = self.alarm - monotonic()
                    if board.is_over():
                        self._token = None
                        break
                board.launch()
                settle(board, ended)
                for task in spawned:
                    nursery.start_soon(self._call, task)
                with runtime.CancelScope(deadline=clock() + delay):
                    await self._event.wait()
        settle(board, ended)

    def _ring(self) -> list[Task]:
        """Do what is due; return the tasks that it has ended. With the lock."""
        board, moments, now = self._board, self._moments, monotonic()
        ended: list[Task] = []
        while moments and (moments[0][0] <= now or not _holds(moments[0])):
            entry = heappop(moments)
            if not _holds(entry):
                continue
            task = entry[4]
            if entry[3]:
                board.queue(task)
            else:
                strike(board, task)
                ended.append(task)
        alarm = moments[0][0] if moments else math.inf
        for hand in board.hands:
            running = hand.task
            if running is None or running.deadline is None or running.status is not RUNNING:
                continue
            if running.deadline <= now:
                abandon(board, hand, running)
                ended.append(running)
            else:
                alarm = min(alarm, running.deadline)
        self.alarm = alarm
        return ended

    async def _call(self, task: Task) -> None:
        """Make one attempt of a task in the loop."""
        board, runtime = self._board, self._runtime
        self._called.add(task)
        if task.future is not None and task.attempts == 1 and task.coroutine is None:
            task.future.set_running_or_notify_cancel()
        value: Any = None
        error: BaseException | None = None
        context = task.context
        context.run(calling.set, (board, task))
        delay = math.inf if task.deadline is None else task.deadline - monotonic()
        clock = runtime.lowlevel.current_clock().current_time
        with runtime.CancelScope(deadline=clock() + delay) as scope:
            try:
                coroutine, task.coroutine = task.coroutine, None
                if coroutine is None:
                    coroutine = context.run(task.fn, *task.args, **task.kwargs)
                value = await step_in(context, coroutine, SILENT)
            except runtime.Cancelled as raised:
                if scope.cancel_called:
                    raise
                error = raised  # its own affair
            except BaseException as raised:
                error = raised
        try:
            if scope.cancelled_caught or (scope.cancel_called and error is not None):
                run_out(board, task, error)
                ended = True
            else:
                ended = finish(board, task, value, error)
            if ended:
                settle(board, [task])
        finally:
            error = None  # its traceback leads back to this frame: a ring
            with board.lock:
                self._called.discard(task)
                if not task.lends:
                    board.give_back()
                task.lends = False
            board.launch()


def _holds(entry: tuple[float, int, int, bool, Task]) -> bool:
    """Tell whether the task of an entry has neither ended nor begun again since."""
    return entry[4].status is RETRYING and entry[4].attempts == entry[2]
