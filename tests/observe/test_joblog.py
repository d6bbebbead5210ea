"""The log of jobs: GNU parallel's fields and units, whole lines, taken up where it ended."""

import pytest

from anabranch import ConfigurationError, Outcome
from anabranch._work import Status
from anabranch.observe._joblog import HEADER, JobLog, Logged

LINE = Logged(
    seq=7, started_at=1700000000.25, ran_s=1.5, received=12, exit_value=3, command="echo a"
)
WRITTEN = b"7\t:\t1700000000.250\t     1.500\t0\t12\t3\t0\techo a\n"


def outcome(key="7"):
    return Outcome(key=key, status=Status.SUCCEEDED)


def logged(seen):
    """Be what is logged of an outcome: its key is the number of the job."""
    return Logged(seq=int(seen.key), command=f"echo {seen.key}")


def test_a_line_has_gnu_parallels_fields_times_are_seconds():
    assert LINE.line() == WRITTEN
    assert WRITTEN.count(b"\t") == HEADER.count("\t")


def test_a_line_end_in_a_command_is_nul():
    assert Logged(seq=1, command="a\nb").line().endswith(b"\ta\0b\n")


@pytest.mark.parametrize(
    ("value", "signal", "failed"), [(0, 0, False), (1, 0, True), (-1, 0, True), (0, 9, True)]
)
def test_what_returned_0_by_itself_has_not_failed(value, signal, failed):
    assert Logged(seq=1, exit_value=value, signal=signal).failed is failed


@pytest.mark.real_clock
async def test_a_log_that_is_taken_up_keeps_its_whole_lines_and_no_half_one(tmp_path):
    path = tmp_path / "log"
    with JobLog(path, logged) as log:
        await log.record_all([outcome("1"), outcome("2")])
    whole = path.read_bytes()
    path.write_bytes(whole + WRITTEN[:-8])  # as a loss of power leaves it
    with JobLog(path, logged, resume=True) as log:
        assert [line.seq for line in log.entries()] == [1, 2]
        await log.record(outcome("3"))
        assert [line.command for line in log.entries()] == ["echo 1", "echo 2", "echo 3"]
    assert path.read_bytes().startswith(whole)
    assert path.read_bytes().endswith(b"\techo 3\n")


@pytest.mark.real_clock
async def test_a_log_that_is_not_taken_up_begins_anew(tmp_path):
    path = tmp_path / "log"
    for key in ("1", "2"):
        with JobLog(path, logged) as log:
            await log.record(outcome(key))
    assert [line.split(b"\t")[0] for line in path.read_bytes().splitlines()] == [b"Seq", b"2"]


def test_a_log_is_one_runs_at_a_time(tmp_path):
    other = JobLog(tmp_path / "log", logged, resume=True)
    with (
        JobLog(tmp_path / "log", logged),
        pytest.raises(ConfigurationError, match="held by another run"),
    ):
        other.__enter__()


def test_another_file_is_no_log_and_stays_as_it_is(tmp_path):
    path = tmp_path / "notes"
    path.write_text("my notes\n")
    with pytest.raises(ConfigurationError, match="is no joblog"):
        JobLog(path, logged, resume=True).__enter__()
    assert path.read_text() == "my notes\n"
