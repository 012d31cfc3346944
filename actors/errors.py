"""The one way any part of the job tells a person that it cannot go on."""

from __future__ import annotations

FAILED = 1
USAGE = 2
SOME_REJECTED = 3
INTERRUPTED = 130


class UserError(Exception):
    """Ends the command with one line on stderr and `exit_code`, without a traceback.

    The message names the thing, the value and the remedy. Crosses process boundaries unchanged.
    """

    def __init__(self, message: str, exit_code: int = USAGE) -> None:
        super().__init__(message, exit_code)
        self.message = message
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.message


def first_of(errors: BaseExceptionGroup[UserError]) -> UserError:
    """What to tell the person when several tasks failed at the same time."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    return error
