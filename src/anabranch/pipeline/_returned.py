"""Charge a branch for what it returned, if that says what it cost.

What cannot be meant is not charged, and the results of the branch and of its step say so. It fails
nobody: the branch has ended, rules and observers have heard of it, and its output was paid for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from anabranch._amounts import NOTHING, Amount, amount, together
from anabranch._branch import Branch
from anabranch._ledger import Ledger
from anabranch._pool import Account, Sums, account_at, account_of, book, charged
from anabranch._tries import words_of
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


def charge_here(branch: Branch) -> None:
    """Charge whatever runs in the calling context for what ``branch`` returned."""
    place = charged.get()
    if place is not None and type(branch.value) not in PLAIN:
        branch.reason = _charge(branch.value, partial(account_at, place))


def charge_ended(branch: Branch, ledger: Ledger) -> None:
    """Charge a branch that has ended for what it returned."""
    if type(branch.value) in PLAIN or branch.status is not Status.SUCCEEDED:
        return
    refused = _charge(branch.value, partial(account_of, branch, ledger))
    if refused:
        branch.reason = f"{branch.reason}; {refused}" if branch.reason else refused
        book(partial(account_of, None, ledger), NOTHING).refused += 1


def charge_all(values: Iterable[Any], branches: Iterable[Branch], ledger: Ledger) -> None:
    """Charge all branches of a step that has ended; ``values`` are what they hand on.

    Most steps return nothing of the kind, so that is asked first.
    """
    payer = ledger.outside.payer
    at_once = payer is not None and payer[0].at_once
    if not at_once and not PLAIN.issuperset(map(type, values)):
        for branch in branches:
            charge_ended(branch, ledger)


def uncharged(account: Account | None) -> str:
    """Say in a step's feedback how many branches were not charged for what they returned."""
    if account is None or not account.refused:
        return ""
    return f"; {account.refused} returned a cost that cannot be meant, and were not charged for it"


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


def _charge(value: Any, find: Callable[[], Sums]) -> str:
    """Charge for ``value`` what can be meant; return in words what cannot."""
    spent: dict[str, Amount] = {}
    wrong: list[str] = []
    kind = type(value).__name__
    for name, unit in _UNITS:
        try:
            given = getattr(value, name, None)
            if given is not None:
                spent[unit] = amount(kind, name, given, whole=unit == "tokens")
        except ConfigurationError as error:
            wrong.append(str(error))
        except Exception as error:  # a property of the user's, and no reason to lose the result
            wrong.append(f"{kind}: {name} cannot be read ({words_of(error)})")
    if spent:
        book(find, spent)
    for words in wrong:
        log.warning("a branch is not charged for what it returned: %s", words)
    return f"not charged for what it returned: {'; '.join(wrong)}" if wrong else ""
