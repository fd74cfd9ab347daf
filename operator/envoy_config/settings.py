"""What a rendering needs besides the resources: places, limits and switches."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_BODY_GROWTH_BYTES: Final = 64 * 1024
"""A target model's longer name and the options the picker adds need far less."""
_CLIENT_STALL_SECONDS: Final = 30.0
_DECISION_MARGIN_SECONDS: Final = 10.0
_CONNECTION_BUFFER_BYTES: Final = 256 * 1024


class UsageSource(StrEnum):
    """Who reads token usage from answers.

    `NATIVE` is Envoy's own pair of filters (marked work in progress upstream), `LUA` a stable filter of ours in
    Envoy, `PICKER` the endpoint picker, which then sees every chunk.
    """

    NATIVE = "native"
    LUA = "lua"
    PICKER = "picker"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a listener binds; with port 0 the kernel chooses."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """Places, limits and switches of one Envoy.

    Attributes:
        directory: Absolute folder of Envoy's files and sockets.
        listen: Address of every listener by its name; a listener without one is not rendered.
        node_id: Envoy's node id.
        max_body_bytes: Largest request body; also what a retry can replay.
        max_header_kib: Largest request header block, KiB.
        max_connections: Client connections accepted at once.
        max_upstream_connections: Connections to the servers of one cluster; above it requests wait for one.
        max_heap_bytes: Memory of Envoy beyond which it refuses requests.
        message_timeout_seconds: How long Envoy waits for one answer of the picker.
        connect_timeout_seconds: Per attempt, towards model servers.
        stream_idle_timeout_seconds: Silence on a client stream that ends it.
        request_timeout_seconds: Time a client may take to send its whole request; for its headers, and between two
            pieces of its body, it has half a minute of that at most.
        usage: Who reads usage.
        tracing: Tell model servers of each attempt as a span of its own; the picker says of which trace.
        hold_headers: Hold response headers until the first event, so that an attempt that dies or stalls in prefill
            fails over. Rests on upstream Wasm, marked alpha.
        api_keys: Bearer tokens of clients; empty: no authentication.
    """

    directory: str
    listen: dict[str, ListenAddress] = field(default_factory=dict)
    node_id: str = "inference-gateway"
    max_body_bytes: int = 32 * 1024 * 1024
    max_header_kib: int = 60
    max_connections: int = 20_000
    max_upstream_connections: int = 1_000_000
    max_heap_bytes: int = 2 * 1024 * 1024 * 1024
    message_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 2.0
    stream_idle_timeout_seconds: float = 300.0
    request_timeout_seconds: float = 120.0
    usage: UsageSource = UsageSource.NATIVE
    tracing: bool = False
    hold_headers: bool = True
    api_keys: tuple[str, ...] = field(default=(), repr=False)

    @property
    def body_buffer_bytes(self) -> int:
        """What Envoy holds of a body: the largest one, and what the picker may add to it."""
        return self.max_body_bytes + _BODY_GROWTH_BYTES

    @property
    def client_stall_seconds(self) -> float:
        """How long a client may send nothing of a request that it has begun."""
        return min(_CLIENT_STALL_SECONDS, self.request_timeout_seconds)

    @property
    def undecided_idle_seconds(self) -> float:
        """Silence that ends a request on whose route nobody is dialled: the client's, or the picker's and a margin."""
        return max(self.client_stall_seconds, self.message_timeout_seconds + _DECISION_MARGIN_SECONDS)

    @property
    def connection_buffer_bytes(self) -> int:
        """What Envoy holds of a connection whose other end is slow, towards clients and towards model servers.

        A slow reader costs this much twice, once on each side. Bodies that the picker has to see are held up to
        `body_buffer_bytes` by their routes.
        """
        return min(_CONNECTION_BUFFER_BYTES, self.body_buffer_bytes)
