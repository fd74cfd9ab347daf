"""Host names of listeners and routes: exact, ``*.`` wildcards over any number of labels, and ``*`` for any."""

from collections.abc import Sequence
from typing import Final

ANY: Final = "*"


def covers(pattern: str, hostname: str) -> bool:
    """Tell whether every host of *hostname*, exact or wildcard, is a host of *pattern*."""
    if pattern in {ANY, hostname}:
        return True
    return pattern.startswith("*.") and hostname != ANY and hostname.removeprefix("*").endswith(pattern[1:])


def specificity(pattern: str) -> tuple[bool, int, str]:
    """Return what sorts the most specific pattern first: exact, then the longest wildcard, ``*`` last."""
    return (pattern.startswith(ANY), -len(pattern), pattern)


def intersect(listener: str, hostnames: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns under which a route with *hostnames* is served on a listener, none if they do not meet.

    An empty *listener* and empty *hostnames* stand for any host.
    """
    if not hostnames:
        return (listener or ANY,)
    if not listener:
        return tuple(dict.fromkeys(hostnames))
    met = [
        hostname if covers(listener, hostname) else listener
        for hostname in hostnames
        if covers(listener, hostname) or covers(hostname, listener)
    ]
    return tuple(dict.fromkeys(met))


def host_of(authority: str) -> str:
    """Return the host of an ``:authority`` or Host value: lower-case, without its port."""
    host, colon, port = authority.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.endswith("]")):
        authority = host
    return authority.lower()
