"""Headers that no client may set: taken out before routing, whatever their separators.

Envoy compares names in lower case, so capitals need no care. But servers behind CGI or WSGI read ``x_gateway_route`` as
``X-Gateway-Route``, so a run of dashes and underscores counts as one dash here.
"""

from itertools import pairwise
from typing import Final

from envoy_config import names
from envoy_config.fields import Json, extension
from inference_api.names import INTERNAL_HEADER_PREFIXES

_ANY_SEPARATOR: Final = "[-_]+"
_ODD_SEPARATOR: Final = "(?:_[-_]*|-[-_]+)"
"""Any run of dashes and underscores but a single dash."""

_BLOCKED: Final = ("x-envoy-", "x-inference-gateway-")
"""Namespaces of the data plane and of its talk with the picker."""

_PLAIN_ONLY: Final = (
    *names.OBJECTIVE_HEADERS,
    *names.FAIRNESS_HEADERS,
    names.REQUEST_ID_HEADER,
    "x-forwarded-for",
    "x-forwarded-proto",
    "content-encoding",
    "content-length",
    "content-type",
    "transfer-encoding",
)
"""Headers that clients may send, or that Envoy sets itself, in their own spelling and no other."""


def _any_spelling(prefix: str) -> str:
    """Return what matches every header that begins with *prefix*, however it is separated."""
    return _ANY_SEPARATOR.join(prefix.split("-")) + ".*"


def _odd_spellings(name: str) -> str:
    """Return what matches *name* with other separators than its own: the first odd one stands at each place in turn."""
    parts = name.split("-")
    return "|".join(
        "-".join(parts[:odd]) + _ODD_SEPARATOR + _ANY_SEPARATOR.join(parts[odd:]) for odd in range(1, len(parts))
    )


def _separate(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Return *prefixes* sorted, without those that another one covers."""
    ordered = sorted(prefixes)
    kept = ordered[:1]
    for _, prefix in pairwise(ordered):
        if not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


FORGED_HEADERS: Final = "|".join(
    [
        *(_any_spelling(prefix) for prefix in _separate((*INTERNAL_HEADER_PREFIXES, *_BLOCKED))),
        *(_odd_spellings(name) for name in _PLAIN_ONLY),
    ]
)
"""Regular expression (RE2) of the names that are taken out."""


def early_header_mutation() -> Json:
    """Return the extension that takes them out before Envoy itself or a route looks at them, and names the stream."""
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": FORGED_HEADERS}}}},
            {"append": {"header": {"key": names.STREAM_ID_HEADER, "value": "%UNIQUE_ID%"}}},
        ],
    )
