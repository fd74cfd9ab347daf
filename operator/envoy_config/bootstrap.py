"""Envoy's start-up file: where the other files are, the picker's socket, the admin socket, overload protection."""

from envoy_config import names
from envoy_config.fields import Json, duration, file_source, typed
from envoy_config.settings import EnvoySettings

_LOG2_OF_LARGE_BODY = 20
"""Streams that hold at least 1 MiB may be reset when memory runs short."""


def _pipe(path: str) -> Json:
    return {"pipe": {"path": path, "mode": 0o600}}


def _picker_cluster(name: str, settings: EnvoySettings) -> Json:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    kinds = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    limits = dict.fromkeys(kinds, 1_000_000)
    endpoint = {"endpoint": {"address": {"pipe": {"path": f"{settings.directory}/{names.PICKER_SOCKET}"}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": duration(1.0),
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            options: typed(
                options,
                explicit_http_config={
                    "http2_protocol_options": {
                        "initial_stream_window_size": 1024 * 1024,
                        "initial_connection_window_size": 16 * 1024 * 1024,
                    }
                },
            )
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _overload_manager(settings: EnvoySettings) -> Json:
    """Return limits that keep Envoy alive: connections always, and requests once memory runs short.

    New requests are refused first. What was accepted before may still grow, so then uploads are cut as well: over
    HTTP/1 any whose next bytes arrive, over HTTP/2 the largest.
    """
    heap = "envoy.resource_monitors.fixed_heap"

    def above(name: str, fraction: float) -> Json:
        return {"name": name, "triggers": [{"name": heap, "threshold": {"value": fraction}}]}

    def between(name: str, begin: float, end: float) -> Json:
        scaled = {"scaling_threshold": begin, "saturation_threshold": end}
        return {"name": name, "triggers": [{"name": heap, "scaled": scaled}]}

    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": typed(
                    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=settings.max_connections,
                ),
            },
            {
                "name": heap,
                "typed_config": typed(
                    "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    max_heap_size_bytes=settings.max_heap_bytes,
                ),
            },
        ],
        "actions": [
            above("envoy.overload_actions.shrink_heap", 0.9),
            above("envoy.overload_actions.close_idle_http_connections", 0.9),
            above("envoy.overload_actions.stop_accepting_requests", 0.95),
            between("envoy.overload_actions.reset_high_memory_stream", 0.95, 1.0),
        ],
        "loadshed_points": [between("envoy.load_shed_points.http1_server_abort_dispatch", 0.95, 1.0)],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": _LOG2_OF_LARGE_BODY},
    }


def bootstrap(settings: EnvoySettings) -> Json:
    """Return the start-up file."""
    return {
        "node": {"id": settings.node_id, "cluster": "inference-gateway"},
        "admin": {"address": _pipe(f"{settings.directory}/{names.ADMIN_SOCKET}")},
        "dynamic_resources": {
            "cds_config": file_source(f"{settings.directory}/{names.CLUSTERS_FILE}"),
            "lds_config": file_source(f"{settings.directory}/{names.LISTENERS_FILE}"),
        },
        "static_resources": {
            "clusters": [
                _picker_cluster(names.PICKER_CLUSTER, settings),
                _picker_cluster(names.ACCESS_LOG_CLUSTER, settings),
            ]
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {
                        # users write the regular expressions of routes; RE2 runs in linear time whatever their size,
                        # and resolution refuses those that would exceed its memory
                        "re2": {"max_program_size": {"error_level": 100_000, "warn_level": 20_000}},
                    },
                }
            ]
        },
        "overload_manager": _overload_manager(settings),
    }
