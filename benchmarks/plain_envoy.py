"""An Envoy without a picker: the floor that the gateway is compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from envoy_config import names
from envoy_config.fields import Json, duration, extension, socket_address
from igw.listen_address import ListenAddress

POLICIES: Final = {"round-robin": "ROUND_ROBIN", "random": "RANDOM", "least-request": "LEAST_REQUEST"}
"""Load-balancing policies of Envoy by the name of their arm."""

_BUFFER_BYTES: Final = 32 * 1024 * 1024
_UNLIMITED: Final = 1_000_000


def plain_bootstrap(folder: Path, listen: ListenAddress, servers: Sequence[ListenAddress], policy: str) -> Json:
    """Return a static start-up file that spreads requests over *servers* by a *policy* of `POLICIES`.

    Connection limits and buffers are those of the gateway; filters, access log and picker are left out.
    """
    endpoints = [{"endpoint": {"address": socket_address(server.ip, server.port)}} for server in servers]
    limits = {"max_connections": _UNLIMITED, "max_pending_requests": _UNLIMITED, "max_requests": _UNLIMITED}
    cluster = {
        "name": "servers",
        "type": "STATIC",
        "lb_policy": POLICIES[policy],
        "connect_timeout": duration(2.0),
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": "servers", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "0s"}}
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="plain",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")],
    )
    return {
        "node": {"id": "plain", "cluster": "benchmark"},
        "admin": {"address": {"pipe": {"path": str(folder / names.ADMIN_SOCKET), "mode": 0o600}}},
        "static_resources": {
            "clusters": [cluster],
            "listeners": [
                {
                    "name": "plain",
                    "address": socket_address(listen.ip, listen.port),
                    "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
                    "filter_chains": [{"filters": [manager]}],
                }
            ],
        },
    }
