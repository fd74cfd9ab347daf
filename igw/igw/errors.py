"""How a command fails: one clear line for a person and an exit code for a script."""

from typing import Final

RUNTIME_FAILURE: Final = 1
BAD_INPUT: Final = 2


class CommandFailed(Exception):
    """A command cannot go on.

    Attributes:
        exit_code: 1 for a failure while running, 2 for input that cannot be used.
    """

    def __init__(self, message: str, *, exit_code: int = RUNTIME_FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BadInput(CommandFailed):
    """What the user gave cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=BAD_INPUT)
