"""Scripts end as they should where a system lacks pidfd and waitid, as macOS or an old one does."""

import os
import signal

import pytest

from anabranch.lanes._subprocess import run_script
from tests.lanes.scripts import Marked, python, shell

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]


@pytest.fixture(params=["pidfd_open", "pidfd_open, waitid"], autouse=True)
def lacking(request, monkeypatch):
    """Take away what the system may lack; without waitid nobody is told of a stop."""
    for name in request.param.split(", "):
        monkeypatch.delattr(os, name, raising=False)


@pytest.mark.parametrize(
    ("argv", "kind", "code"),
    [
        (shell("echo said; exit 3"), "exit", 3),
        (shell("echo said; kill -9 $$"), "signal", -9),
        (python("print('said')"), "exit", 0),
    ],
)
async def test_a_script_tells_how_it_ended_and_what_it_said(argv, kind, code):
    done = await run_script(argv)
    assert (done.kind, done.exit_code, done.stdout) == (kind, code, b"said\n")


async def test_a_script_past_its_timeout_is_ended_with_all_that_it_started():
    marked = Marked()
    done = await run_script(shell(f"{marked.sleep()} & wait"), timeout=0.5)
    assert done.kind == "timeout"
    assert marked.gone()


async def test_what_it_is_fed_arrives_whole():
    fed = b"x" * 300_000
    done = await run_script(["wc", "-c"], stdin=fed)
    assert done.stdout.split() == [b"300000"]


async def test_one_that_somebody_else_has_waited_for_is_no_success():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system waits for every child
    try:
        done = await run_script(shell("echo said; sleep 0.1"))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert (done.success, done.exit_code, done.stdout) == (False, -1, b"said\n")
    assert done.error in done.notes
