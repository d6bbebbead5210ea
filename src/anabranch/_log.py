"""Keep the records of the logger ``anabranch`` to one line each, and free of secrets.

Messages hold keys of branches and words of errors, which are a user's, or anybody's. A filter of
the logger is the one place that all of them pass; what needs no change is left as it was logged,
so that whoever groups records by their template still can.
"""

from __future__ import annotations

import logging

from anabranch._escape import escaped
from anabranch._redact import Redaction

_FORMATTER = logging.Formatter()


def clean(record: logging.LogRecord) -> bool:
    """Change what is harmful in ``record``; as a filter, let all of them pass."""
    redact = Redaction().text
    message = record.getMessage()
    harmless = escaped(redact(message))
    if harmless != message:
        record.msg, record.args = harmless, ()
    if record.exc_info and not record.exc_text:
        text = _FORMATTER.formatException(record.exc_info)
        record.exc_text = escaped(redact(text), keep="\n\t")
    return True
