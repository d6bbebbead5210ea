"""What is kept of a stream, and how it is cut into lines."""

import fcntl
import os
import tempfile
import threading
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anabranch.lanes import _stream
from anabranch.lanes._echo import Echo
from anabranch.lanes._stream import MUCH, PIECE, Lines, Stream, Tail


class Pipe:
    """Carry bytes to a stream."""

    def __init__(self):
        self.reads, self.writes = os.pipe()

    def passes(self, data, stream):
        """Write, and have the stream read all of it."""
        assert os.write(self.writes, data) == len(data)
        left = len(data)
        while left:
            left -= stream.read(self.reads)

    def close(self):
        os.close(self.reads)
        os.close(self.writes)


@pytest.fixture
def pipe():
    with closing(Pipe()) as found:
        yield found


ALL = b"abcdefgh"
CUTS = [(0, b"", True), (3, b"fgh", True), (7, ALL[1:], True), (8, ALL, False), (9, ALL, False)]


@pytest.mark.parametrize("chunks", [[ALL], [b"abc", b"defgh"], [bytes([c]) for c in ALL]])
@pytest.mark.parametrize(("cap", "kept", "cut"), CUTS)
def test_the_end_is_kept_and_what_just_fits_is_not_cut(chunks, cap, kept, cut):
    tail = Tail(cap)
    for chunk in chunks:
        tail.add(chunk)
    assert (tail.get(), tail.cut) == (kept, cut)


def test_a_long_stream_takes_no_more_memory_than_twice_the_cap():
    tail = Tail(10)
    for _ in range(1000):
        tail.add(b"abc")
        assert len(tail._kept) <= 20
    assert tail.get() == b"cabcabcabc"


@pytest.mark.parametrize(
    "chunks", [[b"one\ntwo\n\nthree"], [b"o", b"ne\ntw", b"o\n", b"\nth", b"ree"]]
)
def test_lines_are_whole_whatever_comes_at_once_and_the_last_may_be_open(chunks):
    found = []
    lines = Lines(found.append)
    for chunk in chunks:
        lines.add(chunk)
    assert found == [b"one\n", b"two\n", b"\n"]
    lines.end()
    lines.end()
    assert found == [b"one\n", b"two\n", b"\n", b"three"]


def test_a_line_without_an_end_is_handed_on_in_pieces(monkeypatch):
    monkeypatch.setattr(_stream, "LONGEST_LINE", 4)
    found = []
    lines = Lines(found.append)
    for _ in range(4):
        lines.add(b"ab")
    assert found == [b"abab", b"abab"]


def test_who_has_failed_hears_of_no_more_lines(tmp_path, pipe):
    found = []
    stream = Stream(10, tmp_path / "all", found.append)
    pipe.passes(b"one\n", stream)
    stream.stop_calling()
    pipe.passes(b"two\n", stream)
    stream.end()
    stream.close()
    assert found == [b"one\n"]
    assert (tmp_path / "all").read_bytes() == b"one\ntwo\n"


@pytest.mark.slow
@given(
    cap=st.integers(0, 40),
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=12),
    piece=st.integers(1, 12),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_is_whole_in_its_file_its_lines_and_its_end_however_it_comes(
    pipe, monkeypatch, cap, chunks, piece
):
    monkeypatch.setattr(_stream, "PIECE", piece)
    monkeypatch.setattr(_stream, "MUCH", 32)
    found = []
    with tempfile.NamedTemporaryFile() as file:
        stream = Stream(cap, file.name, found.append)
        for chunk in chunks:
            pipe.passes(chunk, stream)
        stream.end()
        stream.close()
        came = b"".join(chunks)
        assert file.read() == b"".join(found) == came
    assert stream.kept() == (came[-cap:] if cap else b"")
    assert stream.cut is (len(came) > cap)


def test_a_stream_that_fills_its_pipe_gets_a_larger_one_and_few_do_at_once(pipe, monkeypatch):
    if not hasattr(fcntl, "F_GETPIPE_SZ"):
        pytest.skip("this system has pipes of one size")
    monkeypatch.setattr(_stream, "LARGE_PIPES", threading.BoundedSemaphore(1))
    first, second = Stream(10, None, None), Stream(10, None, None)
    sizes = []
    for stream in (first, second):
        with closing(Pipe()) as each:
            each.passes(b"x" * 10, stream)
            assert fcntl.fcntl(each.reads, fcntl.F_GETPIPE_SZ) == PIECE
            each.passes(b"x" * PIECE, stream)
            sizes.append(fcntl.fcntl(each.reads, fcntl.F_GETPIPE_SZ))
    assert sizes == [MUCH, PIECE]
    second.close()
    first.close()
    first.close()
    assert _stream.LARGE_PIPES.acquire(blocking=False), "its place is given back"


def test_what_a_process_prints_is_labelled_line_by_line(capsys):
    echo = Echo("stdout")
    for piece in (b"on", b"e\ntwo\nth", b"ree"):
        echo.feed(piece, "branch")
    assert capsys.readouterr().out == "[branch] one\n[branch] two\n"
    echo.end("branch")
    assert capsys.readouterr().out == "[branch] three\n"
