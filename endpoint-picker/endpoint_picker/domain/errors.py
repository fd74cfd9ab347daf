"""The picker's errors: facts without HTTP; one table in `extproc` gives each leaf its status.

EndpointPickerError
├── RequestRejected            the caller's doing or the owner's rule
│   ├── InvalidRequest         unreadable or incomplete request
│   ├── RequestTooLarge        body above the limit
│   ├── EncodedBody            body in an encoding that nobody here undoes
│   ├── AuthenticationFailed
│   ├── ModelNotFound          no such model here; knows the ones there are
│   ├── RouteNotFound          no route matches
│   └── RateLimited
├── SchedulingFailed           the pool cannot take it now
│   ├── NoReadyEndpoints
│   ├── PoolSaturated          sheddable request, saturated pool
│   ├── PickerOverloaded       the picker holds as much as it may
│   └── BackendInvalid         the chosen backend reference is invalid
└── InternalFailure            a defect of ours
"""


class EndpointPickerError(Exception):
    """Root of all errors of the picker; the message is fit for the caller.

    Attributes:
        correlation_id: Joins the answer to the data plane's report of it; empty until the director sets it.
    """

    correlation_id: str = ""


class RequestRejected(EndpointPickerError):
    """The request may not pass as it is."""


class InvalidRequest(RequestRejected):
    """The request cannot be read or lacks something.

    Attributes:
        param: The field that is wrong, empty if the whole.
    """

    def __init__(self, message: str, *, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class RequestTooLarge(RequestRejected):
    """The body is larger than *limit_bytes*."""

    def __init__(self, message: str, *, limit_bytes: int) -> None:
        super().__init__(message)
        self.limit_bytes = limit_bytes


class EncodedBody(RequestRejected):
    """The body has a content encoding: what the picker cannot read, the model server might."""


class TooManyHeaders(RequestRejected):
    """The request has more headers than the data plane can pass on with ours added."""


class AuthenticationFailed(RequestRejected):
    """No or a wrong credential."""


class ModelNotFound(RequestRejected):
    """The model is not served here.

    Attributes:
        model: What was asked for.
        known: Models that are served, sorted.
    """

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        served = f"available models: {', '.join(known)}" if known else "no model is served here"
        super().__init__(f"The model `{model}` does not exist; {served}.")
        self.model = model
        self.known = known


class RouteNotFound(RequestRejected):
    """No route matches the request."""


class RateLimited(RequestRejected):
    """A limit is reached; try again after *retry_after_seconds*."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class SchedulingFailed(EndpointPickerError):
    """No endpoint can take the request now."""

    retry_after_seconds: float = 1.0


class NoReadyEndpoints(SchedulingFailed):
    """The pool, or the subset asked for, has no ready endpoint."""


class PoolSaturated(SchedulingFailed):
    """The pool is saturated and the request may be shed."""


class PickerOverloaded(SchedulingFailed):
    """The picker holds as many request bytes as it may."""


class BackendInvalid(SchedulingFailed):
    """The rule's backend cannot be resolved."""


class InternalFailure(EndpointPickerError):
    """A defect of ours; details are in the log, not in the message."""
