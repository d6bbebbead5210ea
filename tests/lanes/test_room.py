"""How many scripts may run where one was refused: as many as then run, and more by and by."""

import errno

import pytest

from anabranch.lanes import _room
from anabranch.lanes._room import ROOM, Room, is_scarce
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
