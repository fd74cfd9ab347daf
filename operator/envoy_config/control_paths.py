"""Paths by which model servers are controlled or inspected: no route leads a client there unless it names them.

Engines serve them beside the API, on the same port and with no credential of their own: they put a model to sleep, load
weights or adapters, reset caches, or tell what others ask for.

Source: the servers' own route tables: vLLM, SGLang, TGI, Triton, trtllm-serve and llama.cpp.
"""

import re
from typing import Final, cast

from envoy_config.fields import Json
from inference_resolution.resolved import RouteMatch

CONTROL_NAMES: Final = (
    # vLLM
    *("load_lora_adapter", "unload_lora_adapter", "sleep", "wake_up", "is_sleeping", "pause", "resume", "is_paused"),
    *("reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache", "collective_rpc", "start_profile", "stop_profile"),
    *("scale_elastic_ep", "is_scaling_elastic_ep", "init_weight_transfer_engine", "update_weights", "abort_requests"),
    *("server_info", "metrics"),
    # SGLang
    *("flush_cache", "clear_hicache_storage_backend", "update_weights_from_disk", "update_weights_from_tensor"),
    *("update_weights_from_distributed", "update_weights_from_ipc", "update_weight_version", "get_weights_by_name"),
    *("init_weights_update_group", "destroy_weights_update_group", "init_weights_send_group_for_remote_instance"),
    *("send_weights_to_remote_instance", "release_memory_occupation", "resume_memory_occupation", "slow_down"),
    *("open_session", "close_session", "configure_logging", "abort_request", "pause_generation", "continue_generation"),
    *("set_internal_state", "get_internal_state", "get_server_info", "freeze_gc", "dump_expert_distribution_record"),
    *("start_expert_distribution_record", "stop_expert_distribution_record", "set_trace_level"),
    # Triton and trtllm-serve
    *("repository", "systemsharedmemory", "cudasharedmemory", "perf_metrics", "kv_cache_events", "release_memory"),
    # llama.cpp
    *("slots", "props", "lora-adapters"),
)
"""Path segments, in lower case."""

_NAMES: Final = frozenset(CONTROL_NAMES)
_SEPARATOR: Final = "(?:/|%2f|%5c)"
CONTROL_PATHS: Final = (
    f"(?i)[^?#]*{_SEPARATOR}(?:{'|'.join(re.escape(name) for name in CONTROL_NAMES)})(?:(?:{_SEPARATOR}|[.;?%]).*)?"
)
"""Regular expression (RE2) of such paths, queries included, however a server might undo escapes and parameters."""


def is_control_path(path: str) -> bool:
    """Return whether *path*, in the canonical form of `body.kinds`, is one of them or below one."""
    return not _NAMES.isdisjoint(path.split("/"))


def on_control_paths(match: Json) -> Json:
    """Return *match* of a route narrowed to such paths."""
    control = {"name": ":path", "string_match": {"safe_regex": {"regex": CONTROL_PATHS}}}
    return {**match, "headers": [*cast("list[Json]", match.get("headers", [])), control]}


def names_control_path(match: RouteMatch) -> bool:
    """Return whether a route says itself that it leads to such a path."""
    return not _NAMES.isdisjoint(re.split(r"[^a-z0-9_-]+", match.path.lower()))
