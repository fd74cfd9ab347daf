"""Header, metadata, cluster and file names shared by Envoy's configuration and the endpoint picker."""

import hashlib
from typing import Final

from inference_resolution.resolved import RouteEntry, VirtualHost

METADATA_NAMESPACE: Final = "inferencegateway.dev"
"""Dynamic metadata of ours; `LB_NAMESPACE` is the protocol's."""
LB_NAMESPACE: Final = "envoy.lb"
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"
TOKEN_USAGE_NAMESPACE: Final = "envoy.ai.token_usage"  # noqa: S105 - a metadata name, not a credential

DESTINATION_KEY: Final = "x-gateway-destination-endpoint"
SERVED_KEY: Final = "x-gateway-destination-endpoint-served"
SUBSET_KEY: Final = "x-gateway-destination-endpoint-subset"
ROUTE_HEADER: Final = "x-gateway-route"
CLUSTER_HEADER: Final = "x-gateway-cluster"
MODEL_HEADER: Final = "x-gateway-model-name"
BASE_MODEL_HEADER: Final = "x-gateway-base-model-name"
STREAM_ID_HEADER: Final = "x-gateway-stream-id"
"""Envoy's own id of a request, unlike ``x-request-id`` never a client's choice; gone once the request is dispatched."""
OBJECTIVE_HEADERS: Final = ("x-gateway-inference-objective", "x-llm-d-inference-objective")
FAIRNESS_HEADERS: Final = ("x-gateway-inference-fairness-id", "x-llm-d-inference-fairness-id")

UPSTREAM_REMOVED_HEADERS: Final = (
    ROUTE_HEADER,
    CLUSTER_HEADER,
    DESTINATION_KEY,
    MODEL_HEADER,
    BASE_MODEL_HEADER,
    STREAM_ID_HEADER,
    "x-gateway-model-name-rewrite",
    *OBJECTIVE_HEADERS,
    *FAIRNESS_HEADERS,
    "x-envoy-external-address",
)
"""Headers that a model server never sees."""

DOWNSTREAM_REMOVED_HEADERS: Final = (
    ROUTE_HEADER,
    CLUSTER_HEADER,
    DESTINATION_KEY,
    SERVED_KEY,
    SUBSET_KEY,
    MODEL_HEADER,
    BASE_MODEL_HEADER,
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-degraded",
    "x-envoy-immediate-health-check-fail",
    "x-envoy-local-overloaded",
    "x-envoy-overloaded",
    "x-envoy-ratelimited",
    "x-envoy-upstream-canary",
    "x-envoy-upstream-healthchecked-cluster",
    "x-envoy-upstream-service-time",
)
"""Headers of an answer that a client never sees; the model's is added again with the name that was asked for."""
SERVER_HEADER: Final = "server"
"""Of a model server, tells its software; kept for ordinary Services."""

MAX_HEADERS: Final = 200
"""Headers of one request inside Envoy, which refuses changes by the picker that lead beyond it."""
MAX_CLIENT_HEADERS: Final = MAX_HEADERS - 24
"""Headers that a client may send to a model, so that Envoy's and ours still fit."""

REQUEST_ID_HEADER: Final = "x-request-id"
TRACEPARENT_HEADER: Final = "traceparent"
TRACESTATE_HEADER: Final = "tracestate"
PROFILE_METADATA: Final = "x-inference-gateway-profile"
"""gRPC initial metadata that tells the picker which kind of data plane calls."""
OWN_PROFILE: Final = "own"

ANSWERED_BY_PICKER: Final = "answered_by_picker"
"""Response code details of an answer that the picker made itself."""

# Keys in METADATA_NAMESPACE.
CORRELATION_ID: Final = "correlation-id"
MODEL: Final = "model"
TARGET_MODEL: Final = "target-model"
MODEL_RESPONSE_VALUE: Final = "model-response-value"
POOL: Final = "pool"
STREAMING: Final = "streaming"
INCLUDE_USAGE_ADDED: Final = "include-usage-added"
TRACE_PARENT: Final = "trace-parent"
"""A ``traceparent`` up to the last digit of its span id, which is the number of the attempt."""
TRACE_FLAGS: Final = "trace-flags"
"""What follows that digit."""
TRACE_ORIGIN: Final = "trace-origin"
"""Span that the client named as its own, zeros if it named none."""
USAGE_PROMPT: Final = "usage-prompt-tokens"
USAGE_COMPLETION: Final = "usage-completion-tokens"
USAGE_TOTAL: Final = "usage-total-tokens"
USAGE_CACHED: Final = "usage-cached-tokens"
USAGE_CACHE_WRITE: Final = "usage-cache-write-tokens"
USAGE_REASONING: Final = "usage-reasoning-tokens"

WHOLE_ANSWER_SUFFIX: Final = "#whole"
"""Ends the name of the picked route for requests that do not ask for a stream."""

REQUEST_LOG: Final = "inference-gateway.request"
ATTEMPT_LOG: Final = "inference-gateway.attempt"

PROGRESS_SECONDS: Final = 10.0
"""A request that runs longer is reported as often, so that its in-flight entry is not given up."""

STATISTICS_PREFIX: Final = "gateway"
"""Begins, after ``http.``, the names of what Envoy counts for all listeners together."""

PICKER_CLUSTER: Final = "inference-gateway/endpoint-picker"
ACCESS_LOG_CLUSTER: Final = "inference-gateway/access-log"
"""The same socket on a connection of its own: request bodies must not hold up log entries."""
NO_BACKEND_CLUSTER: Final = "inference-gateway/no-backend"
"""Does not exist: where a reference to a backend leads that is invalid; 500."""
NO_DECISION_CLUSTER: Final = "inference-gateway/no-decision"
"""Does not exist: where requests end that no picker answered and nobody else may place; 503."""
REFUSED_ROUTE_PREFIX: Final = "refused/"
"""Begins the names of routes for requests that nobody serves."""
OPEN_SUFFIX: Final = "#open"
"""Ends the name of the cluster that serves a FailOpen pool when no picker answers."""

ANSWER_FILTERS: Final = (
    "envoy.filters.http.lua",
    "envoy.filters.http.sse_to_metadata",
    "envoy.filters.http.ai_protocol_manager",
)
"""HTTP filters that read or change answers of model servers."""

BOOTSTRAP_FILE: Final = "bootstrap.json"
LISTENERS_FILE: Final = "lds.json"
CLUSTERS_FILE: Final = "cds.json"
PICKER_SOCKET: Final = "picker.sock"
ADMIN_SOCKET: Final = "envoy-admin.sock"


def cluster_hash(cluster_name: str) -> str:
    """Return the file-name-safe name of a cluster: 16 hexadecimal digits."""
    return hashlib.sha256(cluster_name.encode()).hexdigest()[:16]


def endpoints_file(cluster_name: str) -> str:
    """Return the endpoint file of a cluster, relative to Envoy's directory."""
    return f"eds/{cluster_hash(cluster_name)}.json"


def secret_file(cluster_name: str, purpose: str) -> str:
    """Return the secret file of a cluster, relative to Envoy's directory."""
    return f"sds/{cluster_hash(cluster_name)}-{purpose}.json"


def routes_file(listener_name: str) -> str:
    """Return the route file of a listener, relative to Envoy's directory."""
    return f"rds/{cluster_hash(listener_name)}.json"


def picked_route_name(entry: RouteEntry, *, streaming: bool) -> str:
    """Return the value of the route header that leads to the picked route of *entry*.

    One pair of picked routes per rule is enough, except where the path rewrite depends on the prefix that was matched:
    one for streams, whose silence says that something is wrong, one for answers that come as a whole.
    """
    rewrite = entry.rule.rewrite
    name = entry.name if rewrite is not None and rewrite.prefix is not None else entry.rule.name
    return name if streaming else name + WHOLE_ANSWER_SUFFIX


def virtual_host_name(host: VirtualHost) -> str:
    """Return the name of a virtual host: its host name and a digest of its entries.

    Envoy keeps one version of the route table for the life of a request and tells the picker this name, so the picker
    answers by the very table that Envoy matched with, also while a new one is on its way.
    """
    content = [(entry.name, entry.match, entry.rule, sorted(entry.models or ())) for entry in host.entries]
    return f"{host.hostname}@{hashlib.sha256(repr(content).encode()).hexdigest()[:12]}"
