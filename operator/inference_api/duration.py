"""Gateway API durations such as ``1h30m``: up to four numbers of at most five digits, each with a unit."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator

_DURATION: Final = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}\Z")
_PART: Final = re.compile(r"([0-9]+)(ms|h|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_duration(text: str) -> float:
    """Return *text* in seconds.

    Raises:
        ValueError: *text* is not a Gateway API duration.
    """
    if not _DURATION.match(text):
        msg = f"{text!r} is not a duration such as 30s, 1m30s or 500ms"
        raise ValueError(msg)
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _checked(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[str, AfterValidator(_checked)]
