"""What is remembered of every request until its end is reported, and the ids that reports may name it by."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from endpoint_picker.domain.usage import Usage


@dataclass(slots=True)
class PendingRequest:
    """What the director remembers of a request until its end.

    Attributes:
        seen: When it was last known to be under way, by the director's clock.
        pool: Empty if it was refused.
        addresses: Ordered endpoints, empty if it was refused or goes elsewhere.
        errors: Endpoints that answered it with a server error.
        started: Whether a report said that its answer has begun.
        stream_id: As in `RequestHead`.
        renewed: Whether it was reported to be under way since it was decided.
    """

    request_id: str
    seen: float
    model: str = ""
    target_model: str = ""
    pool: str = ""
    priority: int = 0
    streaming: bool = False
    addresses: tuple[str, ...] = ()
    errors: int = 0
    started: bool = False
    usage: Usage | None = None
    stream_id: str = ""
    renewed: bool = False


class OpenRequests:
    """Requests whose end has not been reported, those seen longest ago first; written by the director only."""

    def __init__(self) -> None:
        self._pending: dict[str, PendingRequest] = {}
        self._by_request_id: dict[str, str] = {}
        self._by_stream_id: dict[str, str] = {}

    @property
    def pending(self) -> Mapping[str, PendingRequest]:
        """All of them, by correlation id."""
        return self._pending

    def add(self, correlation_id: str, pending: PendingRequest) -> None:
        """Remember a request."""
        self._pending[correlation_id] = pending
        self._by_request_id[pending.request_id] = correlation_id
        if pending.stream_id:
            self._by_stream_id[pending.stream_id] = correlation_id

    def get(self, correlation_id: str) -> PendingRequest | None:
        """Return what is remembered of a request; None if nothing is."""
        return self._pending.get(correlation_id)

    def of_request_id(self, request_id: str) -> str:
        """Return the correlation id of the latest request that was sent under this id, empty if there is none."""
        return self._by_request_id.get(request_id, "")

    def of_stream_id(self, stream_id: str) -> str:
        """Return the correlation id of the request that the data plane gave this id, empty if there is none."""
        return self._by_stream_id.get(stream_id, "")

    def renew(self, correlation_id: str, now: float) -> None:
        """Note that a request that is remembered is under way."""
        pending = self._pending[correlation_id] = self._pending.pop(correlation_id)
        pending.seen, pending.renewed = now, True

    def remove(self, correlation_id: str) -> PendingRequest | None:
        """Forget a request; return what was remembered of it."""
        pending = self._pending.pop(correlation_id, None)
        if pending is not None:
            self._by_stream_id.pop(pending.stream_id, None)
            if self._by_request_id.get(pending.request_id) == correlation_id:
                del self._by_request_id[pending.request_id]
        return pending

    def seen_until(self, latest: float) -> list[str]:
        """Return the correlation ids of those that were last seen then or before."""
        return list(takewhile(lambda c: self._pending[c].seen <= latest, self._pending))
