"""Say what a run may spend: a limit for each unit, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from anabranch._amounts import Amount, Given, amount, amounts
from anabranch._options import exact_fields
from anabranch.errors import ConfigurationError


@attrs.frozen(init=False, repr=False)
class Budget:
    """Say what a run may spend; the charge that passes a limit ends the run.

    Args:
        cost_usd: US dollars. tokens: their number.
        **custom: units of your own, ``requests=100`` for example.

    Raises:
        ConfigurationError: nothing is limited, or by what is no amount.
    """

    cost_usd: Given | None
    tokens: int | None
    custom: Mapping[str, Given]

    def __init__(
        self, cost_usd: Given | None = None, tokens: int | None = None, **custom: Any
    ) -> None:
        if isinstance(custom.get("custom"), Mapping):  # attrs.evolve hands in what is kept
            custom |= custom.pop("custom")
        amounts("Budget", {"cost_usd": cost_usd, "tokens": tokens, **custom})
        self.__attrs_init__(cost_usd=cost_usd, tokens=tokens, custom=custom)

    def __repr__(self) -> str:
        given = {"cost_usd": self.cost_usd, "tokens": self.tokens, **self.custom}
        said = [f"{unit}={value!r}" for unit, value in given.items() if value is not None]
        return f"Budget({', '.join(said)})"

    @property
    def limits(self) -> dict[str, Amount]:
        """The limits by unit, exactly."""
        return amounts("Budget", {"cost_usd": self.cost_usd, "tokens": self.tokens, **self.custom})


def _check_limit(limits: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        amount("UsageLimits", attribute.name, value, whole="tokens" in attribute.name)


@exact_fields
@attrs.frozen
class UsageLimits:
    """Say the same as a ``Budget`` of dollars and tokens.

    Raises:
        ConfigurationError: nothing is limited, or by what is no amount.
    """

    total_cost_usd_limit: Given | None = attrs.field(default=None, validator=_check_limit)
    total_tokens_limit: int | None = attrs.field(default=None, validator=_check_limit)

    def __attrs_post_init__(self) -> None:
        if self.total_cost_usd_limit is None and self.total_tokens_limit is None:
            raise ConfigurationError(
                "UsageLimits: there is nothing in it; "
                "give total_cost_usd_limit= or total_tokens_limit="
            )

    @property
    def limits(self) -> dict[str, Amount]:
        """The limits by unit, exactly."""
        return Budget(cost_usd=self.total_cost_usd_limit, tokens=self.total_tokens_limit).limits


def check_budget(where: str, budget: object) -> None:
    """Raise ConfigurationError for what is no budget."""
    if budget is not None and not isinstance(budget, (Budget, UsageLimits)):
        raise ConfigurationError(
            f"{where}: budget={budget!r:.80} ({type(budget).__name__}) is no Budget; "
            f"give Budget(cost_usd=10), Budget(tokens=100_000) or UsageLimits(...)"
        )
