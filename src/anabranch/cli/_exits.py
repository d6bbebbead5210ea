"""Turn what goes wrong in a command into one message and an exit code: the same in each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from anabranch.cli._load import UserCodeError, WrongUsageError
from anabranch.cli._report import report_error, say
from anabranch.cli._stdout import UnwritableError
from anabranch.errors import ConfigurationError, JournalError

OK: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
DEADLINE: Final = 124
INTERRUPTED: Final = 130
NOBODY_READS: Final = 141  # as a program that SIGPIPE ends


def guarded(
    work: Callable[[], int],
    *,
    unwritable: object = None,
    struck: Callable[[], bool] = lambda: False,
) -> int:
    """Do the work of a command, and return its exit code.

    Args:
        work: returns an exit code.
        unwritable: a file that it writes, which an OSError is then about.
        struck: tells whether a signal ended it; what the user's code then raised goes unsaid.
    """
    try:
        return work()
    except (WrongUsageError, ConfigurationError) as error:
        say(str(error))
        return WRONG_USAGE
    except UserCodeError as error:
        if not struck():
            report_error(error.__cause__ or error)
        return FAILED
    except KeyboardInterrupt:
        if not struck():
            say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return NOBODY_READS
    except UnwritableError as error:
        say(f"stdout cannot be written: {error}")
    except JournalError as error:
        say(str(error))
    except OSError as error:  # a loop needs descriptors too
        if unwritable is None:
            say(f"the system refuses: {error}")
        else:
            say(f"{unwritable} cannot be written: {error.strerror or error}")
    return FAILED
