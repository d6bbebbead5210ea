"""Charge a branch for what it returned, if that says what it cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from anabranch._amounts import Amount, amount, together
from anabranch._branch import Branch
from anabranch._ledger import Ledger
from anabranch._pool import Account, Sums, account_at, account_of, book, charged
from anabranch._work import Status, Usage
from anabranch.errors import ConfigurationError
from anabranch.pipeline._result import PipelineResult, StepResult

log = logging.getLogger("anabranch")

# What says nothing of its cost; and our own results, which were charged where they came from.
PLAIN = frozenset((
    type(None), bool, int, float, str, bytes, list, tuple, dict, set, type,
    StepResult, PipelineResult, Usage,
))  # fmt: skip
_UNITS = (("cost_usd", "cost_usd"), ("token_counts", "tokens"))


def charge_value(value: Any) -> None:
    """Charge whatever runs in the calling context for ``value``."""
    place = charged.get()
    if place is not None and type(value) not in PLAIN:
        _charge(value, partial(account_at, place))


def charge_ended(branch: Branch, ledger: Ledger) -> None:
    """Charge a branch that has ended for what it returned."""
    if type(branch.value) not in PLAIN and branch.status is Status.SUCCEEDED:
        _charge(branch.value, partial(account_of, branch, ledger))


def charge_all(values: Iterable[Any], branches: Iterable[Branch], ledger: Ledger) -> None:
    """Charge all branches of a step that has ended; ``values`` are what they hand on.

    Most steps return nothing of the kind, so that is asked first.
    """
    if ledger.on_end is None and not PLAIN.issuperset(map(type, values)):
        for branch in branches:
            charge_ended(branch, ledger)


def costs_of(account: Account | None) -> dict[str, Any]:
    """Return what a StepResult says of its costs."""
    if account is None:
        return {}
    return {"cost_usd": account.cost_usd, "token_counts": account.tokens}


def costs_together(steps: Iterable[StepResult[Any]]) -> dict[str, Any]:
    """Return what a StepResult says of the costs of several steps."""
    account = Account(None)
    for step in steps:
        for unit, value in (("cost_usd", step.cost_usd), ("tokens", step.token_counts)):
            if value is not None:
                account.sums = together(account.sums, {unit: amount("step", unit, value)})
    return costs_of(account) if account.sums else {}


def _charge(value: Any, find: Callable[[], Sums]) -> None:
    spent: dict[str, Amount] = {}
    for name, unit in _UNITS:
        try:
            given = getattr(value, name, None)
        except Exception:  # a property of the user's, and no reason to lose the result
            continue
        if given is not None:
            try:
                spent[unit] = amount(type(value).__name__, name, given, whole=unit == "tokens")
            except ConfigurationError as error:
                log.warning("a branch is not charged for what it returned: %s", error)
    if spent:
        book(find, spent)
