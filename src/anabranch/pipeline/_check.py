"""Check what a user names and hands in as a function, before anything starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anabranch._work import check_callable, name_of
from anabranch.errors import ConfigurationError


def check_name(where: str, name: object) -> str:
    """Return ``name``; raise ConfigurationError unless ``name`` is a string that is not empty."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"{where}: name={name!r} ({type(name).__name__}) is no name; "
            f"give a string that is not empty"
        )
    return name


def check_function(where: str, fn: object) -> None:
    """Raise ConfigurationError for what cannot be called with the data."""
    check_callable(where, fn)
    assert callable(fn), "it was checked just now"
    keywords = ("context",) if takes_context(where, fn) else ()
    says = "a branch is called as fn(data), or fn(data, context=...)"
    check_arity(where, fn, says, keywords)


def check_arity(
    where: str, fn: Callable[..., Any], says: str, keywords: Iterable[str] = ()
) -> None:
    """Raise ConfigurationError unless ``fn`` takes one argument; ``says`` tells how it is used."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind(object(), **dict.fromkeys(keywords))
    except TypeError as error:
        raise ConfigurationError(
            f"{where}: {name_of(fn)}{signature} cannot be called with the data alone "
            f"({error}); {says}"
        ) from None


def takes_context(where: str, fn: Callable[..., Any]) -> bool:
    """Tell whether ``fn`` has a parameter named ``context`` that can be given by name."""
    try:
        parameter = inspect.signature(fn).parameters.get("context")
    except (TypeError, ValueError):
        return False
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if parameter is None or parameter.kind not in by_name:
        return False
    return next(iter(inspect.signature(fn).parameters)) != "context"


def spelled(name: object, branches: object) -> tuple[str | None, object]:
    """Tell the name of a parallel step from its branches: both may come first."""
    if branches is None and isinstance(name, Mapping):
        return None, name
    if isinstance(name, Mapping):
        raise ConfigurationError(
            "Step.parallel: branches are given twice, first and as branches=; give them once"
        )
    if branches is None:
        raise ConfigurationError(
            f"Step.parallel: no branches (got name={name!r}); give a mapping of key to branch"
        )
    return None if name is None else check_name("Step.parallel", name), branches
