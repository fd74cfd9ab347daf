"""The one table from our errors to HTTP: status, OpenAI error type and code."""

import json
import logging
from typing import Final, NamedTuple

from endpoint_picker.domain.errors import (
    AuthenticationFailed,
    BackendInvalid,
    EncodedBody,
    EndpointPickerError,
    InternalFailure,
    InvalidRequest,
    ModelNotFound,
    NoReadyEndpoints,
    PickerOverloaded,
    PoolSaturated,
    RateLimited,
    RequestTooLarge,
    RouteNotFound,
    SchedulingFailed,
    TooManyHeaders,
)
from endpoint_picker.requestcontrol.exchange import Answer

logger = logging.getLogger(__name__)


class HttpError(NamedTuple):
    """How one error class looks on the wire."""

    status: int
    type: str
    code: str
    param: str = ""


HTTP_ERRORS: Final[dict[type[EndpointPickerError], HttpError]] = {
    InvalidRequest: HttpError(400, "invalid_request_error", "invalid_request"),
    RequestTooLarge: HttpError(413, "invalid_request_error", "request_too_large"),
    EncodedBody: HttpError(415, "invalid_request_error", "unsupported_content_encoding"),
    TooManyHeaders: HttpError(431, "invalid_request_error", "headers_too_large"),
    AuthenticationFailed: HttpError(401, "authentication_error", "invalid_api_key"),
    ModelNotFound: HttpError(404, "invalid_request_error", "model_not_found", "model"),
    RouteNotFound: HttpError(404, "invalid_request_error", "not_found"),
    RateLimited: HttpError(429, "rate_limit_error", "rate_limit_exceeded"),
    NoReadyEndpoints: HttpError(503, "server_error", "no_ready_endpoints"),
    PoolSaturated: HttpError(429, "rate_limit_error", "pool_saturated"),
    PickerOverloaded: HttpError(503, "server_error", "gateway_overloaded"),
    BackendInvalid: HttpError(500, "server_error", "invalid_backend"),
    InternalFailure: HttpError(500, "server_error", "internal_error"),
}
"""Every leaf of the error tree."""


def error_answer(error: EndpointPickerError) -> Answer:
    """Return the answer for *error* in the form of the OpenAI API."""
    http = HTTP_ERRORS[type(error)]
    param = error.param if isinstance(error, InvalidRequest) else http.param
    body = {"error": {"message": str(error), "type": http.type, "param": param or None, "code": http.code}}
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, (RateLimited, SchedulingFailed)) and http.status in {429, 503}:
        headers = (("retry-after", str(max(1, round(error.retry_after_seconds)))),)
    return Answer(http.status, json.dumps(body).encode(), correlation_id=error.correlation_id, headers=headers)
