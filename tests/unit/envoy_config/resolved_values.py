"""Resolved values that the tests of rendering start from."""

from typing import Any

from envoy_config import names
from envoy_config.fields import Json
from envoy_config.render import render
from envoy_config.settings import EnvoySettings, ListenAddress
from inference_resolution.resolved import (
    FailureMode,
    ObjectKey,
    PoolKey,
    Resolution,
    ResolvedBackend,
    ResolvedEndpoint,
    ResolvedListener,
    ResolvedPool,
    ResolvedRule,
    ResolvedService,
    RouteEntry,
    RouteMatch,
    ServiceKey,
    VirtualHost,
)

GATEWAY = ObjectKey("gateway.networking.k8s.io", "Gateway", "default", "gw")
CLOSED = PoolKey("default", "closed", "v1")
OPEN = PoolKey("default", "open", "v1")
SERVICE = ServiceKey("default", "web", 80)
ENDPOINT = ResolvedEndpoint("pod", "default", "10.0.0.1", 8000, hostname="m.example.com")
POOLS = {
    CLOSED: ResolvedPool(CLOSED, (ENDPOINT,), api_key="s3cret"),
    OPEN: ResolvedPool(OPEN, (ENDPOINT,), failure_mode=FailureMode.FAIL_OPEN),
}
SERVICES = {SERVICE: ResolvedService(SERVICE, (ENDPOINT,))}


def settings(**changed: Any) -> EnvoySettings:
    return EnvoySettings(directory="/run/gw", **{"listen": {"http": ListenAddress("127.0.0.1", 8080)}, **changed})


def rule(*targets: PoolKey | ServiceKey | None, name: str = "httproute/default/r/0", **parts: Any) -> ResolvedRule:
    return ResolvedRule(name, tuple(ResolvedBackend(target) for target in targets), **parts)


def entry(
    to: ResolvedRule, match: RouteMatch | None = None, *, models: frozenset[str] | None = None, number: int = 0
) -> RouteEntry:
    return RouteEntry(f"{to.name}/{number}", match or RouteMatch(), to, models)


def resolution(*entries: RouteEntry, hostname: str = "*") -> Resolution:
    host = VirtualHost(hostname, entries)
    return Resolution((ResolvedListener(GATEWAY, "http", 8080, (host,)),), POOLS, SERVICES)


def files(*entries: RouteEntry, hostname: str = "*", **changed: Any) -> dict[str, Json]:
    return dict(render(resolution(*entries, hostname=hostname), settings(**changed)))


def virtual_host(*entries: RouteEntry, hostname: str = "*", **changed: Any) -> Any:
    table: Any = next(
        content for path, content in files(*entries, hostname=hostname, **changed).items() if path.startswith("rds/")
    )
    return table["resources"][0]["virtual_hosts"][0]


def routes(*entries: RouteEntry, **changed: Any) -> list[Any]:
    """Return all routes but those for requests that nobody serves."""
    found: list[Any] = virtual_host(*entries, **changed)["routes"]
    return [route for route in found if not route["name"].startswith(names.REFUSED_ROUTE_PREFIX)]


def client_facing(given: RouteEntry, **changed: Any) -> Any:
    """Return the route for all paths; one for control paths may come before it under the same name."""
    return [route for route in routes(given, **changed) if route["name"] == given.name][-1]


def picked(given: RouteEntry, **changed: Any) -> Any:
    """Return the picked route for streams."""
    return routes(given, **changed)[0]
