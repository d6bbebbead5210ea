"""Say how large a manager's lanes are, and when the machine counts as busy: a value, or from env.

Percent are percent here, as the variables have always been: a fraction is refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from anabranch._options import exact_fields
from anabranch._work import check_limit
from anabranch.errors import ConfigurationError
from anabranch.samplers._cores import cores

WHERE = "ConcurrencyManagerConfig"
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _check_count(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_limit(WHERE, attribute.name, value)


def _check_percent(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    name = f"{WHERE}: {attribute.name}={value!r}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise ConfigurationError(f"{name} ({type(value).__name__}) is no percentage; give 85, say")
    if 0 < value <= 1:
        raise ConfigurationError(
            f"{name} looks like a fraction, and percent are meant; give {100 * value:g}"
        )
    if not 0 < value <= 100:
        raise ConfigurationError(f"{name} is no percentage; give a number above 1, and up to 100")


def _check_flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{WHERE}: {attribute.name}={value!r} ({type(value).__name__}) is neither True nor "
            f"False; give one of them"
        )


def _to_workers(value: Any) -> Any:
    return max(1, math.floor(cores()) - 1) if value is None else value


@exact_fields
@attrs.frozen
class ConcurrencyManagerConfig:
    """Say how a ConcurrencyManager works.

    Args:
        cpu_workers: processes at once; None for one less than there are cores, and at least 1.
        io_workers, chunk_processor_workers: calls at once in these lanes.
        enable_auto_throttle: run fewer at once while the machine is busy.
        cpu_threshold, memory_threshold: in percent, from where on it is.
        max_queue_size: calls that wait in a lane; whoever comes then waits to be let into line.
        enable_metrics: keep what ``get_stats`` tells.
        chunk_batch_size: calls of a batch of ``process_in_batches``.
        use_processes: False runs the cpu lane in threads.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    cpu_workers: int = attrs.field(default=None, converter=_to_workers, validator=_check_count)
    io_workers: int = attrs.field(default=20, validator=_check_count)
    chunk_processor_workers: int = attrs.field(default=16, validator=_check_count)
    enable_auto_throttle: bool = attrs.field(default=True, validator=_check_flag)
    cpu_threshold: float = attrs.field(default=85.0, validator=_check_percent)
    memory_threshold: float = attrs.field(default=80.0, validator=_check_percent)
    max_queue_size: int = attrs.field(default=1000, validator=_check_count)
    enable_metrics: bool = attrs.field(default=True, validator=_check_flag)
    chunk_batch_size: int = attrs.field(default=10, validator=_check_count)
    use_processes: bool = attrs.field(default=True, validator=_check_flag)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many calls run at once in the lanes cpu, io and chunk."""
        return self.cpu_workers, self.io_workers, self.chunk_processor_workers

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> ConcurrencyManagerConfig:
        """Read the seven variables; one that is not there, or empty, leaves its default.

        Args:
            environ: instead of ``os.environ``.

        Raises:
            ConfigurationError: a value that is no number, out of range, or in the wrong unit.
        """
        environ = os.environ if environ is None else environ
        found: dict[str, Any] = {}
        for variable, (field, read) in VARIABLES.items():
            text = environ.get(variable, "").strip()
            if text:
                try:
                    found[field] = read(text)
                    cls(**{field: found[field]})
                except ValueError as error:
                    words = str(error) if isinstance(error, ConfigurationError) else _kinds[read]
                    raise ConfigurationError(f"{variable}={text!r}: {words}") from None
        return cls(**found)


def _flag(text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError(text)


_kinds: dict[Callable[[str], Any], str] = {
    int: "is no whole number; give one of at least 1",
    float: "is no number; give a percentage such as 85",
    _flag: f"is neither of {', '.join(TRUE)} nor of {', '.join(FALSE)}",
}
VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "CHUNK_BATCH_SIZE": ("chunk_batch_size", int),
    "MAX_PARALLEL_WORKERS": ("chunk_processor_workers", int),
    "USE_PROCESS_POOL": ("use_processes", _flag),
    "CPU_THRESHOLD": ("cpu_threshold", float),
    "MEMORY_THRESHOLD": ("memory_threshold", float),
    "ENABLE_AUTO_THROTTLE": ("enable_auto_throttle", _flag),
    "ENABLE_METRICS": ("enable_metrics", _flag),
}
