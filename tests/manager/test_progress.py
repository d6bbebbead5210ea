"""Progress: counted from anywhere, drawn on a terminal, and nothing said in a pipe."""

import io
import sys
import threading

import pytest

from anabranch import ConfigurationError, ProgressTracker


class Terminal(io.StringIO):
    def isatty(self):
        return True


async def test_it_counts_in_a_loop():
    async with ProgressTracker(10, description="Processing chunks") as tracker:
        await tracker.update_async(4)
        await tracker.update_async()
    assert (tracker.done, tracker.total) == (5, 10)
    assert repr(tracker) == "<ProgressTracker 'Processing chunks': 5 of 10>"


def test_it_counts_from_many_threads():
    with ProgressTracker(8000) as tracker:
        threads = [
            threading.Thread(target=lambda: [tracker.update() for _ in range(1000)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert tracker.done == 8000
    assert tracker.elapsed_s > 0
    assert tracker.rate > 0


def test_in_a_pipe_it_says_nothing(capsys):
    with ProgressTracker(3, "work") as tracker:
        tracker.update(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [3, None])
def test_on_a_terminal_it_draws_a_bar_and_no_name_can_steer_it(monkeypatch, total):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with ProgressTracker(total, "work\x1b[2J [red]x[/red]") as tracker:
        tracker.update(3)
    drawn = terminal.getvalue()
    assert "work\\x1b[2J [red]x" in drawn
    assert "3/3" in drawn or total is None


def test_it_may_be_updated_before_and_after():
    tracker = ProgressTracker()
    tracker.update()
    with tracker:
        tracker.update()
    tracker.update(2)
    assert (tracker.done, tracker.rate >= 0) == (4, True)
    assert ProgressTracker(5).elapsed_s == 0.0


@pytest.mark.parametrize("total", [-1, True, 2.5, "9"])
def test_a_total_that_cannot_be_meant_is_refused(total):
    with pytest.raises(ConfigurationError, match="total"):
        ProgressTracker(total)


@pytest.mark.parametrize("n", [-1, True, 0.5])
def test_an_update_that_cannot_be_meant_is_refused(n):
    with pytest.raises(ConfigurationError, match="update"):
        ProgressTracker(3).update(n)
