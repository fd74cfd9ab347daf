"""What goes into the director and what comes out of it, free of any protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from endpoint_picker.domain.request import SchedulingDecision
from inference_resolution.resolved import HeaderChange

NO_CHANGE: Final = HeaderChange()


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request as the data plane sent it.

    Attributes:
        method: Upper-case method.
        path: Path with query.
        authority: Host with port, as sent.
        headers: Other headers, names lower-case; repeated ones joined by a comma.
        route: Name of the client-facing route that matched, empty if none.
        virtual_host: Name of the virtual host that matched, empty if none.
        subset: Addresses the data plane restricts the choice to; None: none given.
        stream_id: Id that our own Envoy gave the request, which no client can choose; empty for other data planes.
    """

    method: str = ""
    path: str = "/"
    authority: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    route: str = ""
    virtual_host: str = ""
    subset: frozenset[str] | None = None
    stream_id: str = ""


@dataclass(frozen=True, slots=True)
class SpanHeaders:
    """How a model server learns which span of ours it continues.

    Attributes:
        parent: ``traceparent`` up to the last digit of its span id, which is the number of the attempt.
        flags: What follows that digit.
        origin: Span id of the client, zeros if it named none; empty: the request is not recorded.
        drops_state: Whether the ``tracestate`` that came must not be passed on.
    """

    parent: str
    flags: str
    origin: str = ""
    drops_state: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on.

    Attributes:
        correlation_id: Joins the end of the request to this decision.
        request_id: Value for ``x-request-id``.
        route: Picked route.
        cluster: Cluster to dial; empty where the route needs none.
        addresses: Ordered endpoints; empty for a Service.
        body: New body; None: as it came.
        metadata: Names with strings and flags for later stages of the data plane; the correlation id goes with them.
        changes: Header changes of the chosen backend.
        strip_usage: Whether the picker added ``include_usage``, so that the extra event must be taken out again.
        decision: How the endpoints were chosen; None for a Service.
        span: Which span the model server continues; None: the client's own headers pass as they are.
    """

    correlation_id: str
    request_id: str
    route: str
    cluster: str
    addresses: tuple[str, ...] = ()
    body: bytes | None = None
    metadata: tuple[tuple[str, str | bool], ...] = ()
    changes: HeaderChange = NO_CHANGE
    strip_usage: bool = False
    decision: SchedulingDecision | None = None
    span: SpanHeaders | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the request here.

    Attributes:
        status: HTTP status.
        body: JSON document.
        correlation_id: As in `Forward`.
        headers: Further response headers.
    """

    status: int
    body: bytes
    correlation_id: str = ""
    headers: tuple[tuple[str, str], ...] = ()
