"""See that a user's `mypy --strict` knows what goes in and out, and finds what does not fit."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anabranch import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ExecutionConfig,
    MergeStrategy,
    Pipeline,
    ResourceLimits,
    Step,
)

SOURCE = Path(__file__).resolve().parent.parent / "src"
PROPAGATE = BranchFailureStrategy.PROPAGATE
REQUIRED = inspect.Parameter.empty

# A line that ends in `# is: T` has that type, one in `# refused: word` an error with that word.
PROGRAM = """
from functools import partial
from typing import Any

from anabranch import ConcurrencyConfig, ExecutionConfig, Pipeline, PipelineResult, Step


async def fetch(url: str) -> bytes:
    return b""


def size(data: bytes) -> int:
    return len(data)


async def half(data: int, *, context: dict[str, Any]) -> float:
    return data / 2


def words(data: int, context: Any) -> str:
    return ""


def two(first: int, second: str) -> bytes:
    return b""


def merge(context: Any, branches: dict[str, Any]) -> None:
    pass


class Callee:
    def __call__(self, data: float) -> list[int]:
        return []


class AsyncCallee:
    async def __call__(self, data: float) -> list[int]:
        return []


reveal_type(Step("a", fetch))  # is: Step[str, bytes]
reveal_type(Step("a", size, lane="cpu", timeout=3))  # is: Step[bytes, int]
reveal_type(Step("a", half))  # is: Step[int, float]
reveal_type(Step("a", words))  # is: Step[int, str]
reveal_type(Step("a", Callee()))  # is: Step[float, list[int]]
reveal_type(Step("a", AsyncCallee()))  # is: Step[float, list[int]]
reveal_type(Step("a", partial(two, 3)))  # is: Step[Any, bytes]
reveal_type(Step("a", fetch) >> Step("b", size))  # is: Pipeline[str, int]
reveal_type(Step("a", fetch) >> size)  # is: Pipeline[str, int]
reveal_type(Step("a", fetch) >> size >> half)  # is: Pipeline[str, float]
reveal_type(Step("a", fetch) >> size >> words)  # is: Pipeline[str, str]
both = Step("b", half) >> Callee()
reveal_type(Step("a", fetch) >> size >> both)  # is: Pipeline[str, list[int]]
reveal_type(Step.parallel({"a": fetch, "b": fetch}))  # is: ParallelStep[str]
reveal_type(Step.parallel("x", {"a": Step("a", size)}))  # is: ParallelStep[bytes]
reveal_type(Step.parallel(branches={"a": fetch, "b": Step("b", fetch)}))  # is: ParallelStep[Any]
reveal_type(Step.parallel({"a": Step.parallel({"b": half}), "c": words}))  # is: ParallelStep[Any]
reveal_type(Step("a", fetch) >> Step.parallel({"b": size}))  # is: Pipeline[str, dict[str, Any]]
reveal_type(Step.map_over("m", fetch))  # is: MapStep[Any, bytes]
reveal_type(Step.map_over("m", size, items=[b""]))  # is: MapStep[Any, int]
reveal_type(Step.map_over("m", Step("a", fetch)))  # is: MapStep[Any, bytes]
reveal_type(Step.parallel({"a": size}, reduce=len))  # is: Node[Any, Any]
reveal_type(Step.map_over("m", size, items=[b""], reduce=len))  # is: Node[Any, Any]
reveal_type(Step.parallel({"a": size}, merge_strategy=merge))  # is: ParallelStep[bytes]
reveal_type(Pipeline([fetch, Step("b", size)]))  # is: Pipeline[Any, Any]
reveal_type(Pipeline(Step("a", fetch) >> size, name="p"))  # is: Pipeline[str, int]

pipeline = Step("a", fetch) >> Step("b", size)
config = ExecutionConfig(max_parallel_steps=3)
named: Pipeline[str, int] = Pipeline(pipeline, name="named", execution_config=config)
limited = Step.parallel({"a": fetch}, concurrency=ConcurrencyConfig(max_concurrent_branches=2))
short = Step.parallel({"a": fetch}, max_concurrency=2, track_completion=True, timeout=None)


async def main() -> None:
    result = await pipeline.run("x", context={"a": 1}, timeout=3)
    reveal_type(result)  # is: PipelineResult[int]
    reveal_type(result.unwrap())  # is: int
    async with pipeline.open("x") as run:
        run.cancel("a*", reason="enough")
        async for outcome in run.outcomes:
            reveal_type(outcome.key)  # is: str
    reveal_type(run.result)  # is: PipelineResult[int]
    mapped = await (Step("a", fetch) >> Step.map_over("m", Step("b", Callee()))).run("x")
    reveal_type(mapped.unwrap())  # is: list[list[int]]


reveal_type(pipeline.run_sync("x", loop="asyncio"))  # is: PipelineResult[int]

Step("a", size) >> Step("b", fetch)  # refused: incompatible
Step("a", size) >> fetch  # refused: Unsupported
pipeline.run_sync(3)  # refused: incompatible
Step("a", two)  # refused: incompatible
Step("a", 3)  # refused: overload
Step("a", fetch, timeot=3)  # refused: "timeout"
Step("a", fetch, retry=3)  # refused: overload
Step.parallel({"a": 3})  # refused: incompatible
Step.parallel({"a": size}, reduce=3)  # refused: overload
Step.parallel({"a": size}, merge_strategy=two)  # refused: incompatible
Step.parallel({"a": size}, max_concurency=3)  # refused: "max_concurrency"
Step.map_over("m", fetch, concurency=3)  # refused: concurrency"
Pipeline([size], nam="x")  # refused: "name"
pipeline.run_sync("x", contxt={})  # refused: "context"
ConcurrencyConfig(max_concurrent=3)  # refused: "max_concurrent
ConcurrencyConfig(max_concurrent_branches="3")  # refused: incompatible
wrong: PipelineResult[str] = pipeline.run_sync("x")  # refused: incompatible
from anabranch import Pipline  # refused: has no attribute
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Check the program; return what mypy says of each line."""
    file = tmp_path_factory.mktemp("typing") / "program.py"
    file.write_text(PROGRAM)
    argv = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    argv += ["--config-file=", "--follow-imports=silent", f"--cache-dir={file.parent}", str(file)]
    environment = {"MYPYPATH": str(SOURCE), "PATH": ""}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    says: dict[int, str] = {}
    for line in done.stdout.splitlines():
        match = re.match(r".*program\.py:(\d+): (.*)", line)
        assert match, line
        number, words = int(match[1]), match[2]
        says[number] = f"{says.get(number, '')}\n{words}".strip()
    return says


def _lines(mark: str) -> list[tuple[int, str, str]]:
    lines = enumerate(PROGRAM.splitlines(), 1)
    parts = [(number, *line.partition(mark)) for number, line in lines]
    return [(number, code.strip(), wanted) for number, code, seen, wanted in parts if seen]


@pytest.mark.slow
def test_the_types_of_input_and_output_are_inferred(found: dict[int, str]) -> None:
    wrong = {}
    for number, code, wanted in _lines("  # is: "):
        says = re.sub(r"\b(anabranch|builtins|typing)(\.\w+)*\.(?=\w)", "", found.get(number, ""))
        if says != f'note: Revealed type is "{wanted}"':
            wrong[code] = says
    assert wrong == {}


@pytest.mark.slow
def test_what_does_not_fit_is_refused(found: dict[int, str]) -> None:
    wrong = {}
    for number, code, wanted in _lines("  # refused: "):
        says = found.get(number, "")
        if "error: " not in says or wanted.lower() not in says.lower():
            wrong[code] = says
    assert wrong == {}


@pytest.mark.slow
def test_nothing_else_is_found_in_a_program_that_is_right(found: dict[int, str]) -> None:
    expected = {number for mark in ("  # is: ", "  # refused: ") for number, *_ in _lines(mark)}
    assert {number: says for number, says in found.items() if number not in expected} == {}


# What the contract says, in its words: a signature is exact in its names and defaults.
STEP = {
    "name": REQUIRED, "fn": REQUIRED, "lane": "auto", "timeout": None, "retry": None,
    "breaker": None, "fallback": None, "cache": None, "on_cancel": "abandon",
}  # fmt: skip
PARALLEL = {
    "name": None, "branches": None, "merge_strategy": MergeStrategy.NO_MERGE, "merge_config": None,
    "merge_order": "declared", "concurrency": None, "max_concurrency": None,
    "track_completion": None, "timeout": 30.0, "on_branch_failure": PROPAGATE, "halt": None,
    "priorities": None, "cancel_when": (), "cancel_grace": 5.0, "breach_event": None,
    "context_include_keys": None, "field_mapping": None, "reduce": None,
}  # fmt: skip
MAP = {
    "name": REQUIRED, "step": REQUIRED, "items": None, "concurrency": None, "max_concurrency": None,
    "timeout": None, "on_branch_failure": PROPAGATE, "halt": None, "reduce": None,
}  # fmt: skip
CONCURRENCY = {
    "max_concurrent_branches": None, "adaptive_limits": True, "cpu_based_limits": True,
    "memory_based_limits": True, "completion_tracking": True, "individual_cancellation": True,
    "breach_watcher": True, "controller": None, "samplers": None,
}  # fmt: skip
RUN = {"context": None, "budget": None, "limiter": None, "breach_event": None, "observer": None}
EXECUTION = {"max_parallel_steps": None, "resource_limits": ResourceLimits(), "io_limit": 64}


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (Step, STEP),
        (Step.parallel, PARALLEL),
        (Step.map_over, MAP),
        (Pipeline, {"steps": REQUIRED, "name": None, "execution_config": None}),
        (Pipeline([len]).run, {"data": None, **RUN, "timeout": None}),
        (Pipeline([len]).open, {"data": None, **RUN, "timeout": None}),
        (Pipeline([len]).run_sync, {"data": None, "loop": "trio", **RUN, "timeout": None}),
        (ConcurrencyConfig, CONCURRENCY),
        (ResourceLimits, {"max_memory_mb": None, "max_cpu_percent": None}),
        (ExecutionConfig, EXECUTION),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_signature_shows_the_contract(function: Any, wanted: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    assert {name: each.default for name, each in parameters.items()} == wanted


def test_the_options_are_given_by_name() -> None:
    for function, positional in ((Step, 2), (Step.parallel, 2), (Step.map_over, 2), (Pipeline, 1)):
        kinds = [each.kind for each in inspect.signature(function).parameters.values()]
        by_name = [kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds]
        assert by_name == [index >= positional for index in range(len(kinds))]


def test_run_is_known_to_be_async() -> None:
    assert inspect.iscoroutinefunction(Pipeline([len]).run)
