"""Clusters, endpoint files and secret files of pools and Services."""

import hashlib

from envoy_config import names, unstable
from envoy_config.fields import (
    Json,
    discovery_response,
    duration,
    endpoint_address,
    extension,
    file_source,
    typed,
)
from envoy_config.settings import EnvoySettings
from inference_resolution.resolved import (
    AppProtocol,
    FailureMode,
    ModelServerTls,
    ResolvedEndpoint,
    ResolvedPool,
    ResolvedService,
)

_UNLIMITED = 1_000_000
_UPSTREAM_IDLE_SECONDS = 4.0
"""Shorter than the five seconds after which uvicorn, and so most model servers, close an idle connection."""
_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def _policy(name: str, message: str, **fields: object) -> Json:
    return {"typed_extension_config": extension(name, message, **fields)}


def _least_request() -> Json:
    return _policy(
        "envoy.load_balancing_policies.least_request",
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    )


def _nobody() -> Json:
    """Return a policy that never finds a host: no subset matches and there is no fallback."""
    return _policy(
        "envoy.load_balancing_policies.subset",
        "envoy.extensions.load_balancing_policies.subset.v3.Subset",
        fallback_policy="NO_FALLBACK",
        subset_selectors=[{"keys": ["never"], "fallback_policy": "NO_FALLBACK"}],
        subset_lb_policy={"policies": [_least_request()]},
    )


def _override_host() -> Json:
    return {
        "policies": [
            _policy(
                "envoy.load_balancing_policies.override_host",
                "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
                override_host_sources=[
                    {"metadata": {"key": names.LB_NAMESPACE, "path": [{"key": names.DESTINATION_KEY}]}},
                    {"header": names.DESTINATION_KEY},
                ],
                selected_host_key={"key": names.LB_NAMESPACE, "path": [{"key": names.SERVED_KEY}]},
                fallback_policy={"policies": [_nobody()]},
            )
        ]
    }


def _credential_filter(cluster_name: str, settings: EnvoySettings) -> Json:
    secret = names.secret_file(cluster_name, "credential")
    return extension(
        "envoy.filters.http.credential_injector",
        "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
        overwrite=True,
        credential=extension(
            "envoy.http.injected_credentials.generic",
            "envoy.extensions.http.injected_credentials.generic.v3.Generic",
            header="authorization",
            credential={
                "name": f"{cluster_name}/credential",
                "sds_config": file_source(f"{settings.directory}/{secret}"),
            },
        ),
    )


def _attempt_span_filter() -> Json:
    """Return the filter that gives each attempt a span id of its own, where the picker put the request into a trace."""

    def metadata(key: str) -> str:
        return f"%DYNAMIC_METADATA({names.METADATA_NAMESPACE}:{key})%"

    value = f"{metadata(names.TRACE_PARENT)}%UPSTREAM_REQUEST_ATTEMPT_COUNT%{metadata(names.TRACE_FLAGS)}"
    header = {"key": names.TRACEPARENT_HEADER, "value": value}
    return extension(
        "envoy.filters.http.header_mutation",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "request_mutations": [{"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]
        },
    )


def _protocol_options(app_protocol: AppProtocol, filters: list[Json]) -> Json:
    protocol = "http2_protocol_options" if app_protocol is AppProtocol.H2C else "http_protocol_options"
    options: Json = {
        "explicit_http_config": {protocol: {}},
        "common_http_protocol_options": {"idle_timeout": duration(_UPSTREAM_IDLE_SECONDS)},
    }
    if filters:
        codec = extension(
            "envoy.filters.http.upstream_codec", "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
        )
        options["http_filters"] = [*filters, codec]
    message = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {message: typed(message, **options)}


def _transport_socket(tls: ModelServerTls, app_protocol: AppProtocol) -> Json:
    common: Json = {"alpn_protocols": ["h2" if app_protocol is AppProtocol.H2C else "http/1.1"]}
    if tls.verify:
        authorities: Json = {"inline_string": tls.ca_pem} if tls.ca_pem else {"filename": _SYSTEM_AUTHORITIES}
        validation: Json = {"trusted_ca": authorities}
        if tls.server_name:
            validation["match_typed_subject_alt_names"] = [
                {"san_type": "DNS", "matcher": {"exact": tls.server_name}},
            ]
        common["validation_context"] = validation
    context: Json = {"common_tls_context": common}
    if tls.server_name:
        context["sni"] = tls.server_name
    else:
        context["auto_host_sni"] = True
        if tls.verify:
            context["auto_sni_san_validation"] = True
    return extension(
        "envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", **context
    )


def _cluster(name: str, endpoints_of: str, settings: EnvoySettings, policy: Json) -> Json:
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="EDS",
        connect_timeout=duration(settings.connect_timeout_seconds),
        eds_cluster_config={
            "service_name": endpoints_of,
            "eds_config": file_source(f"{settings.directory}/{names.endpoints_file(endpoints_of)}"),
        },
        load_balancing_policy=policy,
        per_connection_buffer_limit_bytes=settings.connection_buffer_bytes,
        circuit_breakers={
            "thresholds": [
                {
                    "max_connections": settings.max_upstream_connections,
                    "max_pending_requests": _UNLIMITED,
                    "max_requests": _UNLIMITED,
                    "max_retries": _UNLIMITED,
                }
            ]
        },
    )


def pool_clusters(pool: ResolvedPool, settings: EnvoySettings) -> list[Json]:
    """Return the cluster of a pool, in which only the picker's list is ever dialled, and what FailOpen adds to it.

    The added one shares the endpoints and chooses by itself; only requests that no picker answered reach it.
    """
    name = pool.key.cluster_name
    clusters = [_pool_cluster(name, pool, settings, _override_host())]
    if pool.failure_mode is FailureMode.FAIL_OPEN:
        clusters.append(_pool_cluster(name + names.OPEN_SUFFIX, pool, settings, {"policies": [_least_request()]}))
    return clusters


def _pool_cluster(name: str, pool: ResolvedPool, settings: EnvoySettings, policy: Json) -> Json:
    filters: list[Json] = []
    if pool.api_key:
        filters.append(_credential_filter(pool.key.cluster_name, settings))
    if settings.tracing and not name.endswith(names.OPEN_SUFFIX):
        filters.append(_attempt_span_filter())
    if settings.hold_headers:
        filters.append(unstable.hold_headers_filter())
    cluster = _cluster(name, pool.key.cluster_name, settings, policy)
    cluster["typed_extension_protocol_options"] = _protocol_options(pool.app_protocol, filters)
    # shows how many requests each endpoint has; the ledger is audited by it
    cluster["track_cluster_stats"] = {"per_endpoint_stats": True}
    if pool.tls is not None:
        cluster["transport_socket"] = _transport_socket(pool.tls, pool.app_protocol)
    return cluster


def service_cluster(service: ResolvedService, settings: EnvoySettings) -> Json:
    """Return the cluster of an ordinary Service."""
    name = service.key.cluster_name
    cluster = _cluster(name, name, settings, {"policies": [_least_request()]})
    cluster["typed_extension_protocol_options"] = _protocol_options(service.app_protocol, [])
    return cluster


def sends_hostnames(pool: ResolvedPool) -> bool:
    """Return whether Envoy may know the endpoints' host names: for Host, or for SNI."""
    return pool.rewrite_host or (pool.tls is not None and not pool.tls.server_name)


def endpoint_file(cluster_name: str, endpoints: tuple[ResolvedEndpoint, ...], *, with_hostnames: bool = False) -> Json:
    """Return the content of a cluster's endpoint file; its version follows from its content."""

    def lb_endpoint(endpoint: ResolvedEndpoint) -> Json:
        value: Json = {"address": endpoint_address(endpoint)}
        if with_hostnames and endpoint.hostname:
            value["hostname"] = endpoint.hostname
        return {"endpoint": value}

    lb_endpoints = [lb_endpoint(e) for e in endpoints]
    version = hashlib.sha256(repr(lb_endpoints).encode()).hexdigest()[:16]
    assignment = typed(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        cluster_name=cluster_name,
        endpoints=[{"lb_endpoints": lb_endpoints}] if lb_endpoints else [],
    )
    return discovery_response(version, [assignment])


def credential_file(pool: ResolvedPool) -> Json:
    """Return the secret file with the pool's bearer token."""
    version = hashlib.sha256(pool.api_key.encode()).hexdigest()[:16]
    secret = typed(
        "envoy.extensions.transport_sockets.tls.v3.Secret",
        name=f"{pool.key.cluster_name}/credential",
        generic_secret={"secret": {"inline_string": f"Bearer {pool.api_key}"}},
    )
    return discovery_response(version, [secret])
