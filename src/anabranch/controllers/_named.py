"""Make a law by its name, as a command line or a file names it."""

from __future__ import annotations

import difflib

from anabranch.abc import Controller
from anabranch.controllers._aimd import AIMD
from anabranch.controllers._fixed import Fixed
from anabranch.controllers._gradient import Gradient
from anabranch.controllers._weir import Weir
from anabranch.errors import ConfigurationError

LAWS = {"aimd": AIMD, "fixed": Fixed, "gradient": Gradient, "weir": Weir}


def named(name: str) -> Controller:
    """Return the law of that name, with its defaults.

    Raises:
        ConfigurationError: there is none; the nearest name is suggested.
    """
    law = LAWS.get(name) if isinstance(name, str) else None
    if law is None:
        near = difflib.get_close_matches(str(name).lower(), LAWS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(LAWS)}"
        raise ConfigurationError(f"controller {name!r:.80} does not exist: {hint}")
    made: Controller = law()
    return made
