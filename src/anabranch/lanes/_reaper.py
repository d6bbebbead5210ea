"""End what a killed parent has left: this file is run as a program of its own.

It waits until the process that started it has ended, however that was, and then ends every
process group that the table still names, with all that descends from it.
Started as ``python -I -S _reaper.py PARENT TABLE``, it needs the standard library alone.
It leaves its parent's family at once, so nobody has to wait for it, and no signal that was meant
for the parent ends it first.
"""

import os
import select
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping

SLOT = struct.Struct("qq")  # the process, and the inode of a pipe that it writes to
GRACE_S = 1.0
TOTAL_S = 2.5

Process = tuple[int, int, int, float]  # parent, group, session, and when it began


def main(parent: int, table: int) -> None:
    """Wait for the end of ``parent``, then end what the table on descriptor ``table`` names."""
    watch = descriptor_of(parent)
    is_alive = os.getppid() == parent  # asked after that: it is then the parent's, and no other's
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    started = processes().get(parent, (0, 0, 0, 0.0))[3] if is_alive else 0.0
    if is_alive:
        wait_for(parent, watch)
    slots = SLOT.iter_unpack(os.pread(table, os.fstat(table).st_size, 0))
    named = [slot for slot in slots if slot != (0, 0)]
    end({pid for pid, _ in named if pid}, {inode for _, inode in named if inode}, started)


def descriptor_of(parent: int) -> "int | None":
    """Return what can be waited for instead of a process, where the system has it."""
    try:
        return os.pidfd_open(parent) if hasattr(os, "pidfd_open") else None
    except OSError:  # it has ended already
        return None


def wait_for(parent: int, watch: "int | None") -> None:
    """Wait until a process has ended: by its descriptor, by the kernel's queue, or by asking."""
    if watch is not None:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        poll.poll()
        return
    if sys.platform == "darwin":
        queue = select.kqueue()
        event = select.kevent(parent, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        try:
            queue.control([event], 1, None)
        except ProcessLookupError:
            pass
        return
    while is_there(parent):
        time.sleep(0.2)


def is_there(pid: int) -> bool:
    """Tell whether a process is there, by a signal that says nothing."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def end(leaders: "set[int]", pipes: "set[int]", since: float) -> None:
    """Terminate, and after a moment kill, whatever belongs to these leaders or holds these pipes.

    Only what began after ``since`` can be theirs: a number may have been given to another process.
    """
    began = time.monotonic()
    while time.monotonic() < began + TOTAL_S:
        known = processes()
        victims = {pid for pid in family(leaders, known) if known[pid][3] >= since}
        victims |= {pid for pid in holders(pipes, known) if known[pid][3] >= since}
        groups = leaders if not known else set()  # a system without /proc
        if not victims and not groups:
            return
        late = time.monotonic() > began + GRACE_S
        for pid in victims:
            strike(os.kill, pid, late)
        for group in groups:
            strike(os.killpg, group, late)
        leaders = leaders | victims
        time.sleep(0.05)


def strike(send: "Callable[[int, int], None]", target: int, late: bool) -> None:
    """Send a signal, and one that wakes who was stopped; who has ended meanwhile needs none."""
    for number in (signal.SIGKILL,) if late else (signal.SIGTERM, signal.SIGCONT):
        try:
            send(target, number)
        except OSError:
            return


def processes(pids: "Iterable[int | str] | None" = None) -> "dict[int, Process]":
    """Read who is whose, without those that have ended; empty where the system does not tell.

    Args:
        pids: whom to ask about; all if None.
    """
    found: dict[int, Process] = {}
    if pids is None:
        pids = [name for name in _names("/proc") if name.isdecimal()]
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 # pathlib starts slowly
                words = file.read().rpartition(b") ")[2].split()
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended meanwhile
            continue
        if words and words[0] not in (b"Z", b"X"):
            found[int(pid)] = (int(words[1]), int(words[2]), int(words[3]), float(words[19]))
    return found


def family(leaders: "set[int]", known: "Mapping[int, Process]") -> "set[int]":
    """Return the leaders, who is in their groups and sessions, and all that descends from them."""
    mine = os.getpid()
    found = {
        pid
        for pid, (_, group, session, _) in known.items()
        if (pid in leaders or group in leaders or session in leaders) and pid != mine
    }
    grew = True
    while grew:
        more = {pid for pid, each in known.items() if each[0] in found and pid != mine} - found
        found |= more
        grew = bool(more)
    return found


def holders(pipes: "set[int]", known: "Mapping[int, Process]", *, kept: bool = False) -> "set[int]":
    """Return who can write to one of these pipes.

    Not who can only read: that is a child of ours between fork and exec, whoever's it is to be.

    Args:
        kept: leave out, too, who will lose it when it becomes another program: a child between
            fork and exec can write to all that its parent could when it was made.
    """
    names = {f"pipe:[{inode}]" for inode in pipes}
    mine = os.getpid()
    return {pid for pid in known if names and pid != mine and holds(pid, names, kept=kept)}


def holds(pid: int, names: "set[str]", *, kept: bool = False) -> bool:
    """Tell whether a process has one of these files open for writing."""
    folder = f"/proc/{pid}/fd"
    for each in _names(folder):
        path = f"{folder}/{each}"
        try:
            if os.readlink(path) not in names or not os.lstat(path).st_mode & stat.S_IWUSR:  # noqa: PTH115 # likewise
                continue
            if not kept or not _closes_on_exec(pid, each):
                return True
        except OSError:
            continue
    return False


def _closes_on_exec(pid: int, descriptor: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{descriptor}") as file:  # noqa: PTH123 # likewise
        flags = next((line for line in file if line.startswith("flags:")), "flags: 0")
    return bool(int(flags.split()[1], 8) & os.O_CLOEXEC)


def _names(folder: str) -> "list[str]":
    """List a folder; empty if it is not there, or somebody else's."""
    try:
        return os.listdir(folder)  # noqa: PTH208 # likewise
    except OSError:
        return []


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
