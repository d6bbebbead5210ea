"""Say what an engine of puppets must do: a dict of jobs, a limit, the sum of charges.

The loop's freedom is in the order of events, so the model draws none of its own: puppets note
what befalls them (`Note`), the model replays that, and asserts that each event was allowed at its
place and that nothing is missing once the loop has settled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import attrs

from anabranch._work import Status

EVENT_WAS_SET = "breach: the breach_event was set"


@attrs.frozen
class Note:
    """Tell what befell a puppet, when, and whether a breach was there by then."""

    at: float
    kind: str  # each has a method of the model: pulled, began, charged, returned, ...
    key: str
    detail: Any = None
    breached: bool = False


@attrs.define(eq=False)
class Puppet:
    """Keep what the model knows of one job."""

    key: str
    number: int
    accepted_at: float
    priority: int = 0
    tries: int = 1
    wait: float = 0.0
    late_at: float = math.inf
    state: str = "queued"  # then running, waits (for its next attempt), ended
    due: float = math.inf
    turn: int = 0  # among those that are due at one moment
    begun: int = 0
    began_at: float | None = None
    reason: str = ""  # why it was cancelled while it ran
    errors: list[Exception] = attrs.field(factory=list)
    spent: Fraction = Fraction(0)

    @property
    def rank(self) -> tuple[int, bool, int]:
        return -self.priority, not self.begun, self.number


@attrs.frozen
class Expected:
    """Say how an outcome must read."""

    key: str
    status: Status
    reason: str
    value: Any
    errors: tuple[Exception, ...]
    attempts: int
    queued_s: float
    ran_s: float


@attrs.define(eq=False)
class Model:
    """Keep one life of an engine, from its opening to its end."""

    limit: int
    budget: Fraction | None = None
    jobs: dict[str, Puppet] = attrs.field(factory=dict)
    ended: list[Expected] = attrs.field(factory=list)
    spent: Fraction = Fraction(0)
    breach: str = ""
    event_set: bool = False
    open_ended: bool = False  # there may be more jobs to come
    put_back: int = 0
    dropped: str = ""  # what was pulled too late
    stopping: str = ""  # everything is being cancelled from outside, and for this reason
    closed: bool = False  # and nothing begins any more

    # What is there -----------------------------------------------------------------------------

    def in_state(self, state: str) -> list[Puppet]:
        found = [job for job in self.jobs.values() if job.state == state]
        if state == "waits":
            return sorted(found, key=lambda job: (job.due, job.turn))
        return sorted(found, key=lambda job: job.rank)

    @property
    def is_over(self) -> bool:
        return all(job.state == "ended" for job in self.jobs.values())

    # What is done to it, between two moments ---------------------------------------------------

    def accept(self, key: str, at: float, **terms: Any) -> Puppet:
        assert key not in self.jobs, f"{key} is accepted twice"
        self.jobs[key] = job = Puppet(key, len(self.jobs), at, **terms)
        return job

    def cancel(self, chosen: Callable[[str], bool], reason: str, now: float) -> int:
        """Cancel jobs; return how many the engine must say that it cancelled."""
        count = 0
        for job in [*self.in_state("queued"), *self.in_state("waits")]:
            if chosen(job.key):
                self._end(job, Status.CANCELLED, now, reason)
                count += 1
        for job in self.in_state("running"):
            if chosen(job.key) and not job.reason:
                job.reason = reason
                count += 1
        return count

    # What befell the puppets -------------------------------------------------------------------

    def replay(self, notes: Iterable[Note], acted_at: float, now: float) -> None:
        """Take in what happened from the acts until ``now``, when the loop has settled."""
        for note in notes:
            self._pass_time(note.at)
            if note.breached and self.event_set:
                self._break_off(EVENT_WAS_SET, note.at)
            assert note.kind == "charged" or note.breached == bool(self.breach), note
            getattr(self, f"_{note.kind}")(note)
        if self.event_set and (self.open_ended or not self.is_over):
            self._break_off(EVENT_WAS_SET, acted_at)
        self._pass_time(now)

    def end_all(self, reason: str, now: float) -> None:
        """End what has not begun: the engine was stopped from outside."""
        for state in ("queued", "waits"):
            for job in self.in_state(state):
                self._end(job, Status.CANCELLED, now, reason)

    def check_settled(self) -> None:
        """See that nothing waits for what is there, and nobody goes on who was stopped."""
        running, queued = self.in_state("running"), self.in_state("queued")
        unstopped = [job.key for job in running if job.reason or self.breach or self.stopping]
        assert not unstopped, f"{unstopped} were stopped, and run on"
        idle = [job.key for job in queued if len(running) < self.limit]
        assert not idle, f"{len(running)} of {self.limit} run, and {idle} wait"

    def _pass_time(self, now: float) -> None:
        """Let what is due happen: the next attempts first, as they may be late themselves."""
        while due := [job for job in self.in_state("waits") if job.due <= now]:
            self._put_back(due[0])
        late = [job for job in self.in_state("queued") if job.late_at <= now and not job.begun]
        for job in sorted(late, key=lambda job: (job.late_at, job.number)):
            seconds = job.late_at - job.accepted_at
            reason = f"deadline: {seconds:g} s (queue_timeout=)"
            self._end(job, Status.REJECTED, job.late_at, reason)

    def _pulled(self, note: Note) -> None:
        if self.breach:  # it was on its way, and is dropped
            assert not self.dropped, f"{note.key} is pulled, and so was {self.dropped}"
            self.dropped = note.key
        else:
            self.accept(note.key, note.at, **note.detail)

    def _began(self, note: Note) -> None:
        job = self.jobs[note.key]
        assert job.state == "queued", f"{job} begins"
        over = self.breach or (self.closed and self.stopping)
        assert not over, f"{job.key} begins after {over}"
        first = self.in_state("queued")[0]
        assert job is first, f"{job.key} begins before {first.key}"
        running = self.in_state("running")
        assert len(running) < self.limit, f"{job.key} begins, and {len(running)} of {self.limit} do"
        job.state, job.begun = "running", job.begun + 1
        job.began_at = note.at if job.began_at is None else job.began_at

    def _outer(self, note: Note) -> None:
        self.stopping = "outer"

    def _block_cancelled(self, _: Note) -> None:
        self.closed = True

    def _block_raised(self, note: Note) -> None:
        self.stopping, self.closed = note.detail, True
        self.end_all(self.stopping, note.at)

    def _charged(self, note: Note) -> None:
        self._pay(self.jobs[note.key], note.detail, note.at)
        assert note.breached == bool(self.breach), f"{note}, and {self.spent} of {self.budget}"

    def _returned(self, note: Note) -> None:
        job = self._running(note)
        self._end(job, Status.SUCCEEDED, note.at, value=note.detail)
        if note.detail.cost_usd is not None:
            self._pay(job, note.detail.cost_usd, note.at)

    def _raised(self, note: Note) -> None:
        job = self._running(note)
        job.errors.append(note.detail)
        reason = job.reason or self.breach or (self.closed and self.stopping)
        if reason:
            self._end(job, Status.CANCELLED, note.at, reason)
        elif job.begun == job.tries or self.stopping:  # a scope around it says nothing of itself
            self._end(job, Status.FAILED, note.at)
        elif job.wait:
            self.put_back += 1
            job.turn = self.put_back
            job.state, job.due = "waits", note.at + job.wait * 2 ** (job.begun - 1)
        else:
            self._put_back(job)

    def _put_back(self, job: Puppet) -> None:
        """Queue a job for its next attempt: ahead of what has not begun, behind what has."""
        self.put_back += 1
        job.state, job.due, job.number = "queued", math.inf, self.put_back

    def _stopped(self, note: Note) -> None:
        job = self._running(note)
        reason = job.reason or self.breach or self.stopping
        assert reason, f"{note}: nobody has stopped it"
        self._end(job, Status.CANCELLED, note.at, reason)

    def _running(self, note: Note) -> Puppet:
        job = self.jobs[note.key]
        assert job.state == "running", f"{note}, and it is {job.state}"
        return job

    def _pay(self, job: Puppet, amount: Any, now: float) -> None:
        job.spent += Fraction(amount)
        self.spent += Fraction(amount)
        if self.budget is not None and self.spent > self.budget:
            spent, budget = (f"{float(each):.12g}" for each in (self.spent, self.budget))
            self._break_off(f"breach: spent {spent} of {budget} usd", now)

    def _break_off(self, reason: str, now: float) -> None:
        if not self.breach:
            self.breach = reason
            self.end_all(reason, now)

    def _end(
        self, job: Puppet, status: Status, now: float, reason: str = "", value: Any = None
    ) -> None:
        job.state, job.due = "ended", math.inf
        began = job.began_at
        until = now if began is None else began
        expected = Expected(
            key=job.key,
            status=status,
            reason=reason,
            value=value,
            errors=tuple(job.errors),
            attempts=job.begun,
            queued_s=until - job.accepted_at,
            ran_s=0.0 if began is None else now - began,
        )
        self.ended.append(expected)


def check_outcome(outcome: Any, expected: Expected) -> None:
    """Compare an Outcome with what it must be, its times included."""
    errors = [*outcome.attempt_errors, *([outcome.error] if outcome.error is not None else ())]
    seen = Expected(
        key=outcome.key,
        status=outcome.status,
        reason=outcome.reason,
        value=outcome.value,
        errors=tuple(errors),
        attempts=outcome.attempts,
        queued_s=outcome.queued_s,
        ran_s=outcome.ran_s,
    )
    if expected.status is Status.SUCCEEDED:  # what it raised before is told all the same
        assert outcome.error is None, outcome
    assert seen == expected, f"{seen}\nshould be\n{expected}"
