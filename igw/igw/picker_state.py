"""What a running picker says of itself: the admin page ``/debug/state``, read and checked."""

import asyncio
from typing import Final

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from igw.errors import CommandFailed

_TIMEOUT_SECONDS: Final = 5.0
_LARGEST_ANSWER_BYTES: Final = 64 * 1024 * 1024


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ConfigurationState(_Answer):
    """Whether the last edit of the resources was accepted; `loaded_at` is in seconds since the epoch."""

    accepted: bool = True
    error: str = ""
    loaded_at: float = 0.0


class ModelState(_Answer):
    """A model clients can name; `pool` as ``namespace/name:version``."""

    name: str
    pool: str = ""
    targets: tuple[str, ...] = ()
    priority: int = 0

    @property
    def pool_name(self) -> str:
        """``namespace/name`` of its pool."""
        return _without_version(self.pool)


class MetricsState(_Answer):
    """The last reading of a model server; None is unknown."""

    engine: str = ""
    waiting_queue_size: int | None = None
    running_requests: int | None = None
    kv_cache_utilization: float | None = None
    age_seconds: float | None = None


class CircuitState(_Answer):
    """Whether an endpoint gets requests, and why not; `until_seconds` while it is open, `reason` unless closed."""

    state: str = "closed"
    reason: str | None = None
    until_seconds: float | None = None


class EndpointState(_Answer):
    """One endpoint, its health and what it served."""

    address: str
    name: str = ""
    healthy: bool = True
    circuit: CircuitState | None = None
    in_flight: int = 0
    metrics: MetricsState | None = None
    requests_total: int = 0
    ttft_p50_seconds: float | None = None
    ttft_p90_seconds: float | None = None
    tokens_per_second: float | None = None


class PoolState(_Answer):
    """One pool; `name` as ``namespace/name:version``."""

    name: str
    failure_mode: str = ""
    endpoints: tuple[EndpointState, ...] = ()

    @property
    def short_name(self) -> str:
        """``namespace/name``, as models refer to it."""
        return _without_version(self.name)


class PickerState(_Answer):
    """The whole page."""

    version: str = ""
    uptime_seconds: float = 0.0
    synced: bool = False
    configuration: ConfigurationState = Field(default_factory=ConfigurationState)
    models: tuple[ModelState, ...] = ()
    pools: tuple[PoolState, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """Endpoints of all pools, each address once."""
        return tuple({e.address: e for pool in self.pools for e in pool.endpoints}.values())


async def read_page(admin_url: str, path: str, *, token: str = "") -> bytes:
    """Return an admin page, asking with *token* where one is needed.

    Raises:
        CommandFailed: Nobody answers there, or not with 200.
    """
    url = admin_url.rstrip("/") + path
    try:
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),
            aiohttp.ClientSession() as session,
            session.get(url, headers={"Authorization": f"Bearer {token}"} if token else None) as response,
        ):
            if response.status == 401:
                said = "takes another token than this one" if token else "asks for a token"
                msg = f"{url} {said} (--admin-token-file)"
                raise CommandFailed(msg)
            if response.status != 200:
                msg = f"{url} answers {response.status}"
                raise CommandFailed(msg)
            # read(n) may return less than the page; only a page beyond the limit is left incomplete.
            return await _read_limited(response.content)
    except TimeoutError:
        msg = f"{url} does not answer within {_TIMEOUT_SECONDS:g} s"
        raise CommandFailed(msg) from None
    except (aiohttp.ClientError, OSError, ValueError):
        msg = f"no gateway answers at {admin_url} (is `igw up` running? name its address with --admin)"
        raise CommandFailed(msg) from None


def parse_state(page: bytes) -> PickerState:
    """Parse ``/debug/state``.

    Raises:
        CommandFailed: It is not what a picker says.
    """
    try:
        return PickerState.model_validate_json(page)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "page"
        msg = f"the answer is not the state of an endpoint picker ({where}: {first['msg']})"
        raise CommandFailed(msg) from None


async def read_state(admin_url: str, *, token: str = "") -> PickerState:
    """Read and parse ``/debug/state``; raises as `read_page` and `parse_state` do."""
    return parse_state(await read_page(admin_url, "/debug/state", token=token))


def _without_version(pool: str) -> str:
    return pool.rpartition(":")[0] or pool


async def _read_limited(content: aiohttp.StreamReader) -> bytes:
    page = bytearray()
    async for chunk in content.iter_any():
        page += chunk
        if len(page) > _LARGEST_ANSWER_BYTES:
            msg = "the answer is too large for the state of an endpoint picker"
            raise CommandFailed(msg)
    return bytes(page)
