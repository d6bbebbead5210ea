"""Refuse keywords that do not exist, naming the nearest that does, and those not built yet."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from anabranch.errors import not_built_yet, unknown_option

P = ParamSpec("P")
R = TypeVar("R")


def exact(where: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function: it refuses an unknown keyword as UnknownOptionError, in the name of ``where``.

    Its signature stays what it is, for people and for type checkers.
    """

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        known = frozenset(_keywords_of(fn))

        @wraps(fn)
        def checked(*args: P.args, **options: P.kwargs) -> R:
            if options and not known.issuperset(options):
                unknown = next(name for name in options if name not in known)
                raise unknown_option(where, unknown, known)
            return fn(*args, **options)

        return checked

    return decorate


def refuse_later(where: str, **later: tuple[object, object]) -> None:
    """Raise for the first option of a later version that is given: each is a value and its default.

    Raises:
        NotBuiltYetError: an option does not have its default.
    """
    for option, (value, default) in later.items():
        if value is not default and (type(value) is not type(default) or value != default):
            raise not_built_yet(where, option, value)


def _keywords_of(fn: Callable[..., Any]) -> list[str]:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(fn).parameters.values()
    return [each.name for each in parameters if each.kind in by_name and each.name != "self"]
