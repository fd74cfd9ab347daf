"""The token that a picker's pages may ask for: from the same places as the picker has it."""

from collections.abc import Sequence
from pathlib import Path

from endpoint_picker.config.credentials import read_admin_token
from endpoint_picker.config.settings import SettingsProblem, read_settings
from igw.errors import BadInput


def token_in(path: Path | None) -> str:
    """Return the token in a file; empty when there is no file.

    Raises:
        BadInput: The file holds no usable token.
    """
    try:
        return read_admin_token("" if path is None else str(path))
    except SettingsProblem as problem:
        raise BadInput(str(problem)) from None


def token_of_picker(arguments: Sequence[str]) -> str:
    """Return the token of a picker that is started with *arguments*; empty if it has none or cannot start."""
    try:
        return read_admin_token(read_settings(arguments).admin_token_file)
    except SettingsProblem:
        return ""  # the picker says what is wrong, in its own words
