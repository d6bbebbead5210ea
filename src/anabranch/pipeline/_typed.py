"""Spell a step's options as types, so that each overload need not repeat them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar

from anabranch._breaker import CircuitBreaker
from anabranch._retry import Retry
from anabranch.abc import BreachEvent, Lane, Limiter
from anabranch.pipeline._config import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ExecutionConfig,
    MergeConfig,
)
from anabranch.pipeline._merge_terms import Strategy
from anabranch.pipeline._rules import CancelWhen, Halt

if TYPE_CHECKING:
    from anabranch.pipeline._node import Node

T_contra = TypeVar("T_contra", contravariant=True)
U_co = TypeVar("U_co", covariant=True)


class TakesContext(Protocol[T_contra, U_co]):
    """Be called with the data and, by name, the run's context."""

    def __call__(self, data: T_contra, /, *, context: Any) -> U_co: ...


class StepOptions(TypedDict, total=False):
    """The options of ``Step``."""

    lane: str | Lane
    timeout: float | None
    retry: Retry | None
    breaker: CircuitBreaker | None
    fallback: Node[Any, Any] | Callable[..., Any] | None
    cache: None
    on_cancel: str


class PipelineOptions(TypedDict, total=False):
    """The options of ``Pipeline``."""

    name: str | None
    execution_config: ExecutionConfig | None


class MapOptions(TypedDict, total=False):
    """The options of ``Step.map_over`` but for ``items``."""

    concurrency: ConcurrencyConfig | None
    max_concurrency: int | Limiter | None
    timeout: float | None
    on_branch_failure: BranchFailureStrategy
    halt: Halt | None


class ParallelOptions(TypedDict, total=False):
    """The options of ``Step.parallel``."""

    merge_strategy: Strategy
    merge_config: MergeConfig | None
    merge_order: str
    concurrency: ConcurrencyConfig | None
    max_concurrency: int | Limiter | None
    track_completion: bool | None
    timeout: float | None
    on_branch_failure: BranchFailureStrategy
    halt: Halt | None
    priorities: Mapping[str, int] | None
    cancel_when: Sequence[CancelWhen]
    cancel_grace: float | None
    breach_event: BreachEvent | None
    context_include_keys: Collection[str] | None
    field_mapping: Mapping[str, Collection[str]] | None
