"""Virtual hosts of a listener: own entries by precedence, then those of less specific hosts that cover the name."""

from collections.abc import Mapping, Sequence

from inference_resolution.hostnames import covers, specificity
from inference_resolution.precedence import RankedEntry
from inference_resolution.resolved import RouteEntry, VirtualHost


def build_virtual_hosts(entries: Mapping[str, Sequence[RankedEntry]]) -> tuple[VirtualHost, ...]:
    """Return one virtual host per host pattern of *entries*, most specific first.

    Envoy chooses one virtual host and never looks into another: a request whose model the own entries do not serve must
    find the entries of the wider hosts in the same place, after them.
    """
    ordered = sorted(entries, key=specificity)
    own = {
        hostname: tuple(item.entry for item in sorted(entries[hostname], key=lambda item: item.precedence))
        for hostname in ordered
    }
    hosts = []
    for hostname in ordered:
        listed: dict[str, RouteEntry] = {}
        for wider in (candidate for candidate in ordered if covers(candidate, hostname)):
            for entry in own[wider]:
                listed.setdefault(entry.name, entry)
        hosts.append(VirtualHost(hostname, tuple(listed.values())))
    return tuple(hosts)
