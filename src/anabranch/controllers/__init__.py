"""Decide a limit from the load: pure laws, a shadow of one, and the replay of what was seen."""

from anabranch.controllers._aimd import AIMD
from anabranch.controllers._fixed import Fixed
from anabranch.controllers._gradient import Gradient
from anabranch.controllers._named import named
from anabranch.controllers._replay import CEILING, from_json, read_loads, replay, to_json
from anabranch.controllers._shadow import Shadow, ShadowState
from anabranch.controllers._weir import Weir

__all__ = [
    "AIMD",
    "CEILING",
    "Fixed",
    "Gradient",
    "Shadow",
    "ShadowState",
    "Weir",
    "from_json",
    "named",
    "read_loads",
    "replay",
    "to_json",
]
