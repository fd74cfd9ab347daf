"""One access-log entry, read as an attempt or a completed request.

    log                          entry written                  read as
    inference-gateway.attempt    when an endpoint is dialled    Attempt, live
    inference-gateway.attempt    when an attempt has failed     Attempt
    inference-gateway.request    periodically, while it runs    Attempt, live: its progress
    inference-gateway.request    when the request has ended     CompletedRequest
    any other, or at its start                                  nothing

An entry is foreign data: whatever is missing, malformed or out of range counts as unknown.
"""

import math
from collections.abc import Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value

from endpoint_picker.accesslog.entry_usage import read_usage
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.trace_context import TraceContext, parse_traceparent
from endpoint_picker.protos import access_log_pb2 as access_log
from endpoint_picker.protos import core_pb2 as core
from envoy_config.names import (
    ATTEMPT_LOG,
    CORRELATION_ID,
    METADATA_NAMESPACE,
    MODEL,
    POOL,
    REQUEST_ID_HEADER,
    REQUEST_LOG,
    STREAM_ID_HEADER,
    STREAMING,
    TARGET_MODEL,
    TRACE_ORIGIN,
    TRACEPARENT_HEADER,
)

TTFT_TAG: Final = "ttft_us"
"""From the first byte of the request to the first byte of the answer's body."""
ATTEMPT_FIRST_BYTE_TAG: Final = "attempt_first_byte_us"
BODY_TAG: Final = "body_us"
"""From the first byte of the answer's body to the last."""
FLAGS_TAG: Final = "flags"
HOST_TAG: Final = "host"

_MAX_SECONDS: Final = 1e9
_LONGEST_REQUEST_ID: Final = 128
"""A request that was refused before the picker saw it has the id of its client, whatever that is."""
_ABSENT: Final = "-"
"""What Envoy's formatter writes for a value it does not have."""
_NOTHING: Final = frozenset({"", _ABSENT})
_METHODS: Final[Mapping[int, str]] = {number: name for name, number in core.RequestMethod.items() if number}

_FLAG_NAMES: Final[tuple[tuple[str, str], ...]] = (
    ("failed_local_healthcheck", "LH"),
    ("no_healthy_upstream", "UH"),
    ("upstream_request_timeout", "UT"),
    ("local_reset", "LR"),
    ("upstream_remote_reset", "UR"),
    ("upstream_connection_failure", "UF"),
    ("upstream_connection_termination", "UC"),
    ("upstream_overflow", "UO"),
    ("no_route_found", "NR"),
    ("delay_injected", "DI"),
    ("fault_injected", "FI"),
    ("rate_limited", "RL"),
    ("rate_limit_service_error", "RLSE"),
    ("downstream_connection_termination", "DC"),
    ("upstream_retry_limit_exceeded", "URX"),
    ("stream_idle_timeout", "SI"),
    ("invalid_envoy_request_headers", "IH"),
    ("downstream_protocol_error", "DPE"),
    ("upstream_max_stream_duration_reached", "UMSDR"),
    ("response_from_cache_filter", "RFCF"),
    ("no_filter_config_found", "NFCF"),
    ("duration_timeout", "DT"),
    ("upstream_protocol_error", "UPE"),
    ("no_cluster_found", "NC"),
    ("overload_manager", "OM"),
    ("dns_resolution_failure", "DF"),
    ("downstream_remote_reset", "DR"),
)
_CLIENT_GONE_FLAGS: Final = frozenset({"DC", "DR"})
_FROM_ENDPOINT: Final = ("via_upstream", "upstream_reset_after_response_started")
"""Response code details, by prefix, of an answer whose headers came from an endpoint."""


def read_entry(entry: access_log.HTTPAccessLogEntry, log_name: str) -> Attempt | CompletedRequest | None:
    """Return what *entry* of the log *log_name* says; None if it says nothing to the picker."""
    common = entry.common_properties
    kind = common.access_log_type
    # Envoy from before the types were introduced leaves them unset.
    running = kind == access_log.NotSet and common.intermediate_log_entry
    if log_name == ATTEMPT_LOG:
        live = running or kind in _ATTEMPT_LIVE_TYPES
        return _read_attempt(entry, common, live=live) if live or kind in _ATTEMPT_END_TYPES else None
    if log_name == REQUEST_LOG:
        if running or kind == access_log.DownstreamPeriodic:
            return _read_progress(entry, common)
        return _read_completed(entry, common) if kind in _REQUEST_END_TYPES else None
    return None


_ATTEMPT_LIVE_TYPES: Final = frozenset({access_log.UpstreamPoolReady, access_log.UpstreamPeriodic})
_ATTEMPT_END_TYPES: Final = frozenset({access_log.UpstreamEnd, access_log.NotSet})
_REQUEST_END_TYPES: Final = frozenset({access_log.DownstreamEnd, access_log.NotSet})


def _read_attempt(
    entry: access_log.HTTPAccessLogEntry, common: access_log.AccessLogCommon, *, live: bool
) -> Attempt | None:
    """An attempt that names no endpoint blames nobody and is left out."""
    tags = common.custom_tags
    address = _address(common, tags)
    if not address:
        return None
    first_byte = _tag_seconds(tags, ATTEMPT_FIRST_BYTE_TAG)
    return Attempt(
        request_id=_request_id(entry.request),
        address=address,
        status=None if live else entry.response.response_code.value or None,
        flags=_flags(common, tags),
        started=first_byte is not None,
        first_byte_seconds=first_byte,
        duration_seconds=None if live else _duration(common),
        live=live,
        retry_after_seconds=_retry_after(entry.response.response_headers.get("retry-after", "")),
        trace=_trace(entry.request),
        started_at=_started_at(common),
    )


def _retry_after(value: str) -> float | None:
    """Return the seconds that a Retry-After header asks for; a date asks for at least one."""
    if not value:
        return None
    return _sensible(float(value)) if value.isascii() and value.isdigit() else 1.0


def _read_progress(entry: access_log.HTTPAccessLogEntry, common: access_log.AccessLogCommon) -> Attempt | None:
    """What a running request says of its present attempt; only times since the request's start are known."""
    tags = common.custom_tags
    address = _address(common, tags)
    if not address:
        return None
    started = _tag_seconds(tags, TTFT_TAG) is not None
    return Attempt(
        request_id=_request_id(entry.request),
        address=address,
        started=started,
        live=True,
        correlation_id=_text(_own_metadata(common), CORRELATION_ID),
        trace=_trace(entry.request),
    )


def _read_completed(entry: access_log.HTTPAccessLogEntry, common: access_log.AccessLogCommon) -> CompletedRequest:
    request, response = entry.request, entry.response
    tags = common.custom_tags
    metadata = _own_metadata(common)
    flags = _flags(common, tags)
    status = response.response_code.value
    details = response.response_code_details
    path = request.path.partition("?")[0]
    original_path = request.original_path.partition("?")[0]
    last_address = _address(common, tags)
    return CompletedRequest(
        correlation_id=_text(metadata, CORRELATION_ID),
        request_id=_request_id(request),
        stream_id=request.request_headers.get(STREAM_ID_HEADER, ""),
        method=_METHODS.get(request.request_method, ""),
        path=original_path or path,
        route=common.route_name,
        cluster=common.upstream_cluster,
        address=last_address if _answered_by_endpoint(status, details) else "",
        last_address=last_address,
        attempts=common.upstream_request_attempt_count,
        status=status,
        details=details,
        flags=flags,
        client_gone=flags != "" and not _CLIENT_GONE_FLAGS.isdisjoint(flags.split(",")),
        model=_text(metadata, MODEL),
        target_model=_text(metadata, TARGET_MODEL),
        pool=_text(metadata, POOL),
        streaming=_streaming(response, metadata),
        usage=read_usage(common.metadata, metadata, path=path or original_path),
        ttft_seconds=_tag_seconds(tags, TTFT_TAG),
        duration_seconds=_duration(common) or 0.0,
        body_seconds=_tag_seconds(tags, BODY_TAG),
        attempt_first_byte_seconds=_tag_seconds(tags, ATTEMPT_FIRST_BYTE_TAG),
        request_bytes=request.request_body_bytes,
        response_bytes=response.response_body_bytes,
        started_at=_started_at(common),
        trace=_trace(request),
        trace_origin=_text(metadata, TRACE_ORIGIN),
    )


def _answered_by_endpoint(status: int, details: str) -> bool:
    """Whether the status came from an endpoint; an answer of Envoy's own names the last endpoint tried as well.

    When the exchange broke after the headers the details name the break; Envoy's own answers are errors.
    """
    if status == 0:
        return False
    return not details or details.startswith(_FROM_ENDPOINT) or status < 400


def _address(common: access_log.AccessLogCommon, tags: Mapping[str, str]) -> str:
    return _tag(tags, HOST_TAG) or _socket_address(common.upstream_remote_address)


def _socket_address(address: core.Address) -> str:
    socket = address.socket_address
    if not socket.address or not socket.port_value:
        return ""
    host = f"[{socket.address}]" if ":" in socket.address else socket.address
    return f"{host}:{socket.port_value}"


def _request_id(request: access_log.HTTPRequestProperties) -> str:
    return request.request_headers.get(REQUEST_ID_HEADER, "")[:_LONGEST_REQUEST_ID]


def _trace(request: access_log.HTTPRequestProperties) -> TraceContext | None:
    return parse_traceparent(request.request_headers.get(TRACEPARENT_HEADER, ""))


def _flags(common: access_log.AccessLogCommon, tags: Mapping[str, str]) -> str:
    """Return the flags as the tag has them, else from the entry's bits."""
    flags = _tag(tags, FLAGS_TAG)
    if flags or not common.HasField("response_flags"):
        return flags
    bits = common.response_flags
    if not bits.ListFields():
        return ""
    names = [name for field, name in _FLAG_NAMES if getattr(bits, field)]
    if bits.HasField("unauthorized_details"):
        names.append("UAEX")
    return ",".join(names)


def _streaming(response: access_log.HTTPResponseProperties, metadata: Mapping[str, Value]) -> bool | None:
    """Return whether the answer was a stream by its content type, else by what the picker saw in the request."""
    content_type = response.response_headers.get("content-type", "")
    if content_type:
        return content_type.lower().startswith("text/event-stream")
    value = metadata.get(STREAMING)
    if value is None:
        return None
    if value.HasField("bool_value"):
        return value.bool_value
    return {"true": True, "false": False}.get(value.string_value.lower())


def _own_metadata(common: access_log.AccessLogCommon) -> Mapping[str, Value]:
    namespaces = common.metadata.filter_metadata
    # Indexing a protobuf map adds what is missing.
    return namespaces[METADATA_NAMESPACE].fields if METADATA_NAMESPACE in namespaces else {}


def _text(metadata: Mapping[str, Value], key: str) -> str:
    value = metadata.get(key)
    return value.string_value if value is not None else ""


def _tag(tags: Mapping[str, str], name: str) -> str:
    value = tags.get(name, "")
    return "" if value == _ABSENT else value


def _tag_seconds(tags: Mapping[str, str], name: str) -> float | None:
    """Return a tag of microseconds in seconds; None if absent or no sensible number."""
    value = tags.get(name, "")
    if value in _NOTHING:
        return None
    try:
        return _sensible(float(value) / 1e6)
    except ValueError:
        return None


def _duration(common: access_log.AccessLogCommon) -> float | None:
    if common.HasField("duration"):
        return _seconds(common.duration)
    if common.HasField("time_to_last_downstream_tx_byte"):
        return _seconds(common.time_to_last_downstream_tx_byte)
    if common.HasField("time_to_last_upstream_rx_byte"):
        return _seconds(common.time_to_last_upstream_rx_byte)
    return None


def _seconds(duration: Duration) -> float | None:
    return _sensible(duration.seconds + duration.nanos / 1e9)


def _started_at(common: access_log.AccessLogCommon) -> float:
    start = common.start_time
    return max(0.0, start.seconds + start.nanos / 1e9)


def _sensible(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _MAX_SECONDS else None
