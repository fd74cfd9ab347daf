"""A request that has ended, and each attempt at it, as the data plane reported them."""

from dataclasses import dataclass, field

from endpoint_picker.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one request at one endpoint.

    Attributes:
        request_id: The client-visible ``x-request-id``.
        address: Endpoint that was tried, ``ip:port``.
        status: Status the endpoint answered; None: it did not answer, or not yet.
        flags: The data plane's response flags, comma-separated, such as ``UF`` or ``UT``; empty: nothing went wrong.
        started: Whether the first byte of the answer's body was seen.
        first_byte_seconds: From the start of the attempt to that byte; None: none was seen.
        duration_seconds: Length of the attempt; None while it is live.
        live: The endpoint is being tried right now; there is no result yet.
    """

    request_id: str
    address: str
    status: int | None = None
    flags: str = ""
    started: bool = False
    first_byte_seconds: float | None = None
    duration_seconds: float | None = None
    live: bool = False

    @property
    def failed(self) -> bool:
        """Whether the endpoint failed: a server error, or no answer for a reason of its own; False while live.

        A client that leaves before the answer ends the attempt without a status; that is no failure of the endpoint.
        """
        if self.live:
            return False
        if self.status is not None:
            return self.status >= 500
        return bool(_BROKEN_FLAGS.intersection(self.flags.split(",")))


@dataclass(frozen=True, slots=True)
class CompletedRequest:
    """One request after its end.

    Attributes:
        correlation_id: Key that joins it to the picker's own record; empty if it never reached the picker.
        request_id: The client-visible ``x-request-id``.
        method: HTTP method.
        path: Path without query.
        route: Route that matched, empty if none.
        cluster: Upstream cluster, empty if none.
        address: Endpoint that served it, ``ip:port``; empty if none did.
        attempts: Endpoints tried, 0 if none.
        status: HTTP status the client got; 0: it got none.
        details: The data plane's response code details, such as ``via_upstream``.
        flags: Its response flags, comma-separated.
        client_gone: The client went away before the end.
        model: Model the client asked for.
        target_model: Model or adapter the model server was asked for.
        pool: ``namespace/name`` of the pool.
        priority: Priority of the request; None: not known.
        streaming: Whether the answer was a stream; None: not known.
        usage: Tokens as the model server counted them.
        ttft_seconds: From the request's start to the first body byte or token; None: there was none.
        duration_seconds: From the request's start to its end.
        body_seconds: From the first body byte to the last; None: there was no body.
        attempt_first_byte_seconds: From the start of the attempt that answered to the first body byte; None: as above.
        request_bytes: Size of the request body.
        response_bytes: Size of the response body.
        started_at: Start, seconds since the epoch.
    """

    correlation_id: str = ""
    request_id: str = ""
    method: str = ""
    path: str = ""
    route: str = ""
    cluster: str = ""
    address: str = ""
    attempts: int = 0
    status: int = 0
    details: str = ""
    flags: str = ""
    client_gone: bool = False
    model: str = ""
    target_model: str = ""
    pool: str = ""
    priority: int | None = None
    streaming: bool | None = None
    usage: Usage = field(default_factory=Usage)
    ttft_seconds: float | None = None
    duration_seconds: float = 0.0
    body_seconds: float | None = None
    attempt_first_byte_seconds: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    started_at: float = 0.0

    @property
    def time_per_output_token_seconds(self) -> float | None:
        """Mean time between output tokens of a stream; None if unknown or if there were fewer than two tokens."""
        tokens = self.usage.completion_tokens
        if not self.streaming or self.body_seconds is None or tokens is None or tokens < 2:
            return None
        return self.body_seconds / (tokens - 1)

    @property
    def failed(self) -> bool:
        """Whether the client got no answer, a server error or a broken one; its own leaving is no failure."""
        if self.client_gone:
            return False
        return self.status == 0 or self.status >= 500 or bool(_BROKEN_FLAGS.intersection(self.flags.split(",")))

    @property
    def answered_attempt(self) -> Attempt | None:
        """The attempt that answered the request; None where there is none, or where it is reported by itself.

        The data plane reports an attempt by itself that gave no answer, a server error, 429, or a broken answer.
        """
        if not self.address or not 0 < self.status < 500 or self.status == _TOO_MANY_REQUESTS:
            return None
        if self.flags and not _CLIENT_FLAGS.issuperset(self.flags.split(",")):
            return None
        return Attempt(
            self.request_id,
            self.address,
            self.status,
            started=self.ttft_seconds is not None,
            first_byte_seconds=self.attempt_first_byte_seconds,
            duration_seconds=self.duration_seconds,
        )


_TOO_MANY_REQUESTS = 429
# Envoy: the client closed or reset; says nothing of the endpoint.
_CLIENT_FLAGS = frozenset({"DC", "DR"})
# Envoy: the connection failed, was cut, timed out, was reset or broke the protocol. Set after the headers were sent,
# they mean a status that was fine and an answer that was not whole.
_BROKEN_FLAGS = frozenset({"UC", "UF", "UPE", "UR", "UT", "SI", "LR", "DT", "UMSDR", "OM"})
