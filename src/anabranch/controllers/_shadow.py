"""Let a law decide on real loads and change nothing, so that it can be judged before it rules."""

from __future__ import annotations

import inspect
from typing import Any

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch._options import exact_fields
from anabranch.abc import Controller
from anabranch.errors import ConfigurationError


def check_controller(where: str, controller: object) -> None:
    """Raise ConfigurationError unless ``controller`` can decide."""
    if isinstance(controller, type) or not isinstance(controller, Controller):
        made = isinstance(controller, type) and hasattr(controller, "next")
        raise ConfigurationError(
            f"{where}: {controller!r:.80} ({type(controller).__name__}) is no controller; "
            + ("make one: put () after it" if made else "give one with initial() and next()")
        )
    for name in ("initial", "next"):
        if inspect.iscoroutinefunction(getattr(controller, name)):
            raise ConfigurationError(
                f"{where}: {type(controller).__name__}.{name}() is async, and a law waits for "
                f"nothing; make it a plain function, and read what it needs in samplers="
            )


def _check(_: object, __: attrs.Attribute[Any], controller: object) -> None:
    check_controller("Shadow", controller)


@attrs.frozen
class ShadowState:
    """Hold the state of the law, and what it would have done: None before the first load."""

    law: Any
    would: Decision | None = None


@exact_fields
@attrs.frozen
class Shadow:
    """Ask ``controller`` and leave the limit alone; its decision is ``decision.state.would``.

    It is told the limits that hold, not those it would have set.

    Raises:
        ConfigurationError: not a controller.
    """

    controller: Controller = attrs.field(validator=_check)

    def initial(self, bounds: Bounds, /) -> ShadowState:
        """Return the state of a run that begins."""
        return ShadowState(self.controller.initial(bounds))

    def next(self, state: ShadowState, load: Load, /) -> Decision:
        """Decide that the limit stays, and tell in the state what the law decided."""
        would = self.controller.next(state.law, load)
        whole = int(load.limit) if load.limit == load.limit // 1 else load.limit
        return Decision(ShadowState(would.state, would), whole, "", would.again)  # type: ignore[arg-type]  # a limit of others' may be no whole number
