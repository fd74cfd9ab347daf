"""What Envoy's admin interface tells: which configuration it has taken over, and what it refused and why."""

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

_TIMEOUT_SECONDS: Final = 2.0
_REASON_LENGTH: Final = 1000


@dataclass(frozen=True, slots=True)
class EnvoyVersions:
    """Configuration versions that Envoy has taken over; empty where it has none.

    Attributes:
        clusters: Of the cluster file.
        listeners: Of the listener file.
        routes: By listener name.
        endpoints: Of the endpoint files, by cluster name with underscores for colons.
        rejected: Updates refused since Envoy's start.
        warming: Clusters and listeners still being prepared.
    """

    clusters: str = ""
    listeners: str = ""
    routes: tuple[tuple[str, str], ...] = ()
    rejected: int = 0
    warming: int = 0
    endpoints: tuple[tuple[str, str], ...] = ()


class EnvoyAdmin:
    """Asks the Envoy beside this process over its Unix socket; an asynchronous context manager.

    Args:
        socket_path: Envoy's admin socket.
    """

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(self._socket_path), timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, path: str) -> str | None:
        if self._session is None:
            msg = "the admin client is used outside its `async with`"
            raise RuntimeError(msg)
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._session.get(f"http://envoy{path}") as response:
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def versions(self) -> EnvoyVersions | None:
        """Return what Envoy has taken over; None when it does not run."""
        pattern = (
            r"(cds|lds|rds\..*)\.(version_text|update_rejected)$"
            r"|^cluster\..*\.version_text$|(total_listeners|clusters)?_?warming"
        )
        text = await self._get(f"/stats?filter={pattern}")
        return None if text is None else read_versions(text)

    async def refusals(self) -> tuple[str, ...]:
        """Return Envoy's own words about configuration it refused, each once."""
        text = await self._get("/config_dump")
        return () if text is None else read_refusals(text)


def read_versions(text: str) -> EnvoyVersions:
    """Return the versions in a page of statistics."""
    clusters = listeners = ""
    routes: list[tuple[str, str]] = []
    endpoints: list[tuple[str, str]] = []
    rejected = warming = 0
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        value = value.strip('"')
        if name.endswith("update_rejected"):
            rejected += int(value) if value.isdigit() else 0
        elif name.endswith(("warming", "warming_clusters")):
            warming += int(value) if value.isdigit() else 0
        elif name == "cluster_manager.cds.version_text":
            clusters = value
        elif name == "listener_manager.lds.version_text":
            listeners = value
        elif name.startswith("cluster.") and name.endswith(".version_text"):
            endpoints.append((name.removeprefix("cluster.").removesuffix(".version_text"), value))
        elif ".rds." in name and name.endswith(".version_text"):
            routes.append((name.split(".rds.", 1)[1].removesuffix(".version_text"), value))
    return EnvoyVersions(clusters, listeners, tuple(routes), rejected, warming, tuple(endpoints))


def _reason(details: str) -> str:
    """Return the reason alone: Envoy writes the whole refused configuration before it, clients' keys included."""
    if "\n" in details:
        details = details.strip().rpartition("\n")[2]
    return details.lstrip(": ")[-_REASON_LENGTH:]


def read_refusals(text: str) -> tuple[str, ...]:
    """Return the reason of every ``error_state`` in a configuration dump, each once."""
    try:
        document = json.loads(text)
    except ValueError:
        return ()
    found: dict[str, None] = {}
    stack: list[object] = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            state = value.get("error_state")
            if isinstance(state, dict) and isinstance(state.get("details"), str):
                found[_reason(state["details"])] = None
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return tuple(found)
