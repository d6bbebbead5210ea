"""Keep one limit, whatever the load is."""

from __future__ import annotations

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch._options import exact_fields
from anabranch.controllers._check import limit_or_none
from anabranch.controllers._seen import decided, within


@exact_fields
@attrs.frozen
class Fixed:
    """Hold ``limit``, or the one that the run began with; a limit moved by others comes back.

    Raises:
        ConfigurationError: a limit under 1, or one that is no whole number.
    """

    limit: int | None = attrs.field(default=None, validator=limit_or_none)

    def initial(self, bounds: Bounds, /) -> tuple[Bounds, int]:
        """Return the state: the bounds, and the limit within them."""
        return bounds, within(bounds, bounds.initial if self.limit is None else self.limit)

    def next(self, state: tuple[Bounds, int], load: Load, /) -> Decision:
        """Decide for the one limit again."""
        bounds, limit = state
        return decided(state, load, bounds, limit, "fixed limit")
