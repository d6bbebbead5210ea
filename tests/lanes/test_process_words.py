"""What the cpu lane says where no process can be had, one ended strangely, or an answer is odd."""

import errno
import os
import pickle

import pytest

from anabranch.errors import LaneError
from anabranch.lanes import _process
from anabranch.lanes._process import CPU_LANE
from tests.lanes import calls


@pytest.mark.real_clock
@pytest.mark.slow
async def test_where_no_process_can_be_started_the_call_fails_and_the_next_one_runs(monkeypatch):
    def refused():
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(_process, "Child", refused)
        with pytest.raises(LaneError, match=r"no process could be started for add: .*run fewer"):
            await CPU_LANE.run(calls.add, (1,), {})
    assert await CPU_LANE.run(calls.add, (1,), {}) == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "exit code 3"), (None, "exit code None"), (-9, "SIGKILL"), (-60, "signal 60")],
)
def test_how_a_process_ended_is_said_in_words(code, words):
    assert _process._ended(code) == words


def test_an_exception_that_cannot_be_unpickled_here_becomes_an_error_with_its_traceback():
    data = pickle.dumps(ValueError("from there")).replace(b"ValueError", b"ValueErrox")
    error = _process._error(data, "", "the traceback of there\n")
    assert isinstance(error, LaneError)
    assert "cannot be unpickled here" in str(error)
    assert error.__notes__ == ["in a process of lane='cpu':\nthe traceback of there"]


def test_windows_is_told_what_to_use_instead(monkeypatch):
    monkeypatch.setattr(os, "name", "nt")
    call = _process.Call(calls.add, (1,), {}, "")
    with pytest.raises(LaneError, match="needs a POSIX system"):
        _process._check_may_start(call)
