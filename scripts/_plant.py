"""Plant each bug in a copy of the tree, keep what was found, and say what the tests are worth.

Run by scripts/plant.py, in the project's environment. What is known is kept, line by line, beside
the copies in the folder for temporary files: an interrupted run goes on where it ended, on the
tree as it was when it began.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue

import attrs

from _noticing import Watch, end_all
from _plants import Plant, PlantError, copy_tree, plants, write

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "planted.md"
MARKS = ("<!-- made: planted -->\n", "<!-- end -->\n")
ENOUGH = 0.95
UNNOTICED = "not noticed"


@attrs.frozen
class Found:
    """Say what came of one plant: which test noticed it, how, after how long, on which commit."""

    name: str
    test: str
    how: str
    seconds: float
    mirrored: bool
    commit: str = ""


class State:
    """Keep a run: the copies that it works in, and what it has found so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._about = folder / "about.json"
        self._found = folder / "found.jsonl"

    @property
    def is_there(self) -> bool:
        """Whether a run has begun that can be taken up."""
        return self._about.exists()

    def begin(self, jobs: int) -> None:
        """Copy the tree anew, once for each of so many that work side by side."""
        self._about.unlink(missing_ok=True)
        self._found.unlink(missing_ok=True)
        for tree in self.trees(jobs):
            copy_tree(ROOT, tree)
        self._tell()

    def again(self, jobs: int) -> None:
        """Copy the tree anew, and forget what was not noticed: tests may have come since."""
        found = [each for each in self.found().values() if each.how != UNNOTICED]
        for tree in self.trees(jobs):
            copy_tree(ROOT, tree)
        self._found.unlink(missing_ok=True)
        for each in found:
            self.keep(each)
        self._tell()

    def _tell(self) -> None:
        about = {"at": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit()}
        self._about.write_text(json.dumps(about), encoding="utf-8")

    def trees(self, jobs: int) -> list[Path]:
        """Return where the copies are."""
        return [self.folder / f"tree-{number}" for number in range(jobs)]

    def about(self) -> dict[str, str]:
        """Return when it began (``at``), and on which ``commit``."""
        found: dict[str, str] = json.loads(self._about.read_text(encoding="utf-8"))
        return found

    def found(self) -> dict[str, Found]:
        """Return what was found, by the name of the plant."""
        if not self._found.exists():
            return {}
        lines = self._found.read_text(encoding="utf-8").splitlines()
        return {each["name"]: Found(**each) for each in map(json.loads, lines)}

    def keep(self, found: Found) -> None:
        """Keep what was found of one more."""
        with self._found.open("a", encoding="utf-8") as file:
            file.write(json.dumps(attrs.asdict(found)) + "\n")


def commit() -> str:
    """Return the commit of the tree, with a plus if the tree is not just that; "" for none."""
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    said = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
    return said + ("+" if git(["git", "status", "--porcelain"]).stdout.strip() else "")


def examine(tree: Path, plant: Plant, far: float) -> Found:
    """Plant a bug in a copy, and see which test notices."""
    path = tree / plant.path
    clean = path.read_text(encoding="utf-8")
    planted = plant.planted(clean)
    began = time.monotonic()
    mirror = plant.mirror(tree)
    watch = Watch(tree, lambda there: write(path, planted if there else clean), far=far)
    notice = watch.first_notice(mirror)
    seconds = round(time.monotonic() - began, 1)
    if notice is None:
        return Found(plant.name, "", UNNOTICED, seconds, mirrored=False)
    mirrored = notice.test.partition("::")[0] in mirror
    return Found(plant.name, notice.test, notice.how, seconds, mirrored)


def work(
    trees: Sequence[Path], todo: Sequence[Plant], state: State | None, far: float
) -> list[Found]:
    """Examine plants, one at a time in each copy; say and keep each as soon as it is known."""
    free: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(plant: Plant) -> Found:
        tree = free.get()
        try:
            return examine(tree, plant, far)
        finally:
            free.put(tree)

    found = []
    with ThreadPoolExecutor(max_workers=len(trees)) as pool:
        try:
            for number, each in enumerate(pool.map(one, todo), 1):
                if state is not None:
                    state.keep(attrs.evolve(each, commit=state.about()["commit"]))
                found.append(each)
                words = f"{each.how} {each.test}".strip()
                line = f"{number:3}/{len(todo)} {each.seconds:6.1f} s  {each.name}: {words}"
                print(line, flush=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()
    return found


def summary(all_plants: Sequence[Plant], found: dict[str, Found]) -> str:
    """Say in a sentence how many were noticed."""
    known = [found[each.name] for each in all_plants if each.name in found]
    noticed = [each for each in known if each.how != UNNOTICED]
    share = len(noticed) / max(1, len(known))
    hung = sum(each.how == "hung" for each in noticed)
    near = sum(each.mirrored for each in noticed)
    return (
        f"{len(noticed)} of {len(known)} planted bugs noticed ({share:.1%}): "
        f"{near} by the tests that mirror the file, {len(noticed) - near} by others; "
        f"{hung} of them because a test hung"
    )


def tables(all_plants: Sequence[Plant], found: dict[str, Found], state: State) -> str:
    """Return what the page says of a run."""
    about, planned = state.about(), len(all_plants)
    all_plants = [each for each in all_plants if each.name in found]
    rows = Counter((each.table, found[each.name].how != UNNOTICED) for each in all_plants)
    minutes = sum(found[each.name].seconds for each in all_plants) / 60
    commits = list(dict.fromkeys(found[each.name].commit for each in all_plants))
    when = (
        f"Measured on {about['at']}, commit {', '.join(commits)}, {minutes:.0f} minutes of one core"
    )
    lines = [f"{when}: {summary(all_plants, found)}.", ""]
    if planned > len(all_plants):
        lines += [f"{planned - len(all_plants)} more of the tables were not planted yet.", ""]
    lines += [
        "| floor | planted | noticed |",
        "|---|---|---|",
    ]
    for floor in sorted({each.table for each in all_plants}):
        seen = rows[floor, True]
        lines.append(f"| {floor} | {seen + rows[floor, False]} | {seen} |")
    lines += ["", "| bug | in | first noticed by |", "|---|---|---|"]
    for each in all_plants:
        one = found[each.name]
        how = f" ({one.how})" if one.how != "failed" else ""
        test = f"`{one.test.partition('[')[0].removeprefix('tests/')}`" if one.test else ""
        lines.append(f"| {each.name} | `{each.file}` | {test}{how} |")
    return "\n".join(lines) + "\n"


def put_in_page(text: str) -> None:
    """Write the tables into the page, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}{text}{MARKS[1]}{after}", encoding="utf-8")


def chosen(all_plants: Sequence[Plant], names: Sequence[str]) -> list[Plant]:
    """Return the plants of these names.

    Raises:
        PlantError: there is none of a name.
    """
    by_name = {each.name: each for each in all_plants}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise PlantError(f"no bug is called {unknown[0]!r}; --list names them")
    return [by_name[name] for name in names]


def in_turn(all_plants: Sequence[Plant]) -> list[Plant]:
    """Take one of each floor in turn: what is known of a run that is cut short is of all floors."""
    places: Counter[str] = Counter()
    keys = {}
    for each in all_plants:
        keys[each.name] = places[each.table]
        places[each.table] += 1
    return sorted(all_plants, key=lambda each: (keys[each.name] / places[each.table], each.table))


def report(state: State, args: argparse.Namespace) -> int:
    """Say what is known so far, and put it into the page if asked; return the exit code."""
    if not state.is_there:
        raise PlantError("there is no run to be told of; begin one, without --report")
    all_plants, found = plants(state.trees(1)[0]), state.found()
    print(summary(all_plants, found))
    if args.write:
        put_in_page(tables(all_plants, found, state))
    known = [found[each.name] for each in all_plants if each.name in found]
    noticed = sum(each.how != UNNOTICED for each in known)
    return 0 if noticed >= ENOUGH * len(all_plants) else 1


def run_all(state: State, args: argparse.Namespace) -> int:
    """Examine what is left of all plants, as they stand in the copy; return the exit code."""
    if args.anew or not state.is_there:
        state.begin(args.jobs)
    elif args.again:
        state.again(args.jobs)
    else:
        about = state.about()
        print(f"going on with the run of {about['at']}, commit {about['commit']}; --anew for none")
    first = state.trees(1)[0]
    for tree in state.trees(args.jobs):
        if not tree.exists():
            copy_tree(first, tree)
    all_plants = plants(first)
    known = state.found()
    todo = in_turn([each for each in all_plants if each.name not in known])
    work(state.trees(args.jobs), todo, state, args.far)
    return report(state, args)


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="plant.py")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--far", type=float, default=240.0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    here = Path(tempfile.gettempdir()) / f"anabranch-plant-{sha256(bytes(ROOT)).hexdigest()[:8]}"
    try:
        all_plants = plants(ROOT)
        if args.report:
            return report(State(here), args)
        if args.jobs < 1:
            raise PlantError(f"--jobs {args.jobs}: give at least 1")
        if args.list:
            for each in all_plants:
                print(f"{each.name}  {each.file}\n    {each.why}")
            return 0
        todo = chosen(all_plants, args.names)
        for each in todo or all_plants:  # before anything starts
            each.planted((ROOT / each.path).read_text(encoding="utf-8"))
        if todo:
            with tempfile.TemporaryDirectory(prefix="anabranch-plant-") as folder:
                copy_tree(ROOT, Path(folder) / "tree")
                found = work([Path(folder) / "tree"], todo, None, args.far)
            return int(any(each.how == UNNOTICED for each in found))
        return run_all(State(here), args)
    except PlantError as error:
        print(f"plant.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
