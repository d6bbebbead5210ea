"""Compare what results say with what the calls know themselves."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from anabranch._work import Outcome, Status
from anabranch.pipeline import PipelineResult, StepResult
from tests.properties import _step_trees as t
from tests.properties._tree_model import Model, booms, compare, named
from tests.properties._tree_world import Life, Place, Said, World, gist

STOPPED = {Status.CANCELLED, Status.TIMED_OUT}
EPS = 1e-6


def check_places(world: World) -> None:
    """Check every call, and every step that gave a result."""
    for life in world.lives:
        world.claim(life.ended is not None, f"{life.leaf.label} has started, and not ended")
    for place in world.places:
        if place.up is not None:
            world.claim(not place.open, f"{place.path}{place.spec.label} has not ended")
        if isinstance(place.spec, t.Parallel | t.Map) and place.result is not None:
            _Step(place, place.result, world).check()


class _Step:
    """Check one run of one step with branches."""

    def __init__(self, place: Place, result: StepResult[Any], world: World) -> None:
        self.place, self.result, self.world = place, result, world
        self.branches = dict(result.branches)

    def claim(self, holds: bool, says: str) -> None:
        where = f"{self.place.path}{self.result.name}"
        self.world.claim(holds, f"step {where}: {says}, says {self.result!r}")

    def check(self) -> None:
        spec, place = self.place.spec, self.place
        if isinstance(spec, t.Map) and not self.branches:  # streamed, or without items
            total = sum(self.result.counts.values())
            begun = len(place.children)
            self.claim(begun <= total <= spec.count, f"{begun} have begun of {spec.count}")
            return
        keys = list(self.branches)
        if isinstance(spec, t.Parallel):
            self.claim(keys == [key for key, _ in spec.branches], "keys are not as declared")
        else:
            numbers = list(map(str, range(len(keys))))
            self.claim(keys == numbers and len(keys) <= spec.count, "keys are no numbers in order")
        begun = sum(each.attempts for each in self.branches.values())
        self.claim(begun == len(place.children), f"{len(place.children)} calls")
        self._check_verdict()
        self._check_calls()
        self._check_nested()
        self._check_order()

    def _check_verdict(self) -> None:
        result, spec = self.result, self.place.spec
        good = sum(each.status is Status.SUCCEEDED for each in self.branches.values())
        agree = all(b.success == (b.status is Status.SUCCEEDED) for b in self.branches.values())
        self.claim(agree, "success and status of a branch differ")
        cut = sum(b.status is Status.CANCELLED for b in self.branches.values())
        enough = good == len(self.branches) or (
            good > 0 and (spec.ignore or good + cut == len(self.branches))
        )
        if result.reason:
            self.claim(not result.success and result.status in STOPPED, "the reason")
        elif isinstance(spec, t.Parallel):  # a map may have been stopped between two items
            self.claim(result.success == enough, f"{good} succeeded")
        found = booms(None if result.success else result.group())
        twice = [boom for boom, n in Counter(map(id, found)).items() if n > 1]
        self.claim(not twice, "an error came out twice")
        for key, each in self.branches.items():
            lost = {id(boom) for boom in booms(each.error)} - {id(boom) for boom in found}
            self.claim(result.success or each.success or not lost, f"the error of {key} is lost")

    def _check_calls(self) -> None:
        """Find each call of a function in a result of its own, as it ended itself."""
        lives = [each for each in self.place.children if isinstance(each, Life)]
        said = [b.output.life for b in self.branches.values() if isinstance(b.output, Said)]
        raised = [b for b in self.branches.values() if b.error is not None]
        stopped = 0
        for life in lives:
            label = life.leaf.label
            if life.end == "returned":
                self.claim(said.count(life) == 1, f"{label} has returned")
            elif life.end == "raised":
                own = [b for b in raised if b.error is life.error]
                self.claim(len(own) == 1, f"{label} has raised {life.error!r}")
                fits = {Status.FAILED} if self.world.tree.calm() else {Status.FAILED, *STOPPED}
                self.claim(all(b.status in fits for b in own), f"{label} has failed")
            else:
                stopped += 1
        nested = {each.key for each in self.place.children if isinstance(each, Place)}
        found = sum(
            b.status in STOPPED and bool(b.attempts) and not booms(b.error)
            for key, b in self.branches.items()
            if key not in nested
        )
        self.claim(found == stopped, f"{stopped} were stopped")

    def _check_nested(self) -> None:
        for each in self.place.children:
            if isinstance(each, Life):
                continue
            found, own = self.branches[each.key], each.result
            if own is None:
                self.claim(found.status in STOPPED, f"{each.key} was stopped")
            elif own.success:
                same = found.success and gist(found.output) == gist(own.output)
                self.claim(same, f"{each.key} gave {own!r}")
            else:
                self.claim(not found.success, f"{each.key} gave {own!r}")

    def _check_order(self) -> None:
        """See that keys are in the order in which branches ended, as far as these know it."""
        order = self.result.completion_order
        self.claim(sorted(order) == sorted(self.branches), f"completion_order {order}")
        ended: dict[str, tuple[int, bool]] = {}
        for key, branch in self.branches.items():
            life = getattr(branch.output, "life", None) or getattr(branch.error, "life", None)
            if life is not None and life.place is self.place:
                ended[key] = life.last(), True
        for each in self.place.children:
            if isinstance(each, Place):
                ended[each.key] = each.last(), False
        latest = -1
        for key in order:
            at, exact = ended.get(key, (-1, False))
            self.claim(not exact or at > latest, f"{key} ended before others: {order}")
            latest = max(latest, at)
        if isinstance(self.place.spec, t.Parallel):
            ends = [self.branches[key].queued_s + self.branches[key].latency_s for key in order]
            rises = all(a <= b + EPS for a, b in itertools.pairwise(ends))
            self.claim(rises, f"{order} ended at {ends}")


def check_run(world: World, result: PipelineResult[Any], read: list[Outcome] | None) -> None:
    """Check the whole run's result, against the model if nothing was stopped."""
    tree = world.tree
    marks = result.context["marks"]
    world.claim(marks == world.places[0].marks, f"the context holds {marks} in the end")
    names = [name for name, _ in named(tree.root)][: len(result.step_history)]
    seen = [step.name for step in result.step_history]
    world.claim(seen == names, f"the history is {seen}")
    orders = [outcome.order for outcome in read or ()]
    world.claim(orders == list(range(len(orders))), f"outcomes are numbered {orders}")
    if tree.calm():
        _check_calm(world, result, read)


def _check_calm(world: World, result: PipelineResult[Any], read: list[Outcome] | None) -> None:
    tree = world.tree
    model = Model(tree.live)
    history = model.line(tree.root, "data", "", last=True, top=True)
    final = history[-1]
    world.claim(len(history) == len(result.step_history), f"history: {result!r}")
    for step, want in zip(result.step_history, history, strict=False):
        compare(step, want, "", world)
    seen = (result.name, result.success, gist(result.output), result.reason)
    due = (tree.root.label, final.success, final.output if final.success else None, "")
    world.claim(seen == due, f"the run gave {seen}, and should have given {due}")
    world.claim(result.context["marks"] == model.marks, f"context: {result.context}")
    if read is not None:
        keys, told = Counter(each.key for each in read), Counter(model.told)
        world.claim(keys == told, f"outcomes of {keys - told} too much, of {told - keys} missing")
    if not result.success:
        labels = [boom.life.leaf.label for boom in booms(_raised(result))]
        world.claim(labels == final.errors, f"unwrap() raised {labels}, not {final.errors}")


def _raised(result: PipelineResult[Any]) -> BaseException | None:
    try:
        result.unwrap()
    except ExceptionGroup as group:
        return group
    return None
