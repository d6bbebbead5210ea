"""Say what an undisturbed tree gives, one step after another, and compare the result with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs

from anabranch.pipeline import StepResult
from tests.properties import _step_trees as t
from tests.properties._tree_world import BoomError, World, gist, item_words, spoken


@attrs.define
class Want:
    """Be what a step should give; outputs are boiled down."""

    name: str
    success: bool
    output: Any = None
    errors: list[str] = attrs.field(factory=list)  # labels of the leaves whose errors come out
    branches: dict[str, Want] = attrs.field(factory=dict)
    counts: dict[str, int] | None = None


@attrs.define
class Model:
    """Run a tree in thought; ``told`` are the paths of all branches."""

    live: bool
    told: list[str] = attrs.field(factory=list)
    marks: list[str] = attrs.field(factory=list)  # left in the root's context

    def line(self, line: t.Line, data: Any, path: str, *, last: bool, top: bool) -> list[Want]:
        """Return the history of a pipeline."""
        history: list[Want] = []
        for number, (name, step) in enumerate(named(line), 1):
            if top and isinstance(step, t.Leaf) and step.context:
                self.marks.append(step.label)
            ends = last and number == len(line.steps)
            history.append(self.want(step, data, name, path, last=ends, top=top))
            if not history[-1].success:
                break
            data = history[-1].output
        return history

    def want(self, spec: t.Spec, data: Any, name: str, path: str, *, last: bool, top: bool) -> Want:
        """Return what a node gives under a name."""
        match spec:
            case t.Leaf(kind="fail"):
                return Want(name, success=False, errors=[spec.label])
            case t.Leaf():
                return Want(name, success=True, output=spoken(spec.label, data))
            case t.Line():
                history = self.line(spec, data, path, last=last, top=top)
                return attrs.evolve(history[-1], name=name)
            case t.Parallel():
                found = {key: self._branch(each, data, key, path) for key, each in spec.branches}
                output: Any = tuple((key, _entry(each)) for key, each in found.items())
            case t.Map():
                said = [
                    item_words(spec.label, spec.source, n, None if spec.source == "list" else data)
                    for n in range(spec.count)
                ]
                each_item = enumerate(said)
                found = {str(n): self._branch(spec.item, it, str(n), path) for n, it in each_item}
                output = tuple(map(_entry, found.values()))
        return self._folded(spec, name, found, output, streams=last and self.live)

    def _folded(
        self, spec: Any, name: str, found: dict[str, Want], output: Any, *, streams: bool
    ) -> Want:
        good = sum(each.success for each in found.values())
        success = good == len(found) or (good > 0 and spec.ignore)
        errors = [] if success else [e for w in found.values() if not w.success for e in w.errors]
        if isinstance(spec, t.Map) and streams:
            counts = Counter("succeeded" if each.success else "failed" for each in found.values())
            return Want(name, success, counts=dict(counts))
        return Want(name, success, output, errors, found)

    def _branch(self, spec: t.Spec, data: Any, key: str, path: str) -> Want:
        self.told.append(path + key)
        return self.want(spec, data, key, f"{path}{key}/", last=False, top=False)


def _entry(want: Want) -> Any:
    return want.output if want.success else ("bad", want.name)


def named(line: t.Line) -> list[tuple[str, t.Spec]]:
    """Name the steps of a pipeline as it does: what has no name is numbered."""
    found: list[tuple[str, t.Spec]] = []
    unnamed = 0
    for step in line.steps:
        name = step.label
        if isinstance(step, t.Parallel) and step.spelling != "named":
            unnamed += 1
            name = "parallel" if unnamed == 1 else f"parallel-{unnamed}"
        found.append((name, step))
    return found


def compare(result: StepResult[Any], want: Want, where: str, world: World) -> None:
    """Claim that a result is what it should be, down to its leaves."""
    where = f"{where}{want.name}"
    status = "succeeded" if want.success else "failed"
    seen = (result.name, result.success, str(result.status), gist(result.output))
    due = (want.name, want.success, status, want.output)
    world.claim(seen == due, f"{where}: it is {seen}, and should be {due}")
    world.claim(list(result.branches) == list(want.branches), f"{where}: {list(result.branches)}")
    world.claim(not result.reason, f"{where}: it has a reason: {result.reason}")
    if want.counts is not None:
        world.claim(dict(result.counts) == want.counts, f"{where}: {result.counts}")
    elif not result.success:
        labels = [error.life.leaf.label for error in booms(result.group())]
        world.claim(labels == want.errors, f"{where}: {labels} came out, and not {want.errors}")
    for key in want.branches.keys() & result.branches.keys():
        compare(result.branches[key], want.branches[key], f"{where}/", world)


def booms(error: BaseException | None) -> list[BoomError]:
    """List the errors of leaves in a group."""
    if isinstance(error, BaseExceptionGroup):
        return [boom for each in error.exceptions for boom in booms(each)]
    return [error] if isinstance(error, BoomError) else []
