"""See and keep what happened: journals."""

from anabranch.observe._joblog import JobLog
from anabranch.observe._journal import Entry, Journal

__all__ = ["Entry", "JobLog", "Journal"]
