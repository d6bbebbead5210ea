"""One job of exec: the slot that it has, and who hears of its end."""

import anyio
import pytest

from anabranch.cli import _exec_job
from anabranch.cli._exec_job import JobFailedError, Piece, Runner
from anabranch.cli._exec_template import Command, Template
from anabranch.cli._exec_timeout import Patience
from anabranch.lanes._script import Finished


class Scripts:
    """Be run_script: note what is run, and end as it is told to."""

    def __init__(self, ends=()):
        self.argvs = []
        self.ends = list(ends)

    async def __call__(self, argv, **options):
        self.argvs.append(argv)
        await anyio.sleep(1)
        error = self.ends.pop(0) if self.ends else None
        return Finished(exit_code=1 if error else 0, error=error)


def piece(seq):
    return Piece(seq, seq - 1, (str(seq),), Command(("true",), "true"))


async def test_a_slot_is_the_lowest_number_that_no_running_job_has(monkeypatch):
    scripts = Scripts()
    monkeypatch.setattr(_exec_job, "run_script", scripts)
    runner = Runner(Template(["{%}"], by_shell=False), Patience(None), 1, None, bool)
    for seq in (1, 2):
        await runner.run(piece(seq))
    async with anyio.create_task_group() as group:
        for seq in (3, 4):
            group.start_soon(runner.run, piece(seq))
        await anyio.sleep(0.5)
        assert runner.running == 2
    assert scripts.argvs == [("1",), ("1",), ("1",), ("2",)]
    assert runner.running == 0


async def test_only_the_last_attempt_of_a_job_is_heard_of(monkeypatch):
    monkeypatch.setattr(_exec_job, "run_script", Scripts(["bad", "bad", None, "bad"]))
    ends = []
    runner = Runner(Template(["x"], by_shell=False), Patience(None), 3, None, ends.append)
    one = piece(1)
    for _ in range(2):
        with pytest.raises(JobFailedError, match="bad"):
            await runner.run(one)
    assert ends == []
    await runner.run(one)
    assert ends == [True]


async def test_a_job_that_fails_at_its_last_attempt_is_heard_of_as_failed(monkeypatch):
    monkeypatch.setattr(_exec_job, "run_script", Scripts(["bad", "bad"]))
    ends = []
    runner = Runner(Template(["x"], by_shell=False), Patience(None), 2, None, ends.append)
    one = piece(1)
    for _ in range(2):
        with pytest.raises(JobFailedError):
            await runner.run(one)
    assert ends == [False]
