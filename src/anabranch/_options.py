"""Refuse keywords that do not exist, or are given twice, and those not built yet."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from anabranch.errors import ConfigurationError, not_built_yet, unknown_option

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


def exact(where: str, *, awaits: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function: it refuses an unknown keyword with an UnknownOptionError of ``where``.

    What is given by place and by keyword is refused too, with a ConfigurationError.
    Its signature stays what it is, for people and for type checkers.
    With ``awaits`` the function returns a coroutine, and the decorated one is an async function.
    """

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        known, places = frozenset(_keywords_of(fn)), _places_of(fn)

        def check(options: Mapping[str, object], count: int) -> None:
            twice = next((n for n in places[:count] if n in options and n in known), None)
            if twice is not None:
                raise ConfigurationError(
                    f"{where}: {twice} is given twice, in its place and as {twice}=; give it once"
                )
            unknown = next((name for name in options if name not in known), None)
            if unknown is not None:
                raise unknown_option(where, unknown, known)

        @wraps(fn)
        def checked(*args: P.args, **options: P.kwargs) -> R:
            if options:
                check(options, len(args))
            return fn(*args, **options)

        @wraps(fn)
        async def checked_async(*args: P.args, **options: P.kwargs) -> Any:
            if options:
                check(options, len(args))
            return await fn(*args, **options)  # type: ignore[misc]  # a coroutine, it was said

        return cast(Callable[P, R], checked_async) if awaits else checked

    return decorate


def exact_fields(cls: type[C]) -> type[C]:
    """Decorate an attrs class: making one refuses unknown keywords likewise."""
    setattr(cls, "__init__", exact(cls.__name__)(cls.__init__))  # noqa: B010
    return cls


def refuse_later(where: str, later: Mapping[str, tuple[object, object]]) -> None:
    """Raise for the first option of a later version that is given: its value is not its default.

    Raises:
        NotBuiltYetError: an option does not have its default.
    """
    for option, (value, default) in later.items():
        if value is not default and (default is None or value != default):
            raise not_built_yet(where, option, value)


def _keywords_of(fn: Callable[..., Any]) -> list[str]:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(fn).parameters.values()
    return [each.name for each in parameters if each.kind in by_name and each.name != "self"]


def _places_of(fn: Callable[..., Any]) -> list[str]:
    """List what may be given by place, in order; of a method its self comes first."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(fn).parameters.values()
    return [each.name for each in parameters if each.kind in kinds]
