"""The rules of the house, measured on every file instead of believed.

What may break one stands in a table here, with the reason.
A key is a file, a folder that ends in `/`, or `file:name`;
a file under src/anabranch goes without that, any other is named from the root.
"""

import importlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import attrs
import pytest

from tests import house

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "anabranch"
SCRIPTS = ROOT / "scripts"
TESTS = ROOT / "tests"
ROOT_NAMES = {"pyproject.toml", "src", "tests", "docs", "scripts", "README.md", "LICENSE"}

LONG_FUNCTIONS: Mapping[str, str] = {  # a hot loop: with its reason and its benchmark
    "_hand.py:_work": "the hot loop: a call costs as much as a check; scripts/bench.py measures it",
}
NAMES: Mapping[str, str] = {  # a name that a host library asks for
    "pipeline/_gate.py:tasks_waiting": "the statistics of trio's and anyio's limiters have it",
    "workerpool/_config.py:backoff_base_seconds": "seed 001's word",
}
FACADES = {
    "workerpool/": "seed 001's words",
    "errors.py:TaskExecutionError": "seed 001's word",
    "executor/": "seeds 000 and 002's words",
    "manager/": "seed 003's words",
    "_anyio.py": "the loop's tasks, as the loop calls them",
    "testing/_clock.py": "the loop's tasks, as the loop calls them",
    "testing/_schedules.py": "the loop's tasks, as the loop calls them",
    "testing/_leaks.py": "the loop's tasks, as the loop calls them",
    "testing/_steps.py": "the loop's tasks, as the loop calls them",
}
BROAD_EXCEPT = {
    "_hand.py": "a branch's Exception is data",
    "_refusals.py": "what a user's judge or error raises when it is asked means no",
    "_ruling.py": "a law that raises is put in shadow, and the limit stays",
    "_thread_hand.py": "a branch's Exception is data",
    "_attempt.py": "a branch's Exception is data",
    "_again.py": "what the user's on= raises ends the branch that it was asked about",
    "_tries.py": "an error that can neither be written nor noted costs no result",
    "_breaker.py": "what a listener or on= raises costs no call",
    "_anyio.py": "what a thread raises, whatever it is, belongs to the task that waits for it",
    "_feed.py": "what the user's iterable raises is raised when the block is left",
    "_scheduler.py": "cleans up, and raises it again",
    "_recording.py": "what a recorder raises stops the run, or is reported, as asked",
    "pipeline/": "what a user's object raises when it is called, copied or written costs no result",
    "_observers.py": "an observer that raises can hurt nobody else",
    "cli/_load.py": "what the user's file raises is shown as the user's own traceback",
    "cli/_run.py": "what a branch lets through ends the program with the user's own traceback",
    "cli/_shown.py": "a value that cannot write itself costs no result",
    "samplers/_checked.py": "a sampler that raises, a user's or ours, costs a signal and no run",
    "samplers/_host.py": "psutil raises whatever it makes of a broken /proc: a signal less",
    "samplers/_patience.py": "what the call raises crosses a thread as a value",
    "testing/_check_sampler.py": "what a sampler raises crosses a thread as a value",
    "testing/_promises.py": "what a part raises is a promise that it breaks",
    "testing/_play.py": "what a test raises, whatever it is, is what explore asks for",
    "observe/_journal.py": "an error that cannot write itself is recorded all the same",
    "lanes/": "an Exception crosses a thread or a process as a value",
    "workerpool/": "what a task raises, whatever it is, belongs to who waits for it",
}
ASYNCIO = {
    "_anyio.py": "the seam",
    "testing/_clock.py": "a virtual clock is a loop of asyncio's",
    "testing/_leaks.py": "sees the tasks that are left on asyncio's loop",
    "testing/_schedules.py": "a schedule is an order of asyncio's ready queue",
    "testing/_steps.py": "asks before each step of asyncio's tasks",
}
LATE_IMPORTS = {
    "cli/__init__.py": "a Ctrl-C during the import is heard",
    "_runtime.py": "no loop is imported before it runs",
    "_anyio.py:trio.lowlevel": "asyncio's users need only trio's thread cache, and that late",
    "_observers.py:trio.lowlevel": "asyncio's users need only trio's thread cache, and that late",
    "lanes/_beside.py:trio.lowlevel": "asyncio's users need only trio's thread cache, and late",
    "testing/__init__.py:anabranch.testing": "Hypothesis, for those only who draw with it",
    "samplers/_nvml.py:pynvml": "20 ms, for those only who ask for GPUs",
}
OWN_CLOCK = {
    "cli/_bench.py": "tells a person how long a run took",
    "_sampling.py": "tells whether the loop's time is the machine's",
    "workerpool/_clock.py": "the pool's threads run without a loop, and so have no loop's clock",
    "observe/_writer.py": "gathers for a moment of real time: its thread waits for a real disk",
    "cli/_exec_job.py": "says at what time of day a job began",
    "observe/_journal.py": "says at what time of day a branch ended",
    "manager/_progress.py": "tells a person how long it took, with a loop or without",
    "_breaker.py": "threads without a loop call it too; a clock may be given",
    "_retry.py": "draws the jitter, by a seed if one is given",
    "scripts/check.py": "tells a person how long a check took",
    "scripts/_plant.py": "tells a person how long it took",
    "scripts/_noticing.py": "gives tests so much real time",
    "testing/_check_controller.py": "draws loads by a seed",
    "testing/_check_limiter.py": "draws programs by a seed",
    "testing/_plugin.py": "gives real threads real time to end",
    "testing/_explore.py": "draws schedules by seeds",
    "testing/_schedule.py": "draws an order by a seed",
    "testing/_schedules.py": "draws an order by a seed",
    "testing/_simulator/": "draws branches, noise and scenarios by a seed",
    "executor/_resources.py": "how old a sample of the machine is, whatever the loop's clock says",
    "lanes/": "a child process lives in real time, and is ended by threads that have no loop",
    "cli/_doctor.py": "examines a machine, in real seconds",
    "samplers/": "machines are read, and drivers waited for, in real seconds",
}


@attrs.frozen
class Measure:
    """A rule, where it holds, and what it leaves alone."""

    rule: house.Rule
    folders: tuple[Path, ...] = (PACKAGE, SCRIPTS)
    but: Mapping[str, str] = attrs.field(factory=dict)


MEASURES = [
    Measure(house.long_file),
    Measure(house.long_function, but=LONG_FUNCTIONS),
    Measure(house.deep_function, but=LONG_FUNCTIONS),
    Measure(house.banned_name, but=NAMES),
    Measure(house.facade_name, but={**FACADES, **NAMES}),
    Measure(house.broad_except, but=BROAD_EXCEPT),
    Measure(house.unsorted_all),
    Measure(house.foreign_loop, (PACKAGE,), but=ASYNCIO),
    Measure(house.late_import, but=LATE_IMPORTS),
    Measure(house.own_clock, but=OWN_CLOCK),
    Measure(house.no_docstring, (PACKAGE, SCRIPTS, TESTS)),
    Measure(house.unexplained_ignore, (PACKAGE, SCRIPTS, TESTS)),
]
each_measure = pytest.mark.parametrize(
    "measure", MEASURES, ids=[measure.rule.__name__ for measure in MEASURES]
)

OFFENDERS = [
    (house.long_file, "x = 1\n" * 401),
    (house.long_function, "def f():\n" + "    x = 1\n" * 60),
    (
        house.deep_function,
        "def f():\n if 1:\n  for x in y:\n   with x:\n    try:\n     while 1: 2\n    finally: 3",
    ),
    (house.banned_name, "def run_helpers(): 1"),
    (house.banned_name, "def f(base): 1"),
    (house.facade_name, "class TaskResult: 1"),
    (house.facade_name, "self.worker = 1"),
    (house.broad_except, "try: 1\nexcept: 2"),
    (house.broad_except, "try: 1\nexcept (OSError, BaseException): 2"),
    (house.broad_except, "with contextlib.suppress(Exception): 1"),
    (house.unsorted_all, "__all__ = ['b', 'a']"),
    (house.unsorted_all, "__all__ = ['a', 'a']"),
    (house.foreign_loop, "from asyncio.events import x"),
    (house.late_import, "def f():\n import os"),
    (house.own_clock, "time.monotonic()"),
    (house.own_clock, "from time import monotonic"),
    (house.own_clock, "import random"),
    (house.no_docstring, "x = 1"),
    (house.unexplained_ignore, "x = 1  # type: ignore"),
    (house.unexplained_ignore, "x = 1  # type: ignore[misc]"),
]
INNOCENT = '''"""A file that breaks nothing."""
import time
__all__ = ["B", "a", "c"]

def f(x, y):
    if x:
        with y: pass
    elif y:
        for z in y:
            if z:
                if x: host.task = time.sleep
    elif z:
        return None
    try:
        return x  # type: ignore[no-any-return]  # the payload is the user's
    except (OSError, ValueError): raise
'''


@each_measure
def test_every_file_keeps_the_rule(measure: Measure) -> None:
    found = [
        f"{source.name}:{offence.line}: {offence.says}"
        for source in read(*measure.folders)
        for offence in measure.rule(source)
        if not excepted(source.name, offence.name, measure.but)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "text"),
    OFFENDERS,
    ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(OFFENDERS)],
)
def test_the_rule_sees_an_offender(rule: house.Rule, text: str) -> None:
    assert list(rule(house.Source("x.py", text)))


@each_measure
def test_the_rule_leaves_the_innocent_alone(measure: Measure) -> None:
    assert not list(measure.rule(house.Source("x.py", INNOCENT)))


@pytest.mark.parametrize("home", ["anabranch", "anabranch.samplers", "anabranch.testing"])
def test_public_names_say_that_they_are_of_anabranch(home: str) -> None:
    package = importlib.import_module(home)
    public = {name: getattr(package, name) for name in getattr(package, "__all__", ())}
    modules = {name: getattr(value, "__module__", home) for name, value in public.items()}
    assert {
        name: module for name, module in modules.items() if module not in (home, "anabranch")
    } == {}


def test_the_root_holds_only_what_belongs_there() -> None:
    found = {file.parts[0] for file in tracked()}
    assert {name for name in found - ROOT_NAMES if not name.startswith(".")} == set()


def test_no_file_names_the_address_of_a_registry() -> None:
    address = re.compile(rb"(pypi|pythonhosted|npmjs|crates|debian|rubygems)\.(org|io|com)")
    existing = [file for file in tracked() if (ROOT / file).is_file()]
    assert [str(file) for file in existing if address.search((ROOT / file).read_bytes())] == []


def test_the_lock_says_what_and_not_where_from() -> None:
    lock = (SCRIPTS / "requirements.lock").read_text(encoding="utf-8")
    places = ("://", "--index", "--extra-index", "--find-links")
    assert [place for place in places if place in lock] == []


def read(*folders: Path) -> Iterator[house.Source]:
    for file in sorted(file for folder in folders for file in folder.rglob("*.py")):
        yield source_of(file)


@cache
def source_of(file: Path) -> house.Source:
    name = file.relative_to(PACKAGE if file.is_relative_to(PACKAGE) else ROOT).as_posix()
    return house.Source(name, file.read_text(encoding="utf-8"))


def excepted(file: str, name: str, table: Mapping[str, str]) -> bool:
    folders = [key for key in table if key.endswith("/") and file.startswith(key)]
    return bool(folders) or file in table or f"{file}:{name}" in table


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip(f"not a checkout: {listing.stderr.strip()}")
    return [Path(file) for file in listing.stdout.split("\0")[:-1]]
