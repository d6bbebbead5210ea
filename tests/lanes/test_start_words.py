"""Why a script cannot be started is said in words that name what to mend."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from anabranch.lanes import _start
from anabranch.lanes._script import Script
from anabranch.lanes._subprocess import run_script

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]

LOADER, NO_LOADER = b"/lib64/ld-linux-x86-64.so.2", b"/lib64/no-linux-x86-64.so.2"


async def test_a_word_that_the_file_system_cannot_write_is_told_from_others():
    done = await run_script(["echo", "\ud800"])
    assert done.kind == "spawn"
    assert "cannot be written in the file system's encoding" in done.error


async def test_a_program_of_another_system_says_that_its_loader_is_missing(tmp_path):
    data = Path(shutil.which("true")).read_bytes()
    if LOADER not in data:
        pytest.skip("programs here are loaded by another loader")
    program = tmp_path / "foreign"
    program.write_bytes(data.replace(LOADER, NO_LOADER))
    program.chmod(0o755)
    done = await run_script([program])
    assert done.kind == "not_found"
    assert "what loads it does not exist" in done.error


async def test_a_script_that_nobody_may_read_is_told_by_its_name_alone(tmp_path, monkeypatch):
    program = tmp_path / "secret"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    assert "/no/such/interpreter" in (await run_script([program])).error

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("pathlib.Path.open", refused)
    kind, words = _start.why_not(Script([program]), FileNotFoundError(errno.ENOENT, "no such file"))
    assert kind == "not_found"
    assert "what loads it does not exist" in words
