"""See that results are values: they compare, show themselves, and turn into plain data."""

import copy
import json
import pickle
import time
import traceback
from typing import Any

import anyio
import attrs
import pytest

from anabranch import (
    BranchCancelledError,
    BranchTimedOutError,
    Pipeline,
    PipelineResult,
    Retry,
    Status,
    Step,
    StepFailedError,
    StepResult,
)


async def echo(data: Any) -> Any:
    return data


async def fail(data: Any) -> Any:
    raise ValueError(f"<b>{data}</b>")


async def sleep(_: Any) -> None:
    await anyio.sleep(100)


async def result_of(branches: dict[str, Any], **options: Any) -> PipelineResult[Any]:
    return await Pipeline([Step.parallel("p", branches, **options)], name="run").run(7)


async def test_a_result_has_what_the_contract_names() -> None:
    result = await result_of({"a": echo})
    for name in ("success", "output", "step_history", "context", "usage", "duration"):
        getattr(result, name)
    names = "name success status output error feedback reason attempts latency_s queued_s cost_usd"
    for name in (*names.split(), "token_counts", "branches", "completion_order"):
        getattr(result.step_history[0], name)
        getattr(result.step_history[0].branches["a"], name)


async def test_a_result_has_its_fields_and_nothing_else_however_it_ended() -> None:
    nested = Step.parallel("nested", {"deep": echo})
    tried = Step("tried", fail, retry=Retry(attempts=2, wait=0))
    branches = {"good": echo, "bad": fail, "late": sleep, "tried": tried, "nested": nested}
    result = await result_of(branches, timeout=1, max_concurrency=4)
    (step,) = result.step_history
    assert vars(result).keys() == {field.name for field in attrs.fields(PipelineResult)}
    names = {field.name for field in attrs.fields(StepResult)}
    for each in (step, *step.branches.values(), step.branches["nested"].branches["deep"]):
        assert vars(each).keys() == names, each.name


async def test_results_are_frozen() -> None:
    result = await result_of({"a": echo})
    step = result.step_history[0]
    for value in (result, step, step.branches["a"]):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.success = False
    with pytest.raises(TypeError):
        step.branches["b"] = step
    with pytest.raises(KeyError):
        step.branches["nobody"]


async def test_results_compare() -> None:
    first = await result_of({"a": echo, "b": echo})
    second = await result_of({"a": echo, "b": echo})
    same = {"latency_s": 0.0, "queued_s": 0.0}
    one, other = (
        attrs.evolve(each.step_history[0].branches["a"], **same) for each in (first, second)
    )
    assert one == other
    assert one != attrs.evolve(other, output=8)
    assert first.step_history[0].branches == first.step_history[0].branches


async def test_a_result_looks_the_same_however_often_it_is_looked_at() -> None:
    step = (await result_of({"a": fail})).step_history[0]
    assert step.branches["a"] is step.branches["a"]
    assert step.branches["a"].error.__notes__ == ["branch a of step p"]


async def test_to_dict_is_plain_as_far_as_the_users_values_are() -> None:
    inner = Step.parallel("inner", {"x": echo, "y": fail})
    result = await result_of({"a": echo, "bad": fail, "nested": inner, "late": sleep}, timeout=2)
    plain = json.loads(json.dumps(result.to_dict()))
    step = plain["step_history"][0]
    assert step["status"] == "timed_out"
    assert step["reason"] == "deadline: 2 s (timeout=)"
    assert step["output"]["a"] == 7
    assert step["output"]["bad"]["error"] == "ValueError('<b>7</b>')"
    assert step["branches"]["nested"]["branches"]["x"]["output"] == 7
    assert step["branches"]["late"]["status"] == "cancelled"
    assert "late" in step["completion_order"]
    mapped = await Pipeline([Step.map_over("m", fail)]).run([1, 2])
    assert json.loads(json.dumps(mapped.to_dict()))["step_history"][0]["counts"] == {"failed": 2}


async def test_unwrap_is_the_output_or_a_group_of_the_branches_own_errors() -> None:
    assert (await result_of({"a": echo})).unwrap() == {"a": 7}
    assert (await result_of({"a": echo})).step_history[0].unwrap() == {"a": 7}
    result = await result_of({"a": fail, "b": echo, "c": fail})
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    branches = result.step_history[0].branches
    assert caught.value.exceptions == (branches["a"].error, branches["c"].error)
    assert branches["a"].error.__notes__ == ["branch a of step p"]
    assert branches["c"].error.__notes__ == ["branch c of step p"]
    with pytest.raises(ExceptionGroup) as alone:
        branches["a"].unwrap()
    assert alone.value.exceptions == (branches["a"].error,)


async def test_what_was_stopped_is_unwrapped_to_an_error_that_says_so() -> None:
    result = await result_of({"a": sleep, "b": Step("b", sleep, timeout=1)}, timeout=2)
    branches = result.step_history[0].branches
    for key, kind in (("a", BranchCancelledError), ("b", BranchTimedOutError)):
        with pytest.raises(ExceptionGroup) as caught:
            branches[key].unwrap()
        assert isinstance(caught.value.exceptions[0], kind)
        assert "deadline" in str(caught.value.exceptions[0]) or key == "b"
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    assert any(isinstance(each, BranchTimedOutError) for each in caught.value.exceptions)


async def test_every_error_is_unwrapped_exactly_once() -> None:
    errors = [KeyError(i) for i in range(12)]

    def raising(error: Exception) -> Any:
        async def raises(_: Any) -> None:
            raise error

        return raises

    branches = {
        f"b{i}": Step.parallel({f"x{j}": raising(errors[4 * i + j]) for j in range(4)})
        for i in range(3)
    }
    result = await result_of(branches)
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    found = list(_leaves(caught.value))
    assert sorted(found, key=id) == sorted(errors, key=id)


def _leaves(error: BaseException) -> Any:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def test_a_result_that_was_made_by_hand_can_be_unwrapped() -> None:
    failed = StepResult(name="a", success=False, status=Status.FAILED, feedback="it broke")
    with pytest.raises(ExceptionGroup) as caught:
        failed.unwrap()
    assert isinstance(caught.value.exceptions[0], StepFailedError)


# Shown ---------------------------------------------------------------------------------------


async def test_a_repr_tells_how_each_branch_ended() -> None:
    result = await result_of({"a": echo, "bad": fail, "late": sleep}, timeout=2)
    text = repr(result.step_history[0])
    head, first, second, third = text.splitlines()
    assert head.startswith("StepResult 'p': timed_out in 2 s (deadline: 2 s (timeout=))")
    assert first.startswith("  a: succeeded in ")
    assert second.endswith("(raised ValueError: <b>7</b>)")
    assert third.startswith("  late: cancelled in 2 s (deadline")
    assert repr(result).startswith("PipelineResult 'run': failed in 2 s\n  p: timed_out")


async def test_a_repr_of_many_branches_is_short() -> None:
    result = await result_of({f"b{i}": echo for i in range(100)}, max_concurrency=9)
    step = result.step_history[0]
    assert len(repr(step).splitlines()) == 12
    assert repr(step).endswith("... and 90 more")
    assert len(repr(step.branches)) < 200
    assert len(repr(result)) < 200
    assert "... and 90 more" in step._repr_html_()


async def test_html_is_escaped() -> None:
    result = await result_of({"<script>": fail})
    for html in (result._repr_html_(), result.step_history[0]._repr_html_()):
        assert "<script>" not in html
        assert "<b>" not in html
    assert "&lt;b&gt;" in result.step_history[0]._repr_html_()


async def test_an_error_that_cannot_be_written_or_noted_costs_no_result() -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    class SealedError(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError("sealed")

    async def unspeakable(_: Any) -> None:
        raise UnspeakableError

    async def sealed(_: Any) -> None:
        raise SealedError("words")

    result = await result_of({"a": unspeakable, "b": sealed})
    branches = result.step_history[0].branches
    assert branches["a"].feedback == "raised UnspeakableError: its message cannot be written"
    assert isinstance(branches["b"].error, SealedError)
    assert repr(result)
    assert json.dumps(result.to_dict())


async def test_a_message_of_many_lines_stays_in_its_place() -> None:
    async def talks(_: Any) -> None:
        raise ValueError("x" * 10_000)

    result = await result_of({"a": talks})
    assert len(repr(result.step_history[0])) < 1_000


@pytest.mark.slow
async def test_a_group_of_50_000_errors_is_shown_capped_and_soon() -> None:
    result = await Pipeline([Step.map_over("m", fail, max_concurrency=10)]).run(range(50_000))
    start = time.process_time()
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    text = "".join(traceback.format_exception(caught.value))
    assert len(caught.value.exceptions) == 50_000
    assert len(repr(result)) < 500
    assert len(str(result.step_history[0])) < 2_000
    assert len(text) < 100_000
    assert time.process_time() - start < 10


async def test_a_result_can_be_pickled_and_copied() -> None:
    async def fails(data: int) -> None:
        raise ValueError(data)

    step = Step.parallel({"a": fails, "b": Step.parallel({"c": fails})})
    result = await Pipeline([step]).run(1)
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert twin.step_history[0].branches["b"].branches["c"].status == "failed"


async def test_a_nested_step_that_is_stopped_keeps_what_its_branches_were() -> None:
    async def quick(data: int) -> int:
        return data

    async def slow(data: int) -> None:
        await anyio.sleep(9)

    inner = Step.parallel({"quick": quick, "slow": slow})
    result = await Pipeline([Step.parallel({"in": inner}, timeout=1)]).run(1)
    found = result.step_history[0].branches["in"]
    assert found.status == "cancelled"
    assert found.branches["quick"].success
    assert found.branches["slow"].status == "cancelled"


async def test_a_nested_steps_own_timeout_is_its_own() -> None:
    async def slow(data: int) -> None:
        await anyio.sleep(9)

    inner = Step.parallel({"slow": slow}, timeout=1)
    result = await Pipeline([Step.parallel({"in": inner})]).run(1)
    found = result.step_history[0].branches["in"]
    assert (found.status, found.reason) == ("timed_out", "deadline: 1 s (timeout=)")
