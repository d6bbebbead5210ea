"""Keep on which terms a step merges the contexts of its branches, checked when it is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

import attrs

from anabranch._work import check_callable, name_of
from anabranch.errors import ConfigurationError
from anabranch.pipeline._config import MergeConfig, MergeStrategy
from anabranch.pipeline._fields import names_of

Strategy: TypeAlias = MergeStrategy | Callable[[Any, dict[str, Any]], Any]
ORDERS = ("declared", "completed")


@attrs.frozen(kw_only=True)
class MergeTerms:
    """Say what of which branch comes back into the context, and what the branches are given."""

    strategy: Strategy = MergeStrategy.NO_MERGE
    config: MergeConfig = attrs.field(factory=MergeConfig)
    order: str = "declared"
    fields: Mapping[str, frozenset[str]] = attrs.field(factory=dict)  # by branch; all if not named
    only: tuple[str, ...] | None = None  # the fields that branches are given

    @property
    def merges(self) -> bool:
        """Whether anything comes back."""
        return self.strategy is not MergeStrategy.NO_MERGE

    def check_fields(self, where: str, context: Any) -> None:
        """Raise ConfigurationError for a field that is named and cannot be in ``context``.

        A dict need not have a key yet that a branch may set.
        """
        if context is None:
            raise ConfigurationError(f"{where} merges contexts or narrows them, and there is none")
        named: dict[str, Iterable[str]] = {"context_include_keys": self.only or ()}
        named["merge_config: counter_fields"] = self.config.counter_fields
        fields: Iterable[Any] | None = names_of(context)
        if fields is not None:
            named["merge_config: excluded_fields"] = self.config.excluded_fields
            for key, wanted in self.fields.items():
                named[f"field_mapping: {key}"] = wanted
        else:
            fields = context
        for option, names in named.items():
            for name in sorted(set(names) - set(fields)):
                raise ConfigurationError(
                    f"{where}: {option} names {name!r}, and the context "
                    f"({type(context).__name__}) has no such field; {nearest(name, fields)}"
                )


def merge_terms_of(
    where: str,
    keys: Collection[str],
    strategy: object,
    config: object,
    order: object,
    fields: object,
    only: object,
) -> MergeTerms | None:
    """Check the options of a step that concern contexts; None if it has none of them.

    Raises:
        ConfigurationError: what cannot be meant, or could never do anything.
    """
    found = _checked_strategy(where, strategy)
    if config is not None and not isinstance(config, MergeConfig):
        raise ConfigurationError(
            f"{where}: merge_config={config!r:.80} ({type(config).__name__}) is no MergeConfig; "
            f"give MergeConfig(deep_merge_dicts=True)"
        )
    if order not in ORDERS:
        raise ConfigurationError(
            f"{where}: merge_order={order!r:.80} is no order; {nearest(order, ORDERS)}"
        )
    if strategy is MergeStrategy.NO_MERGE:
        given = {"merge_config": config, "field_mapping": fields}
        given["merge_order"] = None if order == "declared" else order
        _refuse(where, given, "nothing is merged; give a merge_strategy=, or leave it out")
    elif not isinstance(strategy, MergeStrategy):
        why = "merge_strategy= is a function, which merges by itself; leave one of them out"
        _refuse(where, {"merge_config": config, "field_mapping": fields}, why)
    mapping = _mapping_of(where, keys, fields)
    if only is not None:
        only = _names_of(where, "context_include_keys", only)
    if strategy is MergeStrategy.NO_MERGE and only is None:
        return None
    config = config or MergeConfig()
    for key, names in mapping.items():
        for name in sorted(names & set(config.excluded_fields)):
            raise ConfigurationError(
                f"{where}: field_mapping takes {name!r} from branch {key!r}, and excluded_fields "
                f"of merge_config leaves it out; name it in one of them"
            )
    return MergeTerms(strategy=found, config=config, order=order, fields=mapping, only=only)


def nearest(name: object, names: Iterable[Any]) -> str:
    """Say which of ``names`` may be meant, or which there are."""
    known = [str(each) for each in names]
    near = get_close_matches(str(name), known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return f"there is {', '.join(sorted(known)[:10]) or 'none'}{more}"


def check_two(where: str, fn: Callable[..., Any], says: str) -> None:
    """Raise ConfigurationError unless ``fn`` takes two arguments; ``says`` tells how it is used."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind(object(), object())
    except TypeError as error:
        raise ConfigurationError(
            f"{where}: {name_of(fn)}{signature} cannot be called with two arguments ({error}); "
            f"{says}"
        ) from None


def _checked_strategy(where: str, strategy: object) -> Strategy:
    if isinstance(strategy, MergeStrategy):
        return strategy
    if not callable(strategy) or isinstance(strategy, type):
        names = [each.name for each in MergeStrategy]
        hint = (
            nearest(str(strategy).upper(), names)
            if isinstance(strategy, str)
            else (
                "give one, MergeStrategy.CONTEXT_UPDATE for example, "
                "or a function of (context, {key: branch's context})"
            )
        )
        raise ConfigurationError(
            f"{where}: merge_strategy={strategy!r:.80} ({type(strategy).__name__}) is no "
            f"MergeStrategy; {hint}"
        )
    check_callable(f"{where}: merge_strategy", strategy)
    says = "it is called as fn(context, {key: branch's context})"
    check_two(f"{where}: merge_strategy", strategy, says)
    return strategy


def _refuse(where: str, given: Mapping[str, object], why: str) -> None:
    for option, value in given.items():
        if value is not None:
            raise ConfigurationError(f"{where}: {option}={value!r:.80} has no effect: {why}")


def _mapping_of(where: str, keys: Collection[str], fields: object) -> Mapping[str, frozenset[str]]:
    if fields is None:
        return {}
    if not isinstance(fields, Mapping):
        raise ConfigurationError(
            f"{where}: field_mapping={fields!r:.80} ({type(fields).__name__}) is no mapping; "
            f"give {{branch: [field, ...]}}"
        )
    known = set(keys)
    for key in fields:
        if key not in known:
            raise ConfigurationError(
                f"{where}: field_mapping names the branch {key!r:.80}, and there is none; "
                f"{nearest(key, keys)}"
            )
    return {
        key: frozenset(_names_of(where, f"field_mapping: {key}", names))
        for key, names in fields.items()
    }


def _names_of(where: str, option: str, names: object) -> tuple[str, ...]:
    if isinstance(names, (list, tuple, set, frozenset)):
        found = tuple(names)
        if all(isinstance(name, str) for name in found):
            return found
    raise ConfigurationError(
        f"{where}: {option}={names!r:.80} ({type(names).__name__}) is no list of field names; "
        f"give ['name', ...]"
    )
