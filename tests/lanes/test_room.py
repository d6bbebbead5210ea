"""How many scripts may run where one was refused: as many as then run, and more by and by."""

import errno

import pytest

from anabranch import Pipeline, StartRefused, Step, SubprocessLane
from anabranch.lanes import _room, _running
from anabranch.lanes._room import ROOM, Room, is_scarce
from anabranch.lanes._start import start
from anabranch.lanes._subprocess import run_script

NO_DESCRIPTOR = OSError(errno.EMFILE, "too many open files")


class Clock:
    """Stand until it is set."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(_room, "time", found)
    return found


def test_no_more_run_than_did_when_one_was_refused(clock):
    room = Room()
    assert [room.enter() for _ in range(4)] == [True] * 4
    assert room.refused(NO_DESCRIPTOR) == 3
    assert room.limit == 3
    assert not room.enter()
    room.leave()
    assert room.enter()
    assert not room.enter()


def test_more_are_tried_once_no_start_was_refused_for_a_while(clock):
    room = Room()
    for _ in range(4):
        room.enter()
    room.refused(NO_DESCRIPTOR)
    clock.now += _room.QUIET_S
    assert not room.enter()
    clock.now += 0.01
    assert room.enter()
    assert not room.enter()


def test_one_that_is_refused_while_nothing_runs_may_be_tried_again(clock):
    room = Room()
    room.enter()
    assert room.refused(NO_DESCRIPTOR) == 0
    assert room.limit == 1
    assert room.enter()
    assert not room.enter()


def test_the_end_of_the_last_one_ends_the_scarcity(clock):
    room = Room()
    room.enter()
    room.enter()
    room.refused(NO_DESCRIPTOR)
    room.leave()
    assert room.limit is None
    assert [room.enter() for _ in range(5)] == [True] * 5


@pytest.mark.parametrize(
    ("error", "scarce"),
    [
        (NO_DESCRIPTOR, True),
        (OSError(errno.ENOENT, "no such file"), False),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("anything else"), False),
    ],
)
def test_a_lack_that_may_end_is_told_from_a_wrong_wish(error, scarce):
    assert is_scarce(error) is scarce


@pytest.mark.real_clock
async def test_a_script_that_is_not_there_gives_its_place_back():
    for _ in range(3):
        assert (await run_script(["no-such-program-anywhere"])).kind == "not_found"
    assert ROOM.running == 0
    assert (await run_script(["true"])).success
    assert ROOM.running == 0


@pytest.fixture
def refuses(monkeypatch):
    """Refuse the second start, as a system does that has no descriptor left."""
    starts = []

    def started(script):
        starts.append(script)
        if len(starts) == 2:
            raise NO_DESCRIPTOR
        return start(script)

    monkeypatch.setattr(_running, "start", started)


@pytest.mark.real_clock
@pytest.mark.slow
async def test_an_observer_hears_of_a_start_that_the_system_refused(refuses):
    events = []
    lane = SubprocessLane()
    branches = {key: Step(key, lambda _: ["sleep", "0.2"], lane=lane) for key in ("a", "b")}
    pipeline = Pipeline([Step.parallel("scripts", branches)])
    result = await pipeline.run(None, observer=events.append)
    assert result.success
    (refused,) = [event for event in events if isinstance(event, StartRefused)]
    assert refused.step == "scripts"
    assert refused.key in ("a", "b")
    assert (refused.reason, refused.running) == ("[Errno 24] too many open files", 1)
    assert ROOM.why == ""


@pytest.mark.real_clock
@pytest.mark.slow
async def test_whoever_has_no_observer_waits_all_the_same(refuses):
    lane = SubprocessLane()
    step = Step.map_over("sleeps", Step("sleep", lambda _: ["sleep", "0.1"], lane=lane))
    assert (await Pipeline([step]).run(range(2))).success
    assert [(await run_script(["true"])).success for _ in range(2)] == [True, True]
