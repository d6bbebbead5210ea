"""The index of the seeds is whole: every block is listed, and what is named as proof exists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.bench.__main__ import SUITES
from tests.seeds import blocks
from tests.seeds.blocks import Entry, Seed
from tests.seeds.harness import execute

HERE = Path(__file__).parent
SEEDS = [pytest.param(seed, id=number) for number, seed in blocks.index().items()]
ENTRIES = [
    pytest.param(entry, id=f"{number}:{entry.number}")
    for number, seed in blocks.index().items()
    for entry in seed.blocks
]
each_seed = pytest.mark.parametrize("seed", SEEDS)
each_entry = pytest.mark.parametrize("entry", ENTRIES)


@cache
def checks_in(file: Path) -> dict[str, set[str]]:
    """Return the tests that a file has, and what each of them asks for."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name: {argument.arg for argument in node.args.args}
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, defined) and node.name.startswith("test_")
    }


def proofs_of(entry: Entry) -> Iterator[tuple[Path, str]]:
    for proof in entry.proof:
        file, _, test = proof.partition("::")
        yield (blocks.ROOT if "/" in file else HERE) / file, test


@each_seed
def test_every_block_of_a_listed_seed_is_in_the_index(seed: Seed) -> None:
    folder = blocks.folder()
    if folder is None:
        pytest.skip("the seeds are not here: they are no part of the repository (ANABRANCH_SEEDS=)")
    text = (folder / seed.file).read_text("utf-8")
    found = blocks.blocks_of(text)
    assert text.count("```") == 2 * len(found), "a fence was not understood"
    listed = [(entry.hash, entry.valid) for entry in seed.blocks]
    assert listed == [(blocks.hash_of(each), blocks.is_valid(each)) for each in found]


@each_seed
def test_blocks_are_listed_in_order(seed: Seed) -> None:
    assert [entry.number for entry in seed.blocks] == list(range(1, len(seed.blocks) + 1))
    assert len({entry.hash for entry in seed.blocks}) == len(seed.blocks)


@each_entry
def test_what_is_named_as_proof_exists(entry: Entry) -> None:
    missing = [test for file, test in proofs_of(entry) if test not in checks_in(file)]
    assert not missing
    cases = {case.name for suite in SUITES.values() for case in suite}
    assert set(entry.bench) <= cases


@each_entry
def test_every_block_is_proven_where_there_is_no_seed_and_one_that_runs_also_as_it_stands(
    entry: Entry,
) -> None:
    asks = ["block" in checks_in(file)[test] for file, test in proofs_of(entry)]
    assert False in asks
    if entry.kind == "run":
        assert True in asks
        assert entry.valid


@each_entry
def test_what_is_not_there_yet_names_its_issue(entry: Entry) -> None:
    assert not entry.later or entry.later.startswith("issue ")


@each_seed
def test_every_test_of_a_seed_is_named_in_the_index(seed: Seed) -> None:
    named = {(file, test) for entry in seed.blocks for file, test in proofs_of(entry)}
    file = HERE / f"test_seed_{seed.file.partition('_')[0]}.py"
    assert [test for test in checks_in(file) if (file, test) not in named] == []


# The means -----------------------------------------------------------------------------------

DOCUMENT = """# A heading

```python
a = 1
```

```
 drawn
```
"""


def test_blocks_are_what_stands_between_fences() -> None:
    assert blocks.blocks_of(DOCUMENT) == ["a = 1\n", " drawn\n"]


def test_a_block_is_python_also_with_await_at_its_top_level() -> None:
    assert blocks.is_valid("await f()")
    assert not blocks.is_valid("def f():\n    await g()")


def test_the_folder_of_the_seeds_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_SEEDS", str(tmp_path))
    assert blocks.folder() == tmp_path
    monkeypatch.setenv("ANABRANCH_SEEDS", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="is no folder"):
        blocks.folder()


async def test_a_block_may_await_and_give_a_name_twice() -> None:
    async def two() -> int:
        return 2

    block = "n = 1\nn = await two() + n\ndef f(): return [n for _ in range(known)]"
    names = await execute(block, {"two": two, "known": 2})
    assert names.values_of["n"] == [1, 3]
    assert names["f"]() == [3, 3]
    assert "known" not in names
