"""Routes for requests that nobody serves: answered before the picker or any backend sees them."""

from typing import Final

from envoy_config import names
from envoy_config.fields import Json, typed

_EXT_PROC: Final = "envoy.filters.http.ext_proc"
_AUTHORITY: Final = r"[0-9A-Za-z.:_~%\[\]-]*"
"""What a host with port may consist of; Envoy joins several Host headers by a comma."""
_ALLOW: Final[Json] = {
    "header": {"key": "allow", "value": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


def without_picker() -> Json:
    """Return the switch that keeps the picker and everything that reads answers off a route without models."""
    off = typed("envoy.config.route.v3.FilterConfig", disabled=True)
    return {
        "typed_per_filter_config": {
            _EXT_PROC: typed("envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute", disabled=True),
            **dict.fromkeys(names.ANSWER_FILTERS, off),
        }
    }


def _refused(name: str, match: Json, status: int, **fields: object) -> Json:
    return {
        "name": names.REFUSED_ROUTE_PREFIX + name,
        "match": match,
        "direct_response": {"status": status},
        **fields,
        **without_picker(),
    }


def refused_requests() -> list[Json]:
    """Return the routes; they belong before those that lead anywhere.

    - CONNECT: this is no forward proxy, and a filter that waits for a body would wait for the tunnel's end. The route's
      existence is enough: Envoy refuses by itself what its listener has no upgrade for.
    - TRACE: the answer would be the request as the model server sees it.
    - A Host that is none, or more than one: whom such a request is meant for, everybody reads differently.
    """
    trace = {"name": ":method", "string_match": {"exact": "TRACE"}}
    no_host = {"name": ":authority", "string_match": {"safe_regex": {"regex": _AUTHORITY}}, "invert_match": True}
    return [
        _refused("connect", {"connect_matcher": {}}, 403),
        _refused("trace", {"prefix": "/", "headers": [trace]}, 405, response_headers_to_add=[_ALLOW]),
        _refused("host", {"prefix": "/", "headers": [no_host]}, 400),
    ]
