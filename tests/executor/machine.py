"""A machine of which the tests know what it would show, and scripts in files."""

import threading

GB = 2**30


class Machine:
    """Be a sampler: a machine at rest, and what each script that runs adds to it.

    What runs is told by files that scripts make and remove, so it is seen as a machine is: late.
    """

    def __init__(self, folder, cpu=0.5, each=0.02, cores=4, memory_used=8 * GB, weight=0):
        self.folder = folder
        self.cpu, self.each, self.cores = cpu, each, cores
        self.memory_used, self.weight = memory_used, weight
        self.seen = []
        self._lock = threading.Lock()

    def running(self):
        return len(list(self.folder.glob("*.running")))

    def sample(self):
        count = self.running()
        cpu = min(1.0, self.cpu + count * self.each)
        with self._lock:
            self.seen.append(cpu)
        return {
            "cpu": cpu,
            "cores": self.cores,
            "memory_total": 32 * GB,
            "memory_used": self.memory_used + count * self.weight,
        }


RUNS = """
import os, sys, time
from pathlib import Path
path = Path(sys.argv[1]) / f"{os.getpid()}.running"
path.touch()
try:
    time.sleep(float(sys.argv[2]))
finally:
    path.unlink()
"""
SCRIPTS = {
    "ok.py": "print('fine')",
    "fails.py": "import sys; print('first', file=sys.stderr); sys.exit('the reason')",
    "three.py": "import sys; print('bad\\nworse', file=sys.stderr); sys.exit(3)",
    "sleeps.py": "import time; time.sleep(60)",
    "dies.py": "import os; os.kill(os.getpid(), 9)",
    "args.py": "import sys, os; print(sys.argv[1:], os.getcwd())",
    "big.py": "print('x' * 1_000_000)",
    "runs.py": RUNS,
}


def scripts(folder):
    """Write the scripts, and return how they are found."""
    for name, code in SCRIPTS.items():
        (folder / name).write_text(code)
    return lambda name: folder / name
