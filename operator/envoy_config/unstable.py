"""Everything Envoy marks work-in-progress or alpha, in one place and behind switches of `EnvoySettings`.

`sse_to_metadata`, `ai_protocol_manager` and `api_key_auth` are work in progress in Envoy 1.40; Wasm as an upstream
filter is alpha.
Both usage filters are needed: the second loses a stream whose client closes at ``[DONE]``, as the official SDK does,
and the first does not read JSON replies.
"""

from collections.abc import Sequence
from typing import Final

from envoy_config import names
from envoy_config.fields import Json, extension
from envoy_config.hold_module import HOLD_MODULE_BASE64

MAX_EVENT_BYTES: Final = 1024 * 1024
"""Largest SSE event that usage is read from; Envoy's default of 8 KiB loses events that arrive in pieces."""

_USAGE_PATHS: Final[tuple[tuple[str, str], ...]] = (
    ("usage.prompt_tokens", names.USAGE_PROMPT),
    ("usage.completion_tokens", names.USAGE_COMPLETION),
    ("usage.total_tokens", names.USAGE_TOTAL),
    ("usage.prompt_tokens_details.cached_tokens", names.USAGE_CACHED),
    ("usage.completion_tokens_details.reasoning_tokens", names.USAGE_REASONING),
    ("response.usage.input_tokens", names.USAGE_PROMPT),
    ("response.usage.output_tokens", names.USAGE_COMPLETION),
    ("response.usage.total_tokens", names.USAGE_TOTAL),
    ("response.usage.input_tokens_details.cached_tokens", names.USAGE_CACHED),
    ("response.usage.output_tokens_details.reasoning_tokens", names.USAGE_REASONING),
    ("message.usage.input_tokens", names.USAGE_PROMPT),
    ("message.usage.cache_read_input_tokens", names.USAGE_CACHED),
    ("message.usage.cache_creation_input_tokens", names.USAGE_CACHE_WRITE),
    ("usage.input_tokens", names.USAGE_PROMPT),
    ("usage.output_tokens", names.USAGE_COMPLETION),
)


def _usage_rule(path: str, key: str) -> Json:
    return {
        "rule": {
            "selectors": [{"key": part} for part in path.split(".")],
            "on_present": {"metadata_namespace": names.METADATA_NAMESPACE, "key": key, "type": "NUMBER"},
        }
    }


def native_usage_filters() -> list[Json]:
    """Return the pair of filters that reads usage: streams by events, JSON replies by dialect."""
    return [
        extension(
            "envoy.filters.http.sse_to_metadata",
            "envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata",
            response_rules={
                "max_event_size": MAX_EVENT_BYTES,
                "content_parser": extension(
                    "envoy.content_parsers.json",
                    "envoy.extensions.content_parsers.json.v3.JsonContentParser",
                    rules=[_usage_rule(path, key) for path, key in _USAGE_PATHS],
                ),
            },
        ),
        extension(
            "envoy.filters.http.ai_protocol_manager",
            "envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager",
            response_handling={"token_usage": {"include_unconfigured_routes": True}},
        ),
    ]


def hold_headers_filter() -> Json:
    """Return the upstream filter that holds response headers until the first event or body byte."""
    return extension(
        "envoy.filters.http.wasm",
        "envoy.extensions.filters.http.wasm.v3.Wasm",
        config={
            "name": "hold-headers",
            "allow_on_headers_stop_iteration": True,
            "vm_config": {
                "vm_id": "hold-headers",
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"inline_bytes": HOLD_MODULE_BASE64}},
            },
        },
    )


def authentication(api_keys: Sequence[str]) -> Json:
    """Return the filter that demands one of *api_keys* as a bearer token and takes it out; absent without keys."""
    return extension(
        "envoy.filters.http.api_key_auth",
        "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
        credentials=[{"key": key, "client": f"key-{i}"} for i, key in enumerate(api_keys)],
        key_sources=[{"header": "authorization"}],
        forwarding={"hide_credentials": True},
    )
