"""What is printed when: each job's output as a whole, in the order of input where that is asked."""

import io
import sys

import pytest

from anabranch.cli._exec_job import Piece
from anabranch.cli._exec_output import Printer
from anabranch.cli._exec_template import Command
from anabranch.cli._exec_terms import Terms


def piece(place, output=b""):
    found = Piece(place + 1, place, (f"arg{place}",), Command(("true",), "true"))
    if output:
        found.output("stdout", output)
    return found


def printer_of(**options):
    return Printer(Terms(jobs=None, **options), io.StringIO())


def test_in_order_a_job_is_printed_as_soon_as_those_before_it_are():
    printer = printer_of(keep_order=True)
    pieces = [piece(place) for place in range(4)]
    assert printer.ready(1, pieces[1]) == []
    assert printer.ready(0, pieces[0]) == pieces[:2]
    assert printer.ready(3, pieces[3]) == []
    assert printer.ready(2, None) == [pieces[3]]
    assert printer.rest() == []


def test_what_waits_behind_a_job_that_never_ended_is_printed_at_last_in_order():
    printer = printer_of(keep_order=True)
    pieces = {place: piece(place) for place in (3, 1, 2)}
    for place, each in pieces.items():
        assert printer.ready(place, each) == []
    assert printer.rest() == [pieces[1], pieces[2], pieces[3]]
    assert printer.rest() == []


def test_without_an_order_a_job_is_printed_when_it_has_ended():
    printer = printer_of()
    last = piece(7)
    assert printer.ready(7, last) == [last]
    assert printer.ready(2, None) == []


@pytest.mark.parametrize(
    ("first", "second", "printed"),
    [(b"a\n", b"b\n", b"a\nb\n"), (b"a", b"b\n", b"a\nb\n"), (b"a", b"b", b"a\nb")],
)
def test_a_line_that_a_job_left_open_is_ended_before_the_next(
    first, second, printed, capfdbinary, monkeypatch
):
    target = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", target)
    printer_of().print([piece(0, first), piece(1, second)])
    assert target.buffer.getvalue() == printed
