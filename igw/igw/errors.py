"""How a command fails: one clear line for a person and an exit code for a script."""

from typing import ClassVar, Final

RUNTIME_FAILURE: Final = 1
BAD_INPUT: Final = 2


class CommandError(Exception):
    """Root: a command cannot go on; the message is one line for a person."""

    exit_code: ClassVar[int]


class CommandFailed(CommandError):
    """Something went wrong while running."""

    exit_code = RUNTIME_FAILURE


class BadInput(CommandError):
    """What the user gave cannot be used."""

    exit_code = BAD_INPUT
