"""A request that has ended, and each attempt at it, as the data plane reported them."""

from dataclasses import dataclass, field
from enum import StrEnum

from endpoint_picker.domain.trace_context import TraceContext
from endpoint_picker.domain.usage import Usage


class AttemptVerdict(StrEnum):
    """What an attempt says of its endpoint."""

    ANSWERED = "answered"
    """It works: a status that is no server error, and all of the answer, or as much as the client stayed for."""
    FAILED = "failed"
    """It does not: a server error, no connection, silence, or an answer that broke off."""
    OVERLOADED = "overloaded"
    """It works and has too much to do: 429, or 503 with a time to come back."""
    NOTHING = "nothing"
    """No news: not ended yet, the client left before the first byte, or a limit that somebody set ended it."""


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
        retry_after_seconds: When the endpoint wants to be asked again; None: it did not say.
        correlation_id: Key that joins it to the picker's own record; empty if the report has none.
        trace: Where the request stood in a trace when the endpoint was asked; None: in none.
        started_at: Start, seconds since the epoch; 0 where it is not known.
    """

    request_id: str
    address: str
    status: int | None = None
    flags: str = ""
    started: bool = False
    first_byte_seconds: float | None = None
    duration_seconds: float | None = None
    live: bool = False
    retry_after_seconds: float | None = None
    correlation_id: str = ""
    trace: TraceContext | None = None
    started_at: float = 0.0

    @property
    def verdict(self) -> AttemptVerdict:
        """What it says of the endpoint; a live attempt speaks well of it once the first byte was seen.

        A client that leaves ends an attempt without a flag: before the first byte that says nothing, after it the
        endpoint was answering. A limit on the whole answer (``UT``, ``DT``, ``UMSDR``) that ends one which was coming
        says nothing either.
        """
        status = self.status
        if not self.flags and status is not None and status < _TOO_MANY_REQUESTS:
            return _ANSWERED
        if self.live:
            return AttemptVerdict.ANSWERED if self.started else AttemptVerdict.NOTHING
        if status == _TOO_MANY_REQUESTS or (status == _UNAVAILABLE and self.retry_after_seconds is not None):
            return AttemptVerdict.OVERLOADED
        if status is not None and status >= _SERVER_ERROR:
            return AttemptVerdict.FAILED
        return self._verdict_of_flags()

    def _verdict_of_flags(self) -> AttemptVerdict:
        flags = self.flags.split(",")
        if not _ENDPOINT_FLAGS.isdisjoint(flags):
            return AttemptVerdict.FAILED
        if not _LIMIT_FLAGS.isdisjoint(flags):
            return AttemptVerdict.NOTHING if self.begun else AttemptVerdict.FAILED
        return AttemptVerdict.NOTHING if self.status is None else _ANSWERED

    @property
    def failed(self) -> bool:
        """Whether the endpoint failed; False while live."""
        return self.verdict is AttemptVerdict.FAILED

    @property
    def refused(self) -> bool:
        """Whether there was no connection to the endpoint."""
        return self.status is None and not self.started and "UF" in self.flags.split(",")

    @property
    def begun(self) -> bool:
        """Whether an answer began: bytes that the data plane held back, such as comments, come without a status."""
        return self.started and self.status is not None

    @property
    def timed_out(self) -> bool:
        """Whether the endpoint was given up because no answer came from it."""
        return not self.live and not self.begun and not _SILENCE_FLAGS.isdisjoint(self.flags.split(","))

    @property
    def passed_on(self) -> bool:
        """Whether the data plane turns to the next endpoint, if there is one: an error status, or no answer begun."""
        if self.verdict is AttemptVerdict.OVERLOADED:
            return True
        return self.failed and (not self.begun or (self.status is not None and self.status >= _SERVER_ERROR))


@dataclass(slots=True)
class CompletedRequest:
    """One request after its end; not frozen, because the director completes the report of every request in place.

    Attributes:
        correlation_id: Key that joins it to the picker's own record; empty if it never reached the picker.
        request_id: The client-visible ``x-request-id``.
        stream_id: The data plane's own id of a request that was never dispatched; empty once it was.
        method: HTTP method.
        path: Path without query.
        route: Route that matched, empty if none.
        cluster: Upstream cluster, empty if none.
        address: Endpoint that served it, ``ip:port``; empty if none did.
        last_address: Endpoint that was tried last, whether it served it or not; empty if none was.
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
        trace: Where the request stands in a trace, as it was sent on last or, if it never was, as it came; None: in
            none.
        trace_origin: Span the client named as the parent of ours, zeros if none; empty: `trace` is not by us.
    """

    correlation_id: str = ""
    request_id: str = ""
    stream_id: str = ""
    method: str = ""
    path: str = ""
    route: str = ""
    cluster: str = ""
    address: str = ""
    last_address: str = ""
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
    trace: TraceContext | None = None
    trace_origin: str = ""

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


# Envoy: the client closed or reset; says nothing of the endpoint.
_CLIENT_FLAGS = frozenset({"DC", "DR"})
_ANSWERED = AttemptVerdict.ANSWERED  # nearly every attempt's: a name of its own is found sooner
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_UNAVAILABLE = 503
# Envoy: the connection failed or was cut, the answer was reset, broke the protocol, or nothing came for too long.
_ENDPOINT_FLAGS = frozenset({"UC", "UF", "UPE", "UR", "SI"})
_LIMIT_FLAGS = frozenset({"UT", "DT", "UMSDR"})
_SILENCE_FLAGS = _LIMIT_FLAGS | {"SI"}
# Set after the headers were sent, they mean a status that was fine and an answer that was not whole.
_BROKEN_FLAGS = _ENDPOINT_FLAGS | _LIMIT_FLAGS | {"LR", "OM"}
