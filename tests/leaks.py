"""Name what the tests use of the leak check that users get."""

from anabranch.testing._leaks import KINDS, Snapshot, leaks, new, snapshot, tasks

__all__ = ["KINDS", "Snapshot", "leaks", "new", "snapshot", "tasks"]
