"""Which ``x-request-id`` of a client is taken over: at most 128 characters that are safe in logs and headers."""

import re

_SAFE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def safe_request_id(value: str) -> str:
    """Return *value* if it is safe, else an empty string."""
    return value if _SAFE.fullmatch(value) else ""
