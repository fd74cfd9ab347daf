"""What Envoy's admin interface tells: the configuration it has taken over or refused, and what it has in flight."""

import asyncio
import json
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from endpoint_picker.requestcontrol.audit import DataPlaneCounts
from envoy_config import names

_TIMEOUT_SECONDS: Final = 2.0
_MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
"""Far above what ten thousand endpoints need."""
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

    async def _page(self, path: str) -> bytes | None:
        """Return a page; None when it cannot be had whole and in time."""
        if self._session is None:
            msg = "the admin client is used outside its `async with`"
            raise RuntimeError(msg)
        page = bytearray()
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._session.get(f"http://envoy{path}") as response:
                if response.status != 200:
                    return None
                async for chunk in response.content.iter_any():
                    page += chunk
                    if len(page) > _MAX_PAGE_BYTES:
                        return None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return bytes(page)

    async def _text(self, path: str) -> str | None:
        page = await self._page(path)
        return None if page is None else page.decode(errors="replace")

    async def counts(self) -> DataPlaneCounts | None:
        """Return what Envoy has in flight; None when it does not run, or not answer in time.

        Raises:
            ValueError: The page is not one of Envoy's.
        """
        page = await self._page(_COUNTS_PAGE)
        return None if page is None else read_counts(page)

    async def statistics(self) -> bytes | None:
        """Return what Envoy counts, as a page for Prometheus; None when it does not run, or not answer in time."""
        return await self._page("/stats/prometheus?usedonly")

    async def versions(self) -> EnvoyVersions | None:
        """Return what Envoy has taken over; None when it does not run."""
        pattern = (
            r"(cds|lds|rds\..*)\.(version_text|update_rejected)$"
            r"|^cluster\..*\.version_text$|(total_listeners|clusters)?_?warming"
        )
        text = await self._text(f"/stats?filter={pattern}")
        return None if text is None else read_versions(text)

    async def refusals(self) -> tuple[str, ...]:
        """Return Envoy's own words about configuration it refused, each once."""
        text = await self._text("/config_dump")
        return () if text is None else read_refusals(text)


_COUNTS_PAGE: Final = (
    "/stats?type=Gauges&filter=[.]endpoint[.].*[.]rq_(pending_)?active$"
    f"|^http[.](admin|{names.STATISTICS_PREFIX})[.]downstream_rq_active$"
)
_AT_ENDPOINT: Final = re.compile(rb"^cluster\..+\.endpoint\.([^ ]+)\.rq_(?:pending_)?active: (\d{1,9})$", re.MULTILINE)
_OF_CLIENTS: Final = re.compile(
    rb"^http\.%s\.downstream_rq_active: (\d{1,9})$" % names.STATISTICS_PREFIX.encode(), re.MULTILINE
)
_SIGN_OF_ENVOY: Final = b"http.admin.downstream_rq_active: "
"""In every such page: at least our own question is under way."""


def read_counts(page: bytes) -> DataPlaneCounts:
    """Return what is in flight by a page of statistics; an address that several clusters list is summed up.

    Raises:
        ValueError: The page is not one of Envoy's.
    """
    if _SIGN_OF_ENVOY not in page:
        msg = "no page of Envoy's statistics"
        raise ValueError(msg)
    endpoints: dict[str, int] = {}
    for spelled, number in _AT_ENDPOINT.findall(page):
        address = spelled.replace(b"_", b":").decode("latin-1")
        endpoints[address] = endpoints.get(address, 0) + int(number)
    of_clients = _OF_CLIENTS.search(page)
    return DataPlaneCounts(endpoints, int(of_clients[1]) if of_clients else 0)


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
