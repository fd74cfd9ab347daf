"""Matching: which entries of a listener a request meets, in order of precedence; as Envoy would decide it."""

from collections.abc import Iterator, Mapping, Sequence

from inference_resolution.hostnames import covers, host_of, specificity
from inference_resolution.regular_expressions import fully_matches
from inference_resolution.resolved import PathMatchType, RouteEntry, RouteMatch, ValueMatch, VirtualHost


def find_virtual_host(virtual_hosts: Sequence[VirtualHost], authority: str) -> VirtualHost | None:
    """Return the virtual host with the most specific host name that covers *authority*, None if none does."""
    host = host_of(authority)
    covering = [candidate for candidate in virtual_hosts if covers(candidate.hostname, host)]
    return min(covering, key=lambda candidate: specificity(candidate.hostname), default=None)


def find_entries(  # the parts of a request line and head
    virtual_hosts: Sequence[VirtualHost],
    *,
    host: str,
    path: str,
    method: str,
    headers: Mapping[str, str],
    query: Mapping[str, str] | None = None,
) -> Iterator[RouteEntry]:
    """Yield the entries that match a request, best first.

    Args:
        virtual_hosts: Those of one listener, in any order.
        host: Host or ``:authority``, with or without port.
        path: Path; a query string at its end is not looked at.
        method: Method, upper case.
        headers: Several values of one name joined by commas.
        query: First value of each query parameter.
    """
    virtual_host = find_virtual_host(virtual_hosts, host)
    if virtual_host is None:
        return
    bare = path.partition("?")[0].partition("#")[0]
    for entry in virtual_host.entries:
        if matches(entry.match, path=bare, method=method, headers=headers, query=query or {}):
            yield entry


def matches(match: RouteMatch, *, path: str, method: str, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Tell whether every part of *match* holds; *path* comes without query string."""
    if match.method and match.method != method:
        return False
    if not _path_matches(match, path):
        return False
    return all(_holds(item, _header(headers, item.name)) for item in match.headers) and all(
        _holds(item, query.get(item.name)) for item in match.query
    )


def _path_matches(match: RouteMatch, path: str) -> bool:
    match match.path_type:
        case PathMatchType.EXACT:
            return path == match.path
        case PathMatchType.PREFIX:
            prefix = match.path.rstrip("/")
            return not prefix or path == prefix or path.startswith(f"{prefix}/")
        case PathMatchType.REGEX:
            return fully_matches(match.path, path)


def _holds(item: ValueMatch, value: str | None) -> bool:
    if value is None:
        return False
    return fully_matches(item.value, value) if item.regex else value == item.value


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """Return a header by its lower-case *name*, however the request spells it."""
    if name in headers:
        return headers[name]
    return next((value for key, value in headers.items() if key.lower() == name), None)
