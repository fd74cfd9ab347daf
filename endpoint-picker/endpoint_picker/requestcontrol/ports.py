"""What request control needs from outside, in its own words; wiring joins the implementations."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest, SchedulingDecision
from endpoint_picker.requestcontrol.exchange import Forward, RequestHead, SpanHeaders
from inference_resolution.resolved import PoolKey

Clock = Callable[[], float]
"""Seconds, monotonic."""


class EndpointSource(Protocol):
    """Where the endpoints of a pool and the models they serve come from."""

    def candidates(self, pool: PoolKey) -> Sequence[Endpoint]:
        """Return the endpoints of *pool* to choose from, without those that fail; all of them if all do."""

    def endpoints(self, pool: PoolKey) -> Sequence[Endpoint]:
        """Return every ready endpoint of *pool*; empty for an unknown pool."""

    def served_models(self, pool: PoolKey) -> Sequence[str]:
        """Return the models that the endpoints of *pool* were last seen to serve."""

    def chosen(self, address: str, request_id: str) -> None:
        """Learn that a request was given to this endpoint first."""

    def attempted(self, attempt: Attempt) -> None:
        """Learn how one attempt at an endpoint went, that it goes on, or once that it has begun to answer."""


class Scheduling(Protocol):
    """Chooses endpoints."""

    def schedule(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], profile: str = ""
    ) -> SchedulingDecision:
        """Return the decision and remember the first choice; raises NoReadyEndpoints when nothing is left."""


class Observer(Protocol):
    """Hears of everything that is to be counted and logged."""

    def scheduled(
        self, request: InferenceRequest, chosen: Endpoint | None, decision: SchedulingDecision | None, seconds: float
    ) -> None:
        """Count one scheduling attempt; None: nothing could be chosen."""

    def began(self, correlation_id: str, model: str) -> None:
        """Count a request as under way."""

    def ended(self, correlation_id: str) -> None:
        """Count it no more; unknown ones are ignored."""

    def attempted(self, attempt: Attempt) -> None:
        """Count one attempt at an endpoint."""

    def completed(self, completed: CompletedRequest) -> None:
        """Count and log one request at its end."""

    def stranger_ended(self) -> None:
        """Count the end of a request that this process did not have in flight."""

    def expired(self, requests: int) -> None:
        """Count requests whose end was never reported."""


class RequestTrace(Protocol):
    """The trace of one request while it is decided, which is done inside of its ``with`` block.

    Then exactly one of the methods is called, or none if the decision breaks off.
    """

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def forwarded(self, forward: Forward) -> SpanHeaders:
        """Learn where the request goes; return which span the model server continues."""

    def refused(self, correlation_id: str, reason: str) -> None:
        """Learn that it goes nowhere; *reason* is the name of an error class."""

    def answered(self, correlation_id: str) -> None:
        """Learn that the picker answered it itself."""


class Tracing(Protocol):
    """Makes spans of requests; one that is not sampled costs little."""

    def begin(self, head: RequestHead) -> RequestTrace:
        """Continue the trace that the request came with, or begin one; decides whether it is sampled."""

    def abandoned(self, correlation_id: str) -> None:
        """Forget a request whose decision did not reach the data plane; its report, if one comes, says enough."""
