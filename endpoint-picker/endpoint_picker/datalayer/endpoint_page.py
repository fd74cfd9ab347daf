"""Fetch one small page from a model server: bounded in time and size."""

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from endpoint_picker.datalayer.engines import engine_of_labels, metrics_paths
from inference_resolution.resolved import ModelServerTls, ResolvedEndpoint, ResolvedPool

MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""Largest body, before and after decompression; pages in use have some ten kilobytes."""

_READ_BUFFER_BYTES: Final = 256 * 1024
_KEEP_ALIVE_SECONDS: Final = 75.0
_MAX_TLS_CONTEXTS: Final = 64


class PageProblem(StrEnum):
    """Why a page could not be had or used."""

    TIMEOUT = "timeout"
    """Not even the head of an answer came in time."""
    UNREACHABLE = "unreachable"
    TLS = "tls"
    STATUS = "status"
    SLOW = "slow"
    """An answer began, but its body did not end in time."""
    MALFORMED = "malformed"
    """What came is no HTTP, or a body that breaks off."""
    TOO_LARGE = "too_large"
    ENCODING = "encoding"
    UNRECOGNISED = "unrecognised"
    NO_LOAD_METRICS = "no_load_metrics"
    INTERNAL = "internal"


class PageUnavailableError(Exception):
    """No page.

    Attributes:
        problem: Why.
        status: HTTP status, 0 if there was no answer.
    """

    def __init__(self, problem: PageProblem, *, status: int = 0) -> None:
        super().__init__(f"{problem} (status {status})" if status else str(problem))
        self.problem = problem
        self.status = status


@dataclass(frozen=True, slots=True)
class PageTarget:
    """Where the pages of one endpoint are and how to ask for them.

    Attributes:
        address: ``ip:port`` of the endpoint as the data plane dials it; the key of everything published.
        origin: Scheme, host and port to ask, such as ``http://10.0.0.7:8000``.
        paths: Paths to try, likeliest first, never empty.
        engine: Metrics dialect the endpoint names; empty: found by looking.
        tls: How to check an https origin; None: as the system does.
        server_name: SNI and expected name for https; empty: the host of the origin.
        api_key: Bearer token; empty: none. Never logged.
    """

    address: str
    origin: str
    paths: tuple[str, ...] = ("/metrics",)
    engine: str = ""
    tls: ModelServerTls | None = None
    server_name: str = ""
    api_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.paths:
            msg = f"a page of {self.address} needs at least one path"
            raise ValueError(msg)


def metrics_target(pool: ResolvedPool, endpoint: ResolvedEndpoint) -> PageTarget:
    """Return where an endpoint's metrics page is."""
    engine = engine_of_labels(endpoint.labels)
    paths = metrics_paths(engine, path=pool.metrics_path)
    return _target(pool, endpoint, port=pool.metrics_port or endpoint.port, paths=paths, engine=engine)


def models_target(pool: ResolvedPool, endpoint: ResolvedEndpoint) -> PageTarget:
    """Return where an endpoint lists the models it serves."""
    return _target(pool, endpoint, port=endpoint.port, paths=("/v1/models",), engine="")


def _target(
    pool: ResolvedPool, endpoint: ResolvedEndpoint, *, port: int, paths: tuple[str, ...], engine: str
) -> PageTarget:
    host = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
    return PageTarget(
        address=endpoint.address,
        origin=f"{'http' if pool.tls is None else 'https'}://{host}:{port}",
        paths=paths,
        engine=engine,
        tls=pool.tls,
        server_name=(pool.tls.server_name or endpoint.hostname) if pool.tls else "",
        api_key=pool.api_key,
    )


class PageFetcher:
    """Fetches pages over kept-alive connections; an asynchronous context manager.

    Redirects are not followed and cookies not kept.

    Args:
        max_bytes: Largest body, before and after decompression.
    """

    def __init__(self, *, max_bytes: int = MAX_PAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[bool, str], ssl.SSLContext] = {}

    async def __aenter__(self) -> Self:
        # The caller asks an endpoint for one page at a time, so connections need no limit of their own.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            # A compressed page costs both sides more than the few kilobytes of a local network it saves.
            headers={
                "User-Agent": "inference-gateway",
                "Accept": "text/plain, */*;q=0.1",
                "Accept-Encoding": "identity",
            },
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, target: PageTarget, path: str, *, deadline: float) -> bytes:
        """Return the body of a page that is whole before *deadline*, a reading of the event loop's clock.

        Raises:
            PageUnavailableError: Whatever went wrong.
        """
        if self._session is None:
            msg = "the fetcher is used outside its `async with`"
            raise RuntimeError(msg)
        problem = PageProblem.TIMEOUT
        try:
            async with (
                asyncio.timeout_at(deadline),
                self._session.get(
                    URL(target.origin + path, encoded=True),
                    headers=_credential(target),
                    allow_redirects=False,
                    ssl=self._tls_context(target.tls) if target.tls else True,
                    server_hostname=target.server_name or None,
                ) as response,
            ):
                problem = PageProblem.SLOW
                if response.status != 200:
                    raise PageUnavailableError(PageProblem.STATUS, status=response.status)
                body = await self._read(response)
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise PageUnavailableError(PageProblem.TLS) from error
        except TimeoutError as error:
            raise PageUnavailableError(problem) from error
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            raise PageUnavailableError(PageProblem.MALFORMED) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PageUnavailableError(PageProblem.UNREACHABLE) from error
        return self._decode(body, response.headers.get("Content-Encoding", ""))

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if (response.content_length or 0) > self._max_bytes:
            raise PageUnavailableError(PageProblem.TOO_LARGE)
        chunks: list[bytes] = []
        size = 0
        while chunk := await response.content.readany():
            size += len(chunk)
            if size > self._max_bytes:
                raise PageUnavailableError(PageProblem.TOO_LARGE)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _decode(self, body: bytes, encoding: str) -> bytes:
        match encoding.strip().lower():
            case "" | "identity":
                return body
            case "gzip" | "x-gzip" | "deflate":
                inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # recognises both headers
            case _:
                raise PageUnavailableError(PageProblem.ENCODING)
        try:
            page = inflater.decompress(body, self._max_bytes)
        except zlib.error as error:
            raise PageUnavailableError(PageProblem.ENCODING) from error
        if inflater.unconsumed_tail:
            raise PageUnavailableError(PageProblem.TOO_LARGE)
        if not inflater.eof:
            raise PageUnavailableError(PageProblem.ENCODING)
        return page

    def _tls_context(self, tls: ModelServerTls) -> ssl.SSLContext:
        key = (tls.verify, tls.ca_pem)
        context = self._contexts.get(key)
        if context is None:
            try:
                context = ssl.create_default_context(cadata=tls.ca_pem or None)
            except TypeError as error:  # what the ssl module raises for a bundle that is not ASCII
                raise PageUnavailableError(PageProblem.TLS) from error
            if not tls.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if len(self._contexts) >= _MAX_TLS_CONTEXTS:
                self._contexts.clear()
            self._contexts[key] = context
        return context


def _credential(target: PageTarget) -> Mapping[str, str] | None:
    return {"Authorization": f"Bearer {target.api_key}"} if target.api_key else None
