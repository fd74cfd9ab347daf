"""Where a request stands in a trace, as W3C Trace Context writes it.

Source: https://www.w3.org/TR/trace-context/ (the header ``traceparent``).
"""

import re
from dataclasses import dataclass
from typing import Final

_HEADER: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_FORBIDDEN_VERSION: Final = "ff"
_SAMPLED: Final = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One place in one trace.

    Attributes:
        trace_id: 32 hexadecimal digits, not all of them zero.
        span_id: 16 hexadecimal digits, not all of them zero.
        flags: The flags as a number from 0 to 255.
    """

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether its sender recorded the trace."""
        return bool(self.flags & _SAMPLED)


def parse_traceparent(value: str) -> TraceContext | None:
    """Return what a ``traceparent`` says; None when it is absent or not valid, which counts as absent.

    Versions to come may append to it; two headers, joined by a comma, are not valid.
    """
    if not value:
        return None
    found = _HEADER.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _FORBIDDEN_VERSION or (version == "00" and more is not None):
        return None
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, int(flags, 16))
