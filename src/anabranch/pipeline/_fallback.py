"""Prepare a step's fallback: what is called in its place when it has failed for good."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from anabranch._branch import ASYNC, call_in
from anabranch._work import check_callable
from anabranch.errors import ConfigurationError
from anabranch.pipeline._check import check_arity, takes_context
from anabranch.pipeline._node import Node, run_nested
from anabranch.pipeline._plan import Plan


def check_fallback(where: str, fallback: object) -> None:
    """Raise ConfigurationError for what cannot take over: neither a step nor callable."""
    if fallback is None or isinstance(fallback, Node):
        return
    where = f"{where}: fallback"
    if not callable(fallback):
        raise ConfigurationError(
            f"{where}={fallback!r:.80} ({type(fallback).__name__}) is neither callable nor a step; "
            f"give a function of the data, a Step or a Pipeline; for a fixed answer: lambda data: x"
        )
    check_callable(where, fallback)
    taken = ["context"] if takes_context(where, fallback) else []
    taken += ["error"] if _takes_error(fallback) else []
    says = "a fallback is called as fn(data), or with error= and context= if it has them"
    check_arity(where, fallback, says, taken)


def fallback_plan(where: str, key: str, fallback: Any, step: Node[Any, Any]) -> Plan:
    """Return the plan of a fallback that is no Step; ``step`` is whose it is."""
    if isinstance(fallback, Node):
        return Plan(key=key, node=fallback, kind=ASYNC, fn=run_nested, nested=True)
    kind, _ = call_in("auto", fallback, where)
    return Plan(
        key=key,
        node=step,
        kind=kind,
        fn=fallback,
        takes_context=takes_context(where, fallback),
        takes_error=_takes_error(fallback),
    )


def _takes_error(fn: Callable[..., Any]) -> bool:
    """Tell whether ``fn`` has a parameter named ``error`` behind the data."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return False
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return any(each.name == "error" and each.kind in by_name for each in parameters[1:])
