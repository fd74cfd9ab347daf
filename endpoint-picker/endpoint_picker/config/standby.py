"""A picker that is kept for the moment another one dies: everything slow is done, and one line starts it."""

from typing import BinaryIO, Final

STANDBY: Final = "--standby"
"""As the first argument: be ready and wait for a line on standard input. Without one, its end ends the process."""


def wait_for_turn(stream: BinaryIO) -> bool:
    """Wait for a line on *stream*; return whether there was one."""
    return stream.readline() != b""
