"""What is kept of a stream, and how it is cut into lines."""

import pytest

from anabranch.lanes import _stream
from anabranch.lanes._echo import Echo
from anabranch.lanes._stream import Lines, Stream, Tail

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


def test_who_has_failed_hears_of_no_more_lines(tmp_path):
    found = []
    stream = Stream(10, tmp_path / "all", found.append)
    stream.add(b"one\n")
    stream.stop_calling()
    stream.add(b"two\n")
    stream.end()
    stream.close()
    assert found == [b"one\n"]
    assert (tmp_path / "all").read_bytes() == b"one\ntwo\n"


def test_what_a_process_prints_is_labelled_line_by_line(capsys):
    echo = Echo("stdout")
    for piece in (b"on", b"e\ntwo\nth", b"ree"):
        echo.feed(piece, "branch")
    assert capsys.readouterr().out == "[branch] one\n[branch] two\n"
    echo.end("branch")
    assert capsys.readouterr().out == "[branch] three\n"
