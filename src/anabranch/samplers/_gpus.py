"""Sample the memory of the scarcest visible GPU; never for longer than a second.

Most machines have none: then there is nothing to tell, and nothing is asked again. What may come
back, a driver that is being exchanged, a device that is reset, is asked again after ten seconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from anabranch.samplers._nvml import Gpus, load_pynvml, read_gpus
from anabranch.samplers._once import Once
from anabranch.samplers._patience import LIMIT_S, NoAnswerError, Patience

AGAIN_S = 10.0
VARIABLE = "CUDA_VISIBLE_DEVICES"


class Nvml:
    """Sample ``gpu_memory_used`` and ``gpu_memory_total``; from any thread.

    Args:
        load: imports pynvml.
        environ: where ``CUDA_VISIBLE_DEVICES`` is; what counts is what it is now, as for CUDA.
        limit: seconds that a reading may take.
        clock: real seconds.
    """

    def __init__(
        self,
        *,
        load: Callable[[], Any] = load_pynvml,
        environ: Mapping[str, str] = os.environ,
        limit: float = LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._words = environ.get(VARIABLE)
        self._clock = clock
        self._patience = Patience(self._read, limit, clock)
        self._once = Once()
        self._ready: Any = None
        self._again = -math.inf
        self._last = Gpus()

    def read(self) -> Gpus:
        """Return what is known of the visible devices now; the words say what is not, and why."""
        if self._ready is None and self._clock() < self._again:
            return self._last
        try:
            return self._patience.ask()
        except NoAnswerError as error:
            return Gpus(why=f"NVML: {error}")

    def sample(self) -> Mapping[str, float | None]:
        """Return the bytes in use and in all of the device that has the least left."""
        gpus = self.read()
        self._tell(gpus)
        pairs = [
            (gpu.memory_total - gpu.memory_used, gpu.memory_used, gpu.memory_total)
            for gpu in gpus.devices
            if gpu.memory_total is not None and gpu.memory_used is not None
        ]
        _, used, total = min(pairs, default=(None, None, None))
        return {"gpu_memory_used": used, "gpu_memory_total": total}

    def _read(self) -> Gpus:
        """Read, in the thread of the one who waits; nothing is read twice at once."""
        try:
            nvml = self._ready or self._load()
        except (ImportError, OSError) as error:
            return self._give_up(f"pynvml cannot be imported: {error}", math.inf)
        try:
            if self._ready is None:
                nvml.nvmlInit()
                self._ready = nvml
            return read_gpus(nvml, self._words)
        except nvml.NVMLError as error:
            self._end(nvml)
            never = error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND
            return self._give_up(f"NVML: {error}", math.inf if never else AGAIN_S)

    def _give_up(self, why: str, seconds: float) -> Gpus:
        self._last = Gpus(why=why, absent=seconds == math.inf)
        self._again = self._clock() + seconds
        return self._last

    def _end(self, nvml: Any) -> None:
        if self._ready is None:
            return
        self._ready = None
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError:  # it was not up, then
            pass

    def _tell(self, gpus: Gpus) -> None:
        """Say what a machine with GPUs does not tell; that there are none is no news."""
        for gpu in gpus.devices:
            if gpu.memory_total is None:
                self._once.say(gpu.uuid, f"GPU {gpu.uuid}: {gpu.why}; its memory is unknown")
        if gpus.why and not gpus.absent:
            self._once.say(gpus.why, f"{gpus.why}; what is unknown is not counted")
