"""Descriptors: in use and allowed, of this process or of the system, whichever is scarcer."""

import errno
import os

import psutil
import pytest

from anabranch.samplers import Descriptors, _descriptors, descriptors

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no descriptors")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A process with three descriptors open of sixty-four, while its table is looked at."""
    monkeypatch.setattr(_descriptors, "_soft_limit", lambda: 64)
    (tmp_path / "proc/self/fd").mkdir(parents=True)
    for number in range(4):  # one is the table's own
        (tmp_path / f"proc/self/fd/{number}").touch()
    return tmp_path


def file_nr(root, text):
    (root / "proc/sys/fs").mkdir(parents=True)
    (root / "proc/sys/fs/file-nr").write_text(text)


def test_the_process_has_a_limit(system):
    found = descriptors(system)
    assert found == Descriptors(3, 64, "ulimit -n")
    assert found.words == "3 of 64 descriptors (ulimit -n)"


def test_the_system_may_be_scarcer(system):
    file_nr(system, "990\t0\t1000\n")
    assert descriptors(system).words == "990 of 1,000 descriptors (sysctl fs.file-max)"


@pytest.mark.parametrize("text", ["", "a b c", "1 2", "100 0 9223372036854775807", "1 2 0"])
def test_a_system_that_tells_nothing_or_has_enough_is_not(system, text):
    file_nr(system, text)
    assert descriptors(system).limit == 64


def test_none_left_to_look_at_the_table_is_all_in_use(system, monkeypatch):
    def fails(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "scandir", fails)
    assert descriptors(system).words == "64 of 64 descriptors (ulimit -n)"


def test_without_a_proc_psutil_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(_descriptors, "_soft_limit", lambda: 64)
    monkeypatch.setattr(psutil.Process, "num_fds", lambda process: 5)
    assert descriptors(tmp_path).used == 5


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), OSError(2, "no"), AttributeError("no")])
def test_what_cannot_be_counted_is_unknown(tmp_path, monkeypatch, error):
    def fails(process):
        raise error

    monkeypatch.setattr(_descriptors, "_soft_limit", lambda: 64)
    monkeypatch.setattr(psutil.Process, "num_fds", fails)
    assert descriptors(tmp_path).words == "? of 64 descriptors (ulimit -n)"


def test_no_limit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(_descriptors, "_soft_limit", lambda: None)
    (tmp_path / "proc/self/fd").mkdir(parents=True)
    assert descriptors(tmp_path).limit is None


def test_this_process_has_some():
    found = descriptors()
    assert found.used > 0
    assert found.limit is None or found.used <= found.limit
