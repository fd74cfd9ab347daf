"""What the spans of a request say: names, attributes and errors, by the semantic conventions of OpenTelemetry.

HTTP for the request, generative AI for the attempts; what has no convention begins with ``inference_gateway.``. Token
usage stands at the attempt that used the tokens, once per request, so that sums over spans are right. Never a prompt, a
completion or a credential.

Sources: https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/client-inference.md
"""

from collections.abc import Sequence
from typing import Final

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.requestcontrol.body.kinds import BodyKind, kind_of, known_path
from endpoint_picker.telemetry.metrics import AttemptOutcome, outcome_of
from endpoint_picker.telemetry.tracing import TracedRequest

OWN: Final = "inference_gateway."
ERROR_TYPE: Final = "error.type"
NEVER_REPORTED: Final = "end_not_reported"
"""Error of a request whose end the data plane never reported."""

_UNKNOWN_PROVIDER: Final = "self_hosted"
"""Of an endpoint whose metrics page was not understood; the conventions ask for some name."""
_LONGEST_VALUE: Final = 256
_OPERATIONS: Final = {
    BodyKind.CHAT: "chat",
    BodyKind.RESPONSES: "chat",
    BodyKind.MESSAGES: "chat",
    BodyKind.COMPLETIONS: "text_completion",
    BodyKind.EMBEDDINGS: "embeddings",
}

Attributes = dict[str, str | int | float | bool | Sequence[str]]


def request_name(traced: TracedRequest) -> str:
    """Return the name of the request's span: method, and path where it is a known one."""
    return f"{_method(traced)} {known_path(_path(traced))}".strip() or "HTTP"


def request_attributes(traced: TracedRequest) -> Attributes:
    """Return what the request's span says."""
    attributes: Attributes = {"url.scheme": "http"}
    _add(attributes, "http.request.method", _method(traced))
    _add(attributes, "url.path", _path(traced))
    _add(attributes, "http.route", known_path(_path(traced)))
    _add_server(attributes, traced.authority)
    _add(attributes, "user_agent.original", traced.user_agent)
    _add(attributes, "gen_ai.request.model", _model(traced))
    _add(attributes, OWN + "pool", _pool(traced))
    _add(attributes, OWN + "refusal", traced.refusal)
    _add(attributes, ERROR_TYPE, _request_error(traced))
    if traced.completed is not None:
        attributes |= _ended_attributes(traced.completed)
    return attributes


def _ended_attributes(completed: CompletedRequest) -> Attributes:
    attributes: Attributes = {
        "http.request.body.size": completed.request_bytes,
        "http.response.body.size": completed.response_bytes,
        OWN + "attempts": completed.attempts,
    }
    if completed.status:
        attributes["http.response.status_code"] = completed.status
    if completed.priority is not None:
        attributes[OWN + "priority"] = completed.priority
    if completed.ttft_seconds is not None:
        attributes[OWN + "time_to_first_token"] = completed.ttft_seconds
    if completed.client_gone:
        attributes[OWN + "client_gone"] = True
    _add(attributes, OWN + "request_id", completed.request_id)
    _add(attributes, OWN + "response_flags", completed.flags)
    _add(attributes, OWN + "response_details", completed.details)
    return attributes


def schedule_attributes(traced: TracedRequest) -> Attributes:
    """Return what the schedule span says: what was asked for, what was chosen, and why."""
    scheduled = traced.scheduled
    if scheduled is None:
        return {}
    attributes: Attributes = {OWN + "prompt_tokens_estimate": scheduled.prompt_tokens}
    _add(attributes, OWN + "pool", _pool(traced))
    decision = scheduled.decision
    if decision is None:
        attributes[ERROR_TYPE] = traced.refusal or "not_scheduled"
        return attributes
    attributes[OWN + "schedule.profile"] = decision.profile
    attributes[OWN + "schedule.candidates"] = len(decision.candidates)
    attributes[OWN + "schedule.endpoints"] = decision.addresses
    if decision.prefix_hit_ratio is not None:
        attributes[OWN + "schedule.prefix_hit_ratio"] = decision.prefix_hit_ratio
    first = decision.addresses[0]
    if first not in decision.candidates:
        return attributes
    place = list(decision.candidates).index(first)
    total = decision.totals[place] if place < len(decision.totals) else None
    if total is not None:
        attributes[OWN + "schedule.score"] = total
    return attributes


def attempt_name(traced: TracedRequest) -> str:
    """Return the name of an attempt's span: operation and model, or the method where the API is not known."""
    operation = _operation(traced)
    return f"{operation} {_model(traced)}".strip() if operation else _method(traced) or "HTTP"


def attempt_attributes(traced: TracedRequest, attempt: Attempt, number: int) -> Attributes:
    """Return what an attempt's span says; *number* counts from 1."""
    attributes: Attributes = {OWN + "attempt": number}
    _add(attributes, "http.request.method", _method(traced))
    _add_server(attributes, attempt.address)
    if number > 1:
        attributes["http.request.resend_count"] = number - 1
    if attempt.status is not None:
        attributes["http.response.status_code"] = attempt.status
    _add(attributes, OWN + "response_flags", attempt.flags)
    error = _attempt_error(attempt)
    _add(attributes, ERROR_TYPE, error)
    operation = _operation(traced)
    if operation:
        attributes["gen_ai.operation.name"] = operation
        engine = traced.scheduled.engine if traced.scheduled is not None else ""
        attributes["gen_ai.provider.name"] = engine or _UNKNOWN_PROVIDER
        _add(attributes, "gen_ai.request.model", _model(traced))
        if traced.completed is not None:
            attributes |= _inference_attributes(traced.completed, attempt, failed=bool(error))
    return attributes


def _inference_attributes(completed: CompletedRequest, attempt: Attempt, *, failed: bool) -> Attributes:
    attributes: Attributes = {}
    if completed.streaming is not None:
        attributes["gen_ai.request.stream"] = completed.streaming
    if attempt.first_byte_seconds is not None and completed.streaming:
        attributes["gen_ai.response.time_to_first_chunk"] = attempt.first_byte_seconds
    if attempt.address != completed.address or (failed and not completed.usage.known):
        return attributes
    _add(attributes, "gen_ai.response.model", completed.target_model)
    usage = completed.usage
    tokens = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    attributes.update({key: value for key, value in tokens.items() if value is not None})
    return attributes


def _attempt_error(attempt: Attempt) -> str:
    """Return what kind of error ended the attempt, empty if none did: a status, or how it broke."""
    outcome = outcome_of(attempt)
    if outcome not in (AttemptOutcome.ANSWERED, AttemptOutcome.SERVER_ERROR):
        return outcome.value
    return str(attempt.status) if attempt.status is not None and attempt.status >= 400 else ""


def _request_error(traced: TracedRequest) -> str:
    """Return what kind of error the request ended with, empty if none: a client's own mistake is none of ours."""
    completed = traced.completed
    if completed is None:
        return NEVER_REPORTED
    if not completed.failed:
        return ""
    if completed.status >= 500:
        return traced.refusal or str(completed.status)
    return completed.flags.partition(",")[0] or "no_response"


def _method(traced: TracedRequest) -> str:
    return (traced.completed.method if traced.completed is not None else "") or traced.method


def _path(traced: TracedRequest) -> str:
    return (traced.completed.path if traced.completed is not None else "") or traced.path


def _pool(traced: TracedRequest) -> str:
    return (traced.completed.pool if traced.completed is not None else "") or traced.pool


def _model(traced: TracedRequest) -> str:
    named = traced.scheduled.model if traced.scheduled is not None else ""
    return ((traced.completed.model if traced.completed is not None else "") or named)[:_LONGEST_VALUE]


def _operation(traced: TracedRequest) -> str:
    return _OPERATIONS.get(kind_of(_path(traced)), "")


def _add_server(attributes: Attributes, address: str) -> None:
    host, _, port = address.rpartition(":")
    if port.isdecimal() and len(port) <= 5:
        _add(attributes, "server.address", host.strip("[]"))
        attributes["server.port"] = int(port)
    else:
        _add(attributes, "server.address", address)


def _add(attributes: Attributes, key: str, value: str) -> None:
    if value:
        attributes[key] = value[:_LONGEST_VALUE]
