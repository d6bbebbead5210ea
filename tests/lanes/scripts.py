"""Scripts for the tests of the subprocess lane, and eyes on the table of processes."""

import sys
import time
import uuid

import psutil

PYTHON = sys.executable


def python(code, *args):
    """Return the argument list of a program in Python."""
    return [PYTHON, "-c", code, *args]


def shell(line, *args):
    """Return the argument list of a line for a shell."""
    return ["sh", "-c", line, "sh", *args]


class Marked:
    """Sleep under a mark that no other process has, to be found in the table of processes."""

    def __init__(self):
        self.mark = f"anabranch-{uuid.uuid4().hex}"

    def sleep(self, seconds=60):
        """Return the words of a shell that sleep."""
        return f"{PYTHON} -c 'import time; time.sleep({seconds})' {self.mark}"

    def living(self):
        """Return who of them is alive, and no shell that names them."""
        found = []
        for each in psutil.process_iter():
            try:
                if each.status() != psutil.STATUS_ZOMBIE and self.mark in each.cmdline()[-1:]:
                    found.append(each)
            except psutil.Error:
                continue
        return found

    def begun(self, count=1, seconds=10):
        """Wait until so many are there."""
        until = time.monotonic() + seconds
        while len(self.living()) < count:
            assert time.monotonic() < until, f"{len(self.living())} of {count} began"
            time.sleep(0.02)

    def gone(self, seconds=3):
        """Wait until none is there, and tell whether that came true in time."""
        until = time.monotonic() + seconds
        while self.living():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True
