"""Make tables, charts and sentences of what peers answered, and write them into the page.

What stands between two marks of docs/explanation/peers.md is made; the prose around it is not.
An answer that failed, or was not to be had, stands in its cell and is told below the table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from anabranch.testing._chart import bar_chart
from tests.bench._peers_asking import Answer, Answers
from tests.bench._peers_known import Peer, beside

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "explanation" / "peers.md"
PLOTS = ROOT / "docs" / "plots"
FEWER = 0.9  # a share of our figure under which the other is said to win
KINDS = {
    "coroutines": "Coroutines",
    "threads": "Plain functions in threads",
    "processes": "Plain functions in processes",
    "programs": "Programs",
}
COSTS = {
    "a branch": ("cost", "branch"),
    "a step of 2": ("cost", "two"),
    "a step of 20": ("cost", "twenty"),
    "an item that waits": ("memory", "bytes"),
    "cancel to quiet": ("cancel", "quiet_s"),
    "first result": ("first", "seconds"),
}
FACTS = {
    "timeout": "after a timeout",
    "nested": "nested in itself",
    "breach": "stop in the third of many",
    "outer": "ended from outside",
    "follow": "a slower service, limit 64",
}


def value_of(answers: Answers, peer: Peer, name: str) -> float | None:
    question, field = COSTS[name]
    answer = answers[peer.key].get(question, {})
    found = None if answer.get("left") else answer.get(field)  # what runs on is not quiet
    return found if isinstance(found, (int, float)) and math.isfinite(found) else None


def ratio_of(answers: Answers, peer: Peer, name: str) -> float | None:
    """Return a peer's figure as a share of ours: taken in turns in one process, where it was."""
    question, field = COSTS[name]
    found = answers[peer.key].get(question, {}).get(f"{field}_ratio")
    if found is not None:
        return float(found)
    mine, ours = value_of(answers, peer, name), value_of(answers, beside(peer), name)
    if mine is None or not ours or peer.is_ours:
        return None
    return mine / ours


def cost_cell(answers: Answers, peer: Peer, name: str) -> str:
    """Return a figure with its unit, and how many times ours it is."""
    answer = answers[peer.key].get(COSTS[name][0], {})
    value = value_of(answers, peer, name)
    if name == "cancel to quiet" and answer.get("left"):
        return f"{answer['left']:,} of {answer['running']:,} ran on"
    if value is None:
        return why_not(answer)
    words = amount(value, COSTS[name][1])
    ratio = ratio_of(answers, peer, name)
    return words if ratio is None else f"{words} ({times(ratio)})"


def times(ratio: float) -> str:
    """Write how many times something it is."""
    if ratio < 0.01:
        return "under 0.01"
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:,.0f}"


def amount(value: float, field: str) -> str:
    """Write a figure in the unit that its size asks for."""
    if field == "bytes":
        return "under 10 B" if value < 10 else f"{value:,.0f} B"
    micros = value if field in ("branch", "two", "twenty") else value * 1e6
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if micros >= size:
            return f"{micros / size:.3g} {unit}"
    return f"{micros:.3g} us"


def why_not(answer: Answer) -> str:
    for field, words in (("words", "{}"), ("missing", "not installed"), ("failed", "failed")):
        if field in answer:
            return words.format(answer[field])
    return "not seen in the noise" if answer else "-"


def fact_cell(answers: Answers, peer: Peer, question: str) -> str:
    """Say in a few words what was seen."""
    answer = answers[peer.key].get(question, {})
    if not answer or {"words", "missing", "failed"} & set(answer):
        return why_not(answer)
    return SAY[question](answer)


def _timeout(answer: Answer) -> str:
    late = f", back {answer['late_s']:.1f} s late" if answer.get("late_s", 0) >= 0.5 else ""
    return (f"{answer['left']} still run" if answer["left"] else "nothing runs") + late


def _nested(answer: Answer) -> str:
    if answer["ends"] == "error":
        return "an error"
    if not answer["ends"]:
        return "**deadlock**"
    most = answer["peak"]
    return f"ends; at most {most} under a limit of 2" if most > 2 else "ends; limit kept"


def _breach(answer: Answer) -> str:
    return f"{answer['started']} of {answer['of']} started"


def _outer(answer: Answer) -> str:
    if "plain" in answer:
        plain, failing = answer["plain"], answer["failing"]
        return plain if plain == failing else f"{plain}; {failing} if a branch fails meanwhile"
    ended = f"after {answer['end_s']:.1f} s" if answer["ended"] else "not ended"
    return f"Ctrl-C: {ended}" + (f", {answer['left']} run on" if answer["left"] else "")


def _follow(answer: Answer) -> str:
    return f"{answer['last']} at once"


SAY: dict[str, Callable[[Answer], str]] = {
    "timeout": _timeout,
    "nested": _nested,
    "breach": _breach,
    "outer": _outer,
    "follow": _follow,
}


def tables(peers: Sequence[Peer], answers: Answers, names: Mapping[str, str], cell: object) -> str:
    """Return a table for each kind of call, a row for each peer."""
    parts = []
    for kind, title in KINDS.items():
        rows = [peer for peer in peers if peer.kind == kind]
        if not rows:
            continue
        lines = [f"| {title} | " + " | ".join(names.values()) + " |"]
        lines.append("|---" * (len(names) + 1) + "|")
        for peer in rows:
            cells = [cell(answers, peer, name) for name in names]
            name = f"**{peer.name}**" if peer.is_ours else peer.name
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def losses(peers: Sequence[Peer], answers: Answers) -> str:
    """Say, for each figure, which peers do with clearly less than we do."""
    lines = []
    for name in COSTS:
        fewer = [
            (ratio, peer)
            for peer in peers
            if not peer.is_ours and (ratio := ratio_of(answers, peer, name)) is not None
            if ratio < FEWER
        ]
        if fewer:
            ordered = sorted(fewer, key=lambda each: each[0])
            words = ", ".join(f"{peer.name} {times(ratio)}" for ratio, peer in ordered)
            lines.append(f"- {name}: {words}")
    return "\n".join(lines) or "- nowhere in this run, by more than a tenth"


def failures(peers: Sequence[Peer], answers: Answers) -> str:
    """Say which answers are not there, and why."""
    lines = {
        f"- {peer.name}, {question}: {answer['failed']}": None
        for peer in peers
        for question, answer in answers[peer.key].items()
        if "failed" in answer
    }
    for peer in peers:
        missing = {each["missing"] for each in answers[peer.key].values() if "missing" in each}
        lines |= {f"- {peer.name}: {words}": None for words in sorted(missing)}
    return "\n".join(lines) or "Every peer was there, and answered."


def charts(peers: Sequence[Peer], answers: Answers) -> dict[str, str]:
    """Return the charts by their file's name."""
    wanted = {
        "peers-branch": ("a branch", ("coroutines",), "CPU for a branch, limit 10"),
        "peers-small": ("a step of 2", ("coroutines",), "CPU for a step of two branches"),
        "peers-memory": (
            "an item that waits", ("coroutines", "threads"), "Memory for each of the queued items",
        ),
        "peers-first": ("first result", tuple(KINDS), "From the start of a program to its result"),
    }  # fmt: skip
    found = {}
    for file, (name, kinds, title) in wanted.items():
        shown = [(peer, value_of(answers, peer, name)) for peer in peers if peer.kind in kinds]
        bars = [
            (peer.name, value, amount(value, COSTS[name][1]))
            for peer, value in shown
            if value is not None
        ]
        found[file] = bar_chart(title, bars)
    return found


def sections(peers: Sequence[Peer], answers: Answers, measured: str) -> dict[str, str]:
    """Return what stands between the marks, by their names."""
    return {
        "measured": measured,
        "costs": tables(peers, answers, {name: name for name in COSTS}, cost_cell),
        "facts": tables(peers, answers, FACTS, fact_cell),
        "losses": losses(peers, answers),
        "failures": failures(peers, answers),
    }


def filled(page: str, made: Mapping[str, str]) -> str:
    """Return the page with each section anew; a section that it has no marks for is an error."""
    for name, text in made.items():
        marks = re.compile(rf"(<!-- made: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marks.search(page):
            raise SystemExit(f"{PAGE} has no marks for {name!r}; put them where it belongs.")
        page = marks.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
    return page


def write(peers: Sequence[Peer], answers: Answers, measured: str) -> None:
    """Write the page and its charts."""
    page = filled(PAGE.read_text(encoding="utf-8"), sections(peers, answers, measured))
    PAGE.write_text(page, encoding="utf-8")
    for name, chart in charts(peers, answers).items():
        (PLOTS / f"{name}.svg").write_text(chart, encoding="utf-8")
