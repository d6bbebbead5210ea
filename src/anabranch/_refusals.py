"""Tell which errors say "too many": of a server that is full, or of a system that has no more.

They are known by what they carry, so no library has to be imported for it: a status of HTTP
(httpx, requests, aiohttp, urllib name it in different ways), or a number of the system's.
"""

from __future__ import annotations

import errno
from typing import Protocol, runtime_checkable

STATUSES = (429, 503)  # too many requests, service unavailable
NUMBERS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
_NAMES = ("status_code", "status", "code")
DEPTH = 8  # of errors that lead to each other


@runtime_checkable
class Judge(Protocol):
    """Say which errors of branches are refusals; a controller may have this method as well."""

    def rejected(self, error: BaseException, /) -> bool: ...


def is_refusal(error: BaseException | None, judge: Judge | None = None) -> bool:
    """Tell whether ``error``, or what led to it, says that a place is too full.

    Args:
        judge: is asked too; what it raises counts as no.
    """
    seen = [] if error is None else [error]
    for each in seen:
        if _says_so(each, judge):
            return True
        more: list[BaseException | None] = [each.__cause__]
        if isinstance(each, BaseExceptionGroup):
            more += each.exceptions
        known = {id(one) for one in seen}  # an error may compare as it likes
        seen += [one for one in more if one is not None and id(one) not in known][
            : DEPTH - len(seen)
        ]
    return False


def _says_so(error: BaseException, judge: Judge | None) -> bool:
    try:
        if judge is not None and judge.rejected(error):
            return True
        if isinstance(error, OSError) and error.errno in NUMBERS:
            return True
        bearers = (error, getattr(error, "response", None))
        return any(getattr(one, name, None) in STATUSES for one in bearers for name in _NAMES)
    except Exception:  # of the user's judge, or of an error that cannot be asked
        return False
