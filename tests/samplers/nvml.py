"""Be NVIDIA's module with the devices that a test says, and whatever can be wrong with them."""

from __future__ import annotations

from types import SimpleNamespace

CODES = (1, 2, 3, 4, 6, 9, 10, 12, 13, 15, 16, 17, 18, 19, 20, 999)  # NVML_ERROR_...
LIBRARY_NOT_FOUND, GPU_IS_LOST, NOT_SUPPORTED = 12, 15, 3
GIB = 2**30


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value

    def __str__(self):
        return f"code {self.value}"


class Card:
    """A device, or an instance of one; `fails` has what a call raises, by its name."""

    def __init__(self, uuid, used=GIB, total=8 * GIB, *, busy=50, parts=None):
        self.uuid = uuid
        self.used = used
        self.total = total
        self.busy = busy
        self.parts = parts
        self.fails = {}


class Nvml:
    """The calls that are made of pynvml; `before` is called before each, with its name."""

    NVMLError = NVMLError
    NVML_ERROR_LIBRARY_NOT_FOUND = LIBRARY_NOT_FOUND

    def __init__(self, *cards):
        self.cards = list(cards)
        self.fails = {}
        self.calls = []
        self.before = lambda name: None

    def _called(self, name, card=None):
        self.calls.append(name)
        self.before(name)
        for fails in (self.fails, {} if card is None else card.fails):
            if name in fails:
                raise fails[name] if isinstance(fails[name], Exception) else NVMLError(fails[name])

    def nvmlInit(self):  # noqa: N802  # NVIDIA's names
        self._called("init")

    def nvmlShutdown(self):  # noqa: N802
        self._called("shutdown")

    def nvmlDeviceGetCount(self):  # noqa: N802
        self._called("count")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        self._called("handle", self.cards[index])
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card):  # noqa: N802
        self._called("uuid", card)
        return card.uuid

    def nvmlDeviceGetName(self, card):  # noqa: N802
        self._called("name", card)
        return "H200"

    def nvmlDeviceGetMigMode(self, card):  # noqa: N802
        self._called("mig", card)
        if card.parts is None:
            raise NVMLError(NOT_SUPPORTED)
        return [1, 1] if card.parts else [0, 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, card):  # noqa: N802
        self._called("most", card)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, index):  # noqa: N802
        self._called("part", card)
        if index >= len(card.parts):
            raise NVMLError(6)
        return card.parts[index]

    def nvmlDeviceGetMemoryInfo(self, card):  # noqa: N802
        self._called("memory", card)
        return SimpleNamespace(used=card.used, total=card.total)

    def nvmlDeviceGetUtilizationRates(self, card):  # noqa: N802
        self._called("rates", card)
        if card.busy is None:
            raise NVMLError(NOT_SUPPORTED)
        return SimpleNamespace(gpu=card.busy)


CALLS = ("init", "count", "handle", "uuid", "name", "mig", "memory", "rates")
