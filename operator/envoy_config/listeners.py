"""Listeners: the connection manager with its filter chain, limits and access logs."""

from typing import assert_never

from envoy_config import names, unstable
from envoy_config.answer_filter import lua_filter
from envoy_config.bearer_scheme import bearer_scheme_filter
from envoy_config.client_headers import early_header_mutation
from envoy_config.fields import Json, duration, extension, file_source, socket_address, typed
from envoy_config.local_replies import local_reply_config
from envoy_config.picker_service import picker_service
from envoy_config.settings import EnvoySettings, ListenAddress, UsageSource

_IDLE_CONNECTION_SECONDS = 620.0
"""Longer than the ten minutes after which load balancers give a connection up, so that they do it first."""


def _access_log(log_name: str) -> Json:
    def tag(name: str, value: str) -> Json:
        return {"tag": name, "value": value}

    return extension(
        "envoy.access_loggers.http_grpc",
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        common_config={
            "log_name": log_name,
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": names.ACCESS_LOG_CLUSTER}},
            # entries wait at most 20 ms; what is above the buffer's size while the picker is slow would be lost
            "buffer_flush_interval": "0.02s",
            "buffer_size_bytes": 1024 * 1024,
            "custom_tags": [
                tag("ttft_us", "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:us)%"),
                tag("attempt_first_byte_us", "%COMMON_DURATION(US_TX_END:US_RX_BODY_BEG:us)%"),
                tag("body_us", "%COMMON_DURATION(US_RX_BODY_BEG:US_RX_END:us)%"),
                tag("flags", "%RESPONSE_FLAGS%"),
                tag("host", "%UPSTREAM_HOST%"),
            ],
        },
        additional_request_headers_to_log=[names.REQUEST_ID_HEADER, names.STREAM_ID_HEADER, names.TRACEPARENT_HEADER],
        additional_response_headers_to_log=["content-type", "retry-after"],
    )


def _only_failed_attempts() -> Json:
    """Return the filter of the attempt log: the end of the request tells of the attempt that answered it."""

    def status(operator: str, code: int) -> Json:
        value = {"default_value": code, "runtime_key": "inferencegateway.attempt_status"}
        return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}

    failed = [status("GE", 500), status("EQ", 429), status("EQ", 0), {"response_flag_filter": {}}]
    return {
        "and_filter": {"filters": [{"log_type_filter": {"types": ["UpstreamEnd"]}}, {"or_filter": {"filters": failed}}]}
    }


def _ext_proc(settings: EnvoySettings) -> Json:
    reads_answers = settings.usage is UsageSource.PICKER
    return extension(
        "envoy.filters.http.ext_proc",
        "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service=picker_service(waits=True),
        failure_mode_allow=False,
        status_on_error={"code": 503},
        message_timeout=duration(settings.message_timeout_seconds),
        allow_mode_override=True,
        processing_mode={
            "request_header_mode": "SEND",
            "request_body_mode": "BUFFERED",
            "request_trailer_mode": "SEND",  # trailers without a body would pass the picker by
            "response_header_mode": "SEND" if reads_answers else "SKIP",
            "response_body_mode": "STREAMED" if reads_answers else "NONE",
            "response_trailer_mode": "SKIP",
        },
        request_attributes=["xds.route_name", "xds.virtual_host_name"],
        mutation_rules={"allow_envoy": True},
        metadata_options={
            "forwarding_namespaces": {"untyped": [names.LB_NAMESPACE, names.SUBSET_NAMESPACE]},
            "receiving_namespaces": {"untyped": [names.LB_NAMESPACE, names.METADATA_NAMESPACE]},
        },
    )


def _http_filters(settings: EnvoySettings) -> list[Json]:
    filters: list[Json] = []
    if settings.api_keys:
        filters += [bearer_scheme_filter(), unstable.authentication(settings.api_keys)]
    filters.append(_ext_proc(settings))
    match settings.usage:
        case UsageSource.NATIVE:
            # the native filters know no whole answers to text completions and embeddings
            filters += [lua_filter(reads="whole answers"), *unstable.native_usage_filters()]
        case UsageSource.LUA:
            filters.append(lua_filter(reads="everything"))
        case UsageSource.PICKER:
            pass  # the picker must see the usage event before it takes it out itself
        case _:
            assert_never(settings.usage)
    filters.append(
        extension(
            "envoy.filters.http.router",
            "envoy.extensions.filters.http.router.v3.Router",
            suppress_envoy_headers=True,
            upstream_log=[
                {
                    **_access_log(names.ATTEMPT_LOG),
                    "filter": _only_failed_attempts(),
                }
            ],
            upstream_log_options={"flush_upstream_log_on_upstream_stream": True},
        )
    )
    return filters


def _connection_manager(name: str, settings: EnvoySettings) -> Json:
    return extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=names.STATISTICS_PREFIX,
        rds={
            "route_config_name": name,
            "config_source": file_source(f"{settings.directory}/{names.routes_file(name)}"),
        },
        http_filters=_http_filters(settings),
        access_log=[_access_log(names.REQUEST_LOG)],
        access_log_options={"access_log_flush_interval": duration(names.PROGRESS_SECONDS)},
        local_reply_config=local_reply_config(),
        early_header_mutation_extensions=[early_header_mutation()],
        use_remote_address=True,
        internal_address_config={"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        normalize_path=True,
        merge_slashes=True,
        strip_matching_host_port=False,
        request_id_extension={
            "typed_config": typed(
                "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                pack_trace_reason=False,
                use_request_id_for_trace_sampling=False,
            )
        },
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        server_header_transformation="PASS_THROUGH",
        max_request_headers_kb=settings.max_header_kib,
        common_http_protocol_options={
            "max_headers_count": names.MAX_HEADERS,
            "idle_timeout": duration(_IDLE_CONNECTION_SECONDS),
        },
        http2_protocol_options={
            "max_concurrent_streams": 1000,
            "initial_stream_window_size": 1024 * 1024,
            "initial_connection_window_size": 16 * 1024 * 1024,
        },
        request_headers_timeout=duration(settings.client_stall_seconds),
        request_timeout=duration(settings.request_timeout_seconds),
        stream_idle_timeout=duration(settings.stream_idle_timeout_seconds),
        upgrade_configs=[{"upgrade_type": "websocket", "enabled": False}],
        drain_timeout="5s",
    )


def listener(name: str, address: ListenAddress, settings: EnvoySettings) -> Json:
    """Return one listener; its routes come from a file of their own."""
    return typed(
        "envoy.config.listener.v3.Listener",
        name=name,
        address=socket_address(address.host, address.port),
        per_connection_buffer_limit_bytes=settings.connection_buffer_bytes,
        filter_chains=[{"filters": [_connection_manager(name, settings)]}],
    )
