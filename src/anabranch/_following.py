"""Say what may follow a scheduler: the live run, and the rules of steps."""

from __future__ import annotations

from typing import Any, Protocol

from anabranch._branch import Branch
from anabranch._outcomes import Outcomes


class Follower(Protocol):
    """Hear of every scheduler of a run, or of a step and what is nested in it."""

    def opened(self, scheduler: Any) -> None: ...
    def closed(self, scheduler: Any) -> None: ...
    def ended(self, scheduler: Any, branch: Branch) -> None: ...


class Live(Follower, Protocol):
    """Follow a run while it goes on, for somebody who reads its outcomes."""

    @property
    def outcomes(self) -> Outcomes: ...


class Applied(Follower, Protocol):
    """Apply rules, which may cancel single branches.

    Who has nothing to do at one of these moments writes so: a base class would save four empty
    methods, and hide in each of them that nothing happens there.
    """

    @property
    def cancels(self) -> bool: ...
    def filled(self, scheduler: Any) -> None: ...
    def forbids(self, key: str) -> str: ...


class Heeding(Applied, Protocol):
    """Be asked in a thread too whether a branch that has ended there may make rules act.

    Then the thread begins no other before the loop has heard of it.
    """

    def heeds(self, branch: Branch) -> bool: ...
