"""Importing anabranch costs little, imports no loop, and brings no name that is not there."""

import subprocess
import sys

import pytest

import anabranch


def run(code, **options):
    argv = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_package_alone_imports_nothing_but_its_words():
    heavy = {"anyio", "attr", "multiprocessing", "psutil", "rich", "trio"}
    code = f"import anabranch, sys; print(sorted({heavy!r} & set(sys.modules)))"
    assert run(code) == "[]\n"


@pytest.mark.slow
def test_who_has_only_asyncio_imports_no_trio_by_any_public_name():
    code = """
import asyncio, sys
import anyio, anabranch
for name in anabranch.__all__:
    getattr(anabranch, name)
print("trio" in sys.modules)

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

step = anabranch.Step.map_over("double", double, max_concurrency=2)
print(asyncio.run(anabranch.Pipeline([step]).run(range(3))).output, "trio" in sys.modules)
"""
    assert run(code) == "False\n[0, 2, 4] False\n"


@pytest.mark.slow
def test_a_public_name_is_the_same_however_it_is_reached_and_says_so():
    code = """
import pickle
from anabranch import *
import anabranch.pipeline
print(Step is anabranch.pipeline.Step is anabranch.Step, Step, WorkerPool)
print(pickle.loads(pickle.dumps(Retry())) == Retry())
"""
    said = "True <class 'anabranch.Step'> <class 'anabranch.WorkerPool'>\nTrue\n"
    assert run(code) == said


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["pynvml", "rich", "cyclopts"])
def test_pipelines_run_without_what_only_some_need(missing):
    code = f"""
import sys
sys.modules[{missing!r}] = None  # importing it fails
import asyncio, anyio
from anabranch import ConcurrencyConfig, Pipeline, Step
step = Step.map_over("wait", lambda _: anyio.sleep(0.02), concurrency=ConcurrencyConfig(2))
print(asyncio.run(Pipeline([step]).run(range(60))).success)
"""
    assert run(code) == "True\n"


def test_public_names_are_listed_whether_asked_for_or_not():
    assert set(anabranch.__all__) <= set(dir(anabranch))


def test_what_is_no_name_of_ours_is_none():
    with pytest.raises(AttributeError, match="'anabranch' has no attribute 'Pipline'"):
        _ = anabranch.Pipline
    with pytest.raises(ImportError, match="cannot import name 'Pipline'"):
        exec("from anabranch import Pipline")
