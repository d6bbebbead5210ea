"""The documents: what they show runs, what they name exists, and the site builds."""

import ast
import asyncio
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src/anabranch"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = [page for page in PAGES if "```ipython\n" in page.read_text()]
PACKAGES = ["", ".abc", ".controllers", ".observe", ".samplers", ".testing"]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)


def programs(page: Path) -> list[tuple[str, str | None]]:
    """Find programs, each with what stands under it as its output, if anything does."""
    found = re.findall(
        r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", page.read_text(), re.DOTALL
    )
    return [(program, said or None) for program, said in found]


BLOCKS = [
    pytest.param(*block, id=f"{named(page)}:{number}")
    for page in PAGES
    for number, block in enumerate(programs(page))
]


@pytest.mark.slow
@pytest.mark.parametrize(("program", "said"), BLOCKS)
def test_every_python_block_runs_as_a_file_and_prints_what_stands_under_it(program, said, tmp_path):
    file = tmp_path / "example.py"  # not -c: the processes of the cpu lane import what they can
    file.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", file],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout, "an example that prints nothing shows nothing"
    assert said in (None, done.stdout.replace(f"{tmp_path}/", ""))


@pytest.mark.slow
@pytest.mark.parametrize("page", NOTEBOOKS, ids=named)
def test_the_cells_of_a_notebook_run_one_after_another_in_a_running_loop(page, capsys):
    async def run_cells():
        names = {"__name__": "__main__"}
        for cell in blocks(page, "ipython"):
            code = compile(cell, named(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.iscoroutine(result):
                await result
            assert capsys.readouterr().out, "a cell that prints nothing shows nothing"

    asyncio.run(run_cells())


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_within_the_repository_leads_somewhere(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_every_page_is_reached_from_the_index():
    index = (ROOT / "docs/index.md").read_text()
    listed = {
        line for block in blocks(ROOT / "docs/index.md", "{toctree}") for line in block.split()
    }
    pages = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in PAGES[1:]}
    hidden = {page for page in pages if page.startswith("changes/")} | {"index"}
    assert pages - listed == hidden
    links = {page for page in pages - hidden if f"({page}.md)" not in index}
    assert not links


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_stands_in_the_reference(package):
    module = f"anabranch{package}"
    text = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    if f".. automodule:: {module}\n" in text:
        return
    public = importlib.import_module(module).__all__
    assert [name for name in public if f":: {module}.{name}\n" not in text] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    argv = ["-m", "sphinx", "--builder=html", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [sys.executable, *argv, ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = {page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html")}
    assert {"index.html", "tutorial.html", "reference/pipelines.html"} <= pages
    assert 'id="anabranch.Step.parallel"' in (tmp_path / "reference/pipelines.html").read_text()


@pytest.mark.parametrize("page", ["map", "architecture"])
def test_the_pages_about_the_code_name_files_that_exist(page):
    text = (ROOT / f"docs/explanation/{page}.md").read_text()
    files = re.findall(r"`([\w/]+\.py)`", text)
    missing = [name for name in files if not any((place / name).exists() for place in (SRC, ROOT))]
    assert files
    assert not missing


def test_the_picture_of_the_house_shows_every_part():
    picture = blocks(ROOT / "docs/explanation/architecture.md", "text")[0]
    shown = set(re.findall(r"^[├└]── (\w+)", picture, re.MULTILINE))
    parts = {path.stem for path in SRC.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - shown == {"__init__", "__pycache__"} & parts
    assert shown <= parts


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 80
