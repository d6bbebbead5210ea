"""Stop the branches of a step by rules that are data: Halt for the step, CancelWhen for some.

Rules look at a branch the moment that it has ended, in the loop, before anything else may start:
nothing polls. A whole step is stopped by one cancel of one scope.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from anabranch._branch import Branch
from anabranch._glob import matcher
from anabranch._options import exact_fields
from anabranch._scheduler import Scheduler
from anabranch._work import Status
from anabranch.errors import ConfigurationError
from anabranch.pipeline._patterns import Unmatched, check_matches
from anabranch.pipeline._stopped import was_stopped

_WORDS = {  # of what counts: one, several
    "failure": ("failure", "failures"),
    "success": ("success", "successes"),
    "done": ("branch done", "branches done"),
}
ENDS = ("succeeded", "failed", "done")


def _one_of(choices: Sequence[str]) -> Any:
    def check(value: object, attribute: attrs.Attribute[Any], given: object) -> None:
        if given not in choices:
            raise ConfigurationError(
                f"{type(value).__name__}: {attribute.name}={given!r} is none of "
                f"{', '.join(map(repr, choices))}"
            )

    return check


def _check_count(_: object, __: object, count: Any) -> None:
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(
            f"Halt: count={count!r} ({type(count).__name__}) is no number of branches; "
            f"give a whole number from 1 up"
        )


def _check_percent(_: object, __: object, percent: Any) -> None:
    if percent is None:
        return
    number = isinstance(percent, (int, float)) and not isinstance(percent, bool)
    if not (number and 1 <= percent <= 100):
        hint = ""
        if isinstance(percent, float) and 0 < percent < 1:
            hint = f"; {percent!r} reads like a fraction: is percent={100 * percent:g} meant?"
        raise ConfigurationError(
            f"Halt: percent={percent!r} ({type(percent).__name__}) is no percentage; "
            f"give a number from 1 to 100{hint}"
        )


def _check_glob(rule: object, attribute: attrs.Attribute[Any], glob: object) -> None:
    if not isinstance(glob, str) or not glob:
        raise ConfigurationError(
            f"{type(rule).__name__}: {attribute.name}={glob!r} ({type(glob).__name__}) is no glob; "
            f"give one over the keys of branches, such as 'low_*'"
        )


def _check_flag(rule: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{type(rule).__name__}: {attribute.name}={value!r} ({type(value).__name__}) "
            f"is neither True nor False"
        )


@exact_fields
@attrs.frozen
class Halt:
    """End a step early, when enough of its branches have ended in a certain way.

    Args:
        when: ``now`` cancels the branches that run, ``soon`` only starts no more.
        on: what counts: ``failure`` (also a branch's own timeout), ``success``, or ``done``
            (either). Branches that were cancelled, or never began, do not count.
        count: how many of them; 1 if neither is given.
        percent: how many of a hundred branches of the step, instead of ``count``.

    Halted by successes the step has succeeded, halted by failures it has failed.

    Raises:
        ConfigurationError: what cannot be meant; count and percent together.
    """

    when: str = attrs.field(default="now", validator=_one_of(("now", "soon")))
    on: str = attrs.field(default="failure", validator=_one_of(tuple(_WORDS)))
    count: int | None = attrs.field(default=None, validator=_check_count)
    percent: float | None = attrs.field(default=None, validator=_check_percent, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.count is not None and self.percent is not None:
            raise ConfigurationError(
                f"Halt: count={self.count} and percent={self.percent:g} are both given; give one"
            )

    def needed(self, where: str, total: int | None) -> int:
        """Return how many branches of ``total`` it takes.

        Raises:
            ConfigurationError: it takes more than there are, or a percentage of nobody knows what.
        """
        if self.percent is not None:
            if total is None:
                raise ConfigurationError(
                    f"{where}: {self!r} needs items whose number is known; "
                    f"give items with a length, or count="
                )
            return max(1, math.ceil(total * self.percent / 100))
        needed = self.count or 1
        if total is not None and 0 < total < needed:
            raise ConfigurationError(
                f"{where}: {self!r} can never come true with {total} branches; "
                f"give a count up to {total}"
            )
        return needed

    def counts(self, status: Status | None) -> bool:
        """Tell whether a branch that ended like this counts."""
        if status is Status.CANCELLED:
            return False
        return self.on == "done" or (status is Status.SUCCEEDED) == (self.on == "success")

    def reason(self, needed: int) -> str:
        """Say why the step ends."""
        share = "" if self.percent is None else f" ({self.percent:g} %)"
        return f"halt: {needed} {_WORDS[self.on][needed != 1]}{share}"


@exact_fields
@attrs.frozen
class CancelWhen:
    """Cancel branches of a step, queued or running, when others of it have ended.

    Args:
        pattern: glob over the keys of the branches to wait for; nested ones are paths.
        ended: how: ``succeeded``, ``failed`` (also by its own timeout), or ``done`` (either);
            one that was cancelled, or never began, has ended in none of these ways.
        cancel: glob over the keys of the branches that are cancelled then.
        all: True waits until all that match ``pattern`` have ended like this.

    A branch that has ended is never cancelled, so ``cancel`` may match it too.

    Raises:
        ConfigurationError: what cannot be meant.
    """

    pattern: str = attrs.field(validator=_check_glob)
    ended: str = attrs.field(validator=_one_of(ENDS))
    cancel: str = attrs.field(validator=_check_glob, kw_only=True)
    all: bool = attrs.field(default=False, validator=_check_flag, kw_only=True)

    def fits(self, status: Status | None) -> bool:
        """Tell whether a branch that ended like this is what the rule waits for."""
        if status is Status.CANCELLED:
            return False
        return self.ended == "done" or (status is Status.SUCCEEDED) == (self.ended == "succeeded")


def check_rules(
    where: str, keys: Collection[str], below: Collection[str], rules: object
) -> tuple[CancelWhen, ...]:
    """Check the rules of a step with branches ``keys``, and ``below`` what is nested in them.

    Raises:
        ConfigurationError: no rules, or one that could never do anything.
    """
    if isinstance(rules, CancelWhen) or not isinstance(rules, Sequence) or isinstance(rules, str):
        raise ConfigurationError(
            f"{where}: cancel_when={rules!r:.80} ({type(rules).__name__}) is no list; "
            f"give a list of CancelWhen"
        )
    for rule in rules:
        if not isinstance(rule, CancelWhen):
            raise ConfigurationError(
                f"{where}: cancel_when holds {rule!r:.80} ({type(rule).__name__}); "
                f"give CancelWhen('high_*', 'succeeded', cancel='low_*')"
            )
        if rule.all and "/" in rule.pattern:
            raise ConfigurationError(
                f"{where}: {rule!r} waits for all nested branches, and nobody knows how many "
                f"there will be; write it in the nested step, or without all=True"
            )
        for glob in (rule.pattern, rule.cancel):
            check_matches(where, glob, keys, below)
    return tuple(rules)


def check_priorities(
    where: str, keys: Collection[str], priorities: object
) -> Mapping[str, int] | None:
    """Return the priority of each key that has one, from globs; the first that matches counts.

    Raises:
        ConfigurationError: no mapping of globs to whole numbers, or a glob without a branch.
    """
    if priorities is None:
        return None
    if not isinstance(priorities, Mapping):
        raise ConfigurationError(
            f"{where}: priorities={priorities!r:.80} ({type(priorities).__name__}) is no mapping; "
            f"give globs and whole numbers: {{'high_*': 10}}"
        )
    found: dict[str, int] = {}
    for glob, priority in priorities.items():
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise ConfigurationError(
                f"{where}: priorities[{glob!r}]={priority!r} ({type(priority).__name__}) "
                f"is no whole number"
            )
        check_matches(where, glob, keys, ())
        for key in filter(matcher(glob), keys):
            found.setdefault(key, priority)
    return found


class Rules:
    """Apply the rules of one step to one run of it; nested steps report to it as well.

    Attributes:
        halted: why the step has ended early; empty while it has not.
    """

    def __init__(
        self, path: str, halt: Halt | None, needed: int, rules: Sequence[CancelWhen] = ()
    ) -> None:
        self.halted = ""
        self._path = path  # of the branch that the step is in
        self._halt = halt
        self._missing = needed
        self._needed = needed
        self._step: Scheduler | None = None  # the first that opens is the step's own
        self._open: dict[Scheduler, None] = {}
        self._fired: dict[CancelWhen, str] = {}  # and why; what begins later is cancelled too
        self._waiting: list[tuple[CancelWhen, Callable[[str], bool], set[str] | None]] = [
            (rule, matcher(rule.pattern), None) for rule in rules
        ]
        self._unmatched = Unmatched((), ())
        self._cancelled = 0

    @property
    def cancels(self) -> bool:
        """Tell whether single branches may be cancelled by it."""
        return bool(self._waiting)

    def expect(self, keys: Collection[str]) -> None:
        """Hear of which branches the step has, for rules that wait for all that match."""
        self._waiting = [
            (rule, chosen, set(filter(chosen, keys)) if rule.all else None)
            for rule, chosen, _ in self._waiting
        ]
        globs = [glob for rule, *_ in self._waiting for glob in (rule.pattern, rule.cancel)]
        self._unmatched = Unmatched(globs, keys)

    def opened(self, scheduler: Scheduler) -> None:
        """Hear that the step, or one nested in it, begins."""
        self._step = self._step or scheduler
        self._open[scheduler] = None

    def filled(self, scheduler: Scheduler) -> None:
        """Hear that its branches are queued: some may have been cancelled before they were."""
        for rule, reason in self._fired.items():
            self._cancel_in(scheduler, rule, "", reason)

    def forbids(self, key: str) -> str:
        """Say why a branch that is only made now must not begin; empty if it may."""
        path = key.removeprefix(self._path)
        for rule, reason in self._fired.items():
            if matcher(rule.cancel)(path):
                self._cancelled += 1
                return reason
        return ""

    def heeds(self, branch: Branch) -> bool:
        """Tell whether something may follow from how ``branch`` ended; a thread asks."""
        key, status = branch.key.removeprefix(self._path), branch.status
        if self._halt is not None and "/" not in key and self._halt.counts(status):
            return True
        return any(chosen(key) and rule.fits(status) for rule, chosen, _ in tuple(self._waiting))

    def closed(self, scheduler: Scheduler) -> None:
        """Hear that it has ended."""
        self._open.pop(scheduler, None)
        ledger = scheduler.ledger
        by_itself = not (ledger.stopped or ledger.cut_off or self._cancelled or self.halted)
        if scheduler is self._step and by_itself:
            self._unmatched.tell(ledger.step)

    def ended(self, scheduler: Scheduler, branch: Branch) -> None:
        """Hear that a branch has ended, and do what the rules say."""
        status = Status.CANCELLED if was_stopped(branch) else branch.status
        if self._halt is not None and scheduler is self._step and self._halt.counts(status):
            self._missing -= 1
            if not self._missing:
                self._stop(scheduler, self._halt)
        if self._waiting or self._unmatched:
            key = branch.key.removeprefix(self._path)
            self._unmatched.saw(key)
            self._apply(key, status)

    def _stop(self, scheduler: Scheduler, halt: Halt) -> None:
        self.halted = halt.reason(self._needed)
        if halt.when == "now":
            scheduler.stop(self.halted)
        else:
            scheduler.start_no_more(self.halted)

    def _apply(self, key: str, status: Status | None) -> None:
        for entry in list(self._waiting):
            rule, chosen, missing = entry
            if not chosen(key) or not rule.fits(status):
                continue
            if missing is not None:
                missing.discard(key)
                if missing:
                    continue
            if missing is not None or not ("/" in rule.cancel or "**" in rule.cancel):
                self._waiting.remove(entry)  # none of the step's own is left to be cancelled
            self._cancel(rule, key)

    def _cancel(self, rule: CancelWhen, key: str) -> None:
        which = f"all of {rule.pattern}" if rule.all else key
        reason = f"rule: {which} {rule.ended}"
        self._fired.setdefault(rule, reason)
        for scheduler in list(self._open):
            self._cancel_in(scheduler, rule, key, reason)

    def _cancel_in(self, scheduler: Scheduler, rule: CancelWhen, cause: str, reason: str) -> None:
        chosen, path = matcher(rule.cancel), self._path
        self._cancelled += scheduler.cancel(
            lambda full: full != path + cause and chosen(full.removeprefix(path)), reason=reason
        )
