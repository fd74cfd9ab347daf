"""Envoy's own errors in the form of the OpenAI API; answers of the picker pass as they are."""

from typing import Final

from envoy_config import names
from envoy_config.fields import Json, extension

_REPLIES: Final[tuple[tuple[int, str, str, str], ...]] = (
    (400, "invalid_request_error", "bad_request", "The request could not be read."),
    (401, "authentication_error", "invalid_api_key", "A valid API key is required: Authorization: Bearer <key>."),
    (403, "permission_error", "forbidden", "This request is not allowed."),
    (404, "invalid_request_error", "not_found", "No route matches this request."),
    (405, "invalid_request_error", "method_not_allowed", "This method is not served here."),
    (408, "invalid_request_error", "request_timeout", "The request did not arrive in time."),
    (413, "invalid_request_error", "request_too_large", "The request body is larger than this gateway accepts."),
    (426, "invalid_request_error", "upgrade_required", "This protocol is not supported here."),
    (429, "rate_limit_error", "rate_limit_exceeded", "Too many requests; try again later."),
    (431, "invalid_request_error", "headers_too_large", "The request headers are larger than this gateway accepts."),
    (500, "server_error", "internal_error", "The gateway failed to handle the request."),
    (501, "server_error", "not_implemented", "This request uses something the gateway does not implement."),
    (502, "server_error", "bad_gateway", "The model server gave an answer that cannot be read."),
    (503, "server_error", "service_unavailable", "No model server could answer; try again later."),
    (504, "server_error", "gateway_timeout", "The model server did not answer in time."),
    (507, "server_error", "insufficient_storage", "The request is too large to be retried on another model server."),
)
_RETRY_AFTER: Final = {429: "1", 503: "1"}
_PICKER_SILENT: Final = "per-message_timeout"
"""In the details of Envoy's 504 for a request that the picker did not decide in time."""


def _expression(expression: str) -> Json:
    """Return a filter by a CEL expression."""
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=expression,
        )
    }


def _from_envoy(status: int) -> Json:
    """Return a filter for *status* that leaves the picker's own answers alone."""
    return {
        "and_filter": {
            "filters": [
                {
                    "status_code_filter": {
                        "comparison": {
                            "op": "EQ",
                            "value": {"default_value": status, "runtime_key": "local_reply.status"},
                        }
                    }
                },
                _expression(f"!response.code_details.contains('{names.ANSWERED_BY_PICKER}')"),
            ]
        }
    }


def _picker_silent() -> Json:
    """Return the reply for a picker that hangs: 503, as for one that is gone, since no model server was asked."""
    status, kind, code, message = next(reply for reply in _REPLIES if reply[0] == 503)
    contains = f"response.code_details.contains('{_PICKER_SILENT}')"
    return {**_mapper(status, kind, code, message), "filter": _expression(contains), "status_code": status}


def _upload_cut() -> Json:
    """Return the reply to what is refused or cut because memory runs short: 503, also where the codec says 500."""
    reply = next(reply for reply in _REPLIES if reply[0] == 503)
    message = "The gateway is short of memory; try again later."
    condition = "response.code_details.contains('overload')"
    return {**_mapper(*reply[:3], message), "filter": _expression(condition), "status_code": 503}


def _mapper(status: int, kind: str, code: str, message: str) -> Json:
    mapper: Json = {
        "filter": _from_envoy(status),
        "body_format_override": {
            "json_format": {"error": {"message": message, "type": kind, "param": None, "code": code}},
            "content_type": "application/json",
        },
    }
    if status in _RETRY_AFTER:
        mapper["headers_to_add"] = [
            {
                "header": {"key": "retry-after", "value": _RETRY_AFTER[status]},
                "append_action": "ADD_IF_ABSENT",
            }
        ]
    return mapper


def local_reply_config() -> Json:
    """Return the local reply configuration of the connection manager."""
    return {"mappers": [_picker_silent(), _upload_cut(), *(_mapper(*reply) for reply in _REPLIES)]}
