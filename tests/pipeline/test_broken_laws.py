"""What becomes of a law that is broken: it is put in shadow, and the run goes on as if fixed."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest

from anabranch import ConcurrencyConfig, ControllerFailed, Decision, LimitChanged, LoadSampled
from anabranch.controllers import Shadow
from tests.pipeline.adaptive import Crowd, Script, changes, crowd_step, run


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class UnshownError(Unshown, Exception):
    """Be an error that cannot be shown."""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (math.nan, "decided nan, which is no whole number"),
        (-3, "decided -3, below the floor of 1"),
        (0, "decided 0, below the floor of 1"),
        (7, "decided 7, above the ceiling of 6"),
        (math.inf, "no whole number"),
        (2.5, "decided 2.5, which is no whole number"),
        (None, "returned None (NoneType), which is no Decision"),
        (Decision(None, "3", "x"), "decided '3' (str), which is no limit"),  # type: ignore[arg-type]  # wrong on purpose
        (ZeroDivisionError("mine"), "raised ZeroDivisionError('mine')"),
        (Decision(None, 10**5000, "x"), "decided int, which cannot be shown, above the ceiling"),
        (UnshownError(), "raised UnshownError, which cannot be shown"),
        (Unshown(), "returned Unshown, which cannot be shown (Unshown), which is no Decision"),
        (Decision(None, Unshown(), "x"), "which cannot be shown (Unshown), which is no limit"),  # type: ignore[arg-type]  # wrong on purpose
        (Decision(None, 3, Unshown()), "raised RuntimeError('no repr')"),  # type: ignore[arg-type]  # wrong on purpose too
    ],
    ids=map(str, range(14)),
)
async def test_a_law_that_decides_nonsense_is_put_in_shadow_and_the_last_limit_stays(
    said: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    crowd = Crowd(0.5)
    law = Script([3, said, 6])
    result, heard = await run(crowd_step(crowd, 40, ConcurrencyConfig(6, controller=law)))
    assert result.success
    assert changes(heard) == [(6, 3)]
    (failed,) = [each for each in heard if isinstance(each, ControllerFailed)]
    assert why in failed.reason
    assert failed.controller == "Script"
    assert crowd.most(2, 6) == 3
    assert len([each for each in caplog.messages if "in shadow" in each]) == 1
    assert len(law.loads) > 3


async def test_a_law_need_not_give_a_reason_nor_a_number_of_pythons_own() -> None:
    law = Script([Decision(1, Fraction(3), None)])  # type: ignore[arg-type]  # wrong on purpose
    _, heard = await run(crowd_step(Crowd(0.5), 20, ConcurrencyConfig(6, controller=law)))
    (changed,) = [each for each in heard if isinstance(each, LimitChanged)]
    assert (changed.new, changed.reason) == (3, "its controller gives no reason")


async def test_a_law_that_returns_a_coroutine_after_all_leaves_nothing_unawaited() -> None:
    async def decide() -> None:
        """Never run."""

    class Late(Script):
        def next(self, state: int, load: Any) -> Any:
            self.loads.append(load)
            return decide()

    _, heard = await run(crowd_step(Crowd(0.5), 20, ConcurrencyConfig(6, controller=Late([]))))
    (failed,) = [each for each in heard if isinstance(each, ControllerFailed)]
    assert "which is no Decision" in failed.reason


async def test_a_law_in_shadow_that_decides_nonsense_is_not_said_to_act() -> None:
    config = ConcurrencyConfig(6, controller=Shadow(Script([9])))
    _, heard = await run(crowd_step(Crowd(0.5), 20, config))
    told = [each for each in heard if isinstance(each, LoadSampled)]
    assert {(each.limit, each.acts) for each in told} == {(6, False)}


async def test_a_law_that_cannot_begin_leaves_the_limit_where_it_is() -> None:
    class Broken(Script):
        def initial(self, bounds: Any) -> int:
            raise KeyError("no")

    result, heard = await run(
        crowd_step(Crowd(0.5), 40, ConcurrencyConfig(6, controller=Broken([1])))
    )
    assert result.success
    assert [each.reason for each in heard if isinstance(each, ControllerFailed)]
    assert changes(heard) == []
