"""Secrets that the settings name by their files: the keys of clients and the token of the picker's own pages."""

from pathlib import Path
from typing import Final

from endpoint_picker.config.settings import SettingsProblem

_MOST_CHARACTERS: Final = 1024 * 1024
_SHORTEST_TOKEN: Final = 16


def _read_lines(path: str, setting: str) -> tuple[str, ...]:
    """Return the lines of a file without the blank ones; each is one token of printable ASCII."""
    try:
        if not Path(path).is_file():
            raise SettingsProblem([f"{setting}: {path}: not a file"])
        with Path(path).open(encoding="utf-8") as file:
            lines = file.read(_MOST_CHARACTERS).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsProblem([f"{setting}: {path}: {error}"]) from error
    tokens = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not tokens or not all(token.isascii() and token.isprintable() and " " not in token for token in tokens):
        raise SettingsProblem([f"{setting}: {path}: expected one printable token per line"])
    return tokens


def read_api_keys(path: str) -> tuple[str, ...]:
    """Return the bearer tokens in a file, one per line; none when *path* is empty.

    Raises:
        SettingsProblem: The file cannot be read or holds no usable token.
    """
    return _read_lines(path, "api_key_file") if path else ()


def read_admin_token(path: str) -> str:
    """Return the one token in a file; empty when *path* is.

    Raises:
        SettingsProblem: The file cannot be read, holds none or several, or one that can be guessed.
    """
    if not path:
        return ""
    tokens = _read_lines(path, "admin_token_file")
    if len(tokens) > 1:
        raise SettingsProblem([f"admin_token_file: {path}: expected one token, found {len(tokens)}"])
    if len(tokens[0]) < _SHORTEST_TOKEN:
        raise SettingsProblem([f"admin_token_file: {path}: a token of at least {_SHORTEST_TOKEN} characters is needed"])
    return tokens[0]
