"""Peers are asked as told, in small; and what is missing, hangs or fails is told in their row."""

import contextlib
import re
import sys
import time
from pathlib import Path

import attrs
import psutil
import pytest

from tests.bench import __main__ as bench
from tests.bench import _peers, _peers_asking, _peers_child, _peers_env, _peers_first, _peers_page
from tests.bench._peers_extent import PeersExtent
from tests.bench._peers_known import BY_KEY, PEERS, beside

TINY = PeersExtent(
    branches=50,
    calls=4,
    items=200,
    running=10,
    programs=2,
    rounds=1,
    starts=1,
    breached=20,
    patience=1.0,
    followed=1.2,
    lasts=1.0,
    limit=30.0,
)
HERE = _peers_env.Environment(sys.executable, _peers_env._environ(Path(sys.executable)))
processes = pytest.mark.leaves("process", "descriptor", reason="what a peer leaves is its answer")


def asked(key: str, *questions: str, extent: PeersExtent = TINY) -> dict[str, dict[str, object]]:
    return _peers_asking.ask(HERE, BY_KEY[key], questions, extent)


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.parametrize("key", ["ours-asyncio", "ours-trio"])
def test_ours_ends_nested_under_one_token_and_leaves_nothing_running(key: str) -> None:
    found = asked(key, "cancel", "timeout", "breach", "outer", "nested")
    assert found["cancel"]["left"] == found["timeout"]["left"] == 0
    assert found["nested"] == {"ends": True, "peak": 2, "limit": 2}
    assert found["breach"] == {"started": 3, "of": 20, "told": "UsageLimitExceededError"}
    assert found["outer"] == {"plain": "goes on", "failing": "goes on"}


@pytest.mark.slow
@pytest.mark.real_clock
def test_a_process_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    program = f"sleep 60 & echo $! > {tmp_path}/pid; echo said; echo why >&2; wait"
    code, out, words = _peers_asking._ended(["sh", "-c", program], HERE.env, limit=1.0)
    assert (code, out, words) == (None, "said\n", "why\n")
    with contextlib.suppress(psutil.NoSuchProcess):
        left = psutil.Process(int((tmp_path / "pid").read_text()))
        while left.status() != psutil.STATUS_ZOMBIE:  # it was killed, and ends when it is its turn
            time.sleep(0.01)  # pytest's own timeout ends what never ends


def test_an_answer_that_came_before_the_end_is_kept() -> None:
    out = 'noise\n{"question": "breach", "answer": {"started": 5}}\n'
    kept = {"breach": {"started": 5}}
    hung = _peers_asking.answers_of(["breach", "nested"], None, out, "", 60)
    assert hung == kept | {"nested": {"failed": "no answer within 60 s"}}
    words = "Traceback\n  | ValueError: bad\n  +----\n"
    crashed = _peers_asking.answers_of(["breach", "nested"], 1, out, words, 60)
    assert crashed == kept | {"nested": {"failed": "exit code 1: ValueError: bad"}}


@pytest.mark.slow
@pytest.mark.real_clock
@processes
@pytest.mark.parametrize("key", ["gather", "trio", "ours-pool", "ours-threads", "ours-processes"])
def test_costs_are_measured_beside_ours(key: str) -> None:
    found = asked(key, "cost", "memory", "cancel")
    assert not any("failed" in each for each in found.values()), found
    alone = beside(BY_KEY[key]) is BY_KEY[key]
    assert ("branch_ratio" in found["cost"]) is not alone
    assert all(value > 0 for value in found["cost"].values())


def test_a_peer_that_is_not_there_says_so() -> None:
    absent = attrs.evolve(BY_KEY["aiometer"], needs="no_such_module")
    assert absent.missing() == "no_such_module is not installed here"
    program = attrs.evolve(BY_KEY["xargs"], needs="no-such-program")
    assert program.missing() == "no-such-program is not installed here"


def test_nothing_is_asked_when_the_time_is_up_and_every_answer_says_so() -> None:
    peers, told = [BY_KEY["ours-trio"], BY_KEY["trio"]], []
    answers = _peers_asking.ask_all(HERE, peers, TINY, told.append, until=0.0)
    every = [each for found in answers.values() for each in found.values()]
    assert every == [{"failed": _peers_asking.NO_TIME}] * 16
    assert _peers.unasked(answers) == len(told) + 10 == 16
    assert _peers_first.firsts(HERE, peers, 1, told.append, until=0.0) == {
        "ours-trio": [],
        "trio": [],
    }


def test_what_a_peer_raises_is_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(peer: object, extent: object) -> None:
        raise ValueError("not today\nnor tomorrow")

    monkeypatch.setitem(_peers_child.ASKED["coroutines"], "cost", broken)
    assert _peers_child.answer("gather", "cost", TINY) == {"failed": "ValueError: not today"}


def test_the_lock_is_hashed_and_says_nothing_of_places() -> None:
    lock = _peers_env.LOCK.read_text()
    blocks = re.split(r"\n(?=[a-z0-9])", lock[lock.index("\n", lock.index("in\n")) :].strip())
    assert len(blocks) > 20
    assert [block for block in blocks if "==" not in block or "--hash=sha256:" not in block] == []
    assert [word for word in ("://", "--index", "--find-links") if word in lock] == []


def test_each_peer_has_a_first_result_and_is_compared_with_one_of_ours() -> None:
    keys = {peer.key for peer in PEERS if not peer.only}
    assert keys == {*_peers_first.CODE, *_peers_first.SHELL}
    assert all(beside(peer).is_ours and beside(peer).kind == peer.kind for peer in PEERS)


@pytest.mark.parametrize("key", _peers_first.CODE)
def test_the_programs_of_first_results_are_python(key: str) -> None:
    compile(_peers_first.CODE[key], key, "exec")


def test_a_peer_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(SystemExit, match="'gahter' is no peer; there are ours-asyncio, "):
        bench.main(["peers", "gahter"])


def test_a_named_peer_brings_what_it_is_compared_with() -> None:
    assert [peer.key for peer in _peers.chosen(["trio"])] == ["ours-trio", "trio"]


ANSWERS = {
    "ours-asyncio": {
        "cost": {"branch": 5.0, "two": 90.0, "twenty": 300.0},
        "memory": {"bytes": 500.0},
        "cancel": {"quiet_s": 0.01, "left": 0, "running": 10},
        "nested": {"ends": True, "peak": 2, "limit": 2},
    },
    "gather": {
        "cost": {"branch": 20.0, "branch_ratio": 4.0, "two": 18.0, "two_ratio": 0.2},
        "memory": {"failed": "no answer within 60 s"},
        "cancel": {"quiet_s": 0.001, "left": 3, "running": 10},
        "nested": {"ends": False, "peak": 0, "limit": 2},
    },
    "aiometer": {"cost": {"missing": "aiometer is not installed here"}},
}
SHOWN = [BY_KEY[key] for key in ANSWERS]


def test_the_table_says_figures_ratios_and_what_is_not_there() -> None:
    made = _peers_page.sections(SHOWN, ANSWERS, "measured today")
    assert "| 20 us (4) | 18 us (0.2) |" in made["costs"]
    assert "| failed | 3 of 10 ran on |" in made["costs"]
    assert "| aiometer | not installed |" in made["costs"]
    assert "**deadlock**" in made["facts"]
    assert "- asyncio.gather + Semaphore, memory: no answer within 60 s" in made["failures"]
    assert "- aiometer: aiometer is not installed here" in made["failures"]


def test_where_others_do_better_is_told_by_the_figures_themselves() -> None:
    lines = _peers_page.losses(SHOWN, ANSWERS).splitlines()
    assert lines == ["- a step of 2: asyncio.gather + Semaphore 0.2"]


def test_every_chart_has_a_bar_for_each_figure_that_is_there() -> None:
    charts = _peers_page.charts(SHOWN, ANSWERS)
    assert charts["peers-branch"].count('<rect class="b"') == 2
    assert "<text" in charts["peers-first"]


def test_the_page_has_the_marks_and_only_what_is_between_them_is_made() -> None:
    page = _peers_page.PAGE.read_text()
    made = _peers_page.sections(SHOWN, ANSWERS, "measured today")
    filled = _peers_page.filled(page, made)
    assert "measured today" in filled
    assert _peers_page.filled(filled, made) == filled
    with pytest.raises(SystemExit, match="has no marks for 'weather'"):
        _peers_page.filled(page, {"weather": "fine"})


def test_the_page_has_two_rows_for_every_peer_and_all_of_its_charts() -> None:
    page = _peers_page.PAGE.read_text()
    for peer in PEERS:
        name = f"**{peer.name}**" if peer.is_ours else peer.name
        assert page.count(f"\n| {name} | ") == 2
    for chart in _peers_page.charts([], {}):
        assert f"(../plots/{chart}.svg)" in page
        assert (_peers_page.PLOTS / f"{chart}.svg").is_file()
