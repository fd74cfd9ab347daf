"""Names that are fixed once for the whole project: groups, labels, annotations, controller."""

from typing import Final

GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
INFERENCE_GROUP: Final = "inference.networking.k8s.io"
INFERENCE_X_GROUP: Final = "inference.networking.x-k8s.io"
LLM_D_GROUP: Final = "llm-d.ai"
OWN_GROUP: Final = "inferencegateway.dev"

CONTROLLER_NAME: Final = f"{OWN_GROUP}/gateway-controller"

# Annotations on an InferencePool. Each is optional.
FIRST_TOKEN_TIMEOUT_ANNOTATION: Final = f"{OWN_GROUP}/first-token-timeout"
"""How long one attempt may stay silent, a Gateway API duration such as ``30s``; also the limit between two events."""
ANSWER_TIMEOUT_ANNOTATION: Final = f"{OWN_GROUP}/answer-timeout"
"""The same for requests that do not ask for a stream: model servers send nothing before the whole answer is there."""
TLS_ANNOTATION: Final = f"{OWN_GROUP}/model-server-tls"
"""``verify`` or ``skip-verify``: model servers speak https."""
TLS_SERVER_NAME_ANNOTATION: Final = f"{OWN_GROUP}/model-server-tls-server-name"
"""Name asked for by SNI and looked for in the certificate."""
TLS_CA_SECRET_ANNOTATION: Final = f"{OWN_GROUP}/model-server-tls-ca-secret"
"""Secret of the pool's namespace whose key ``ca.crt`` verifies the model servers; unset: the system's authorities."""
CREDENTIAL_SECRET_ANNOTATION: Final = f"{OWN_GROUP}/model-server-credential-secret"
"""Secret of the pool's namespace whose key ``api-key`` is sent to the model servers as a bearer token."""
METRICS_PATH_ANNOTATION: Final = f"{OWN_GROUP}/metrics-path"
"""Path of the metrics page; unset: by engine, ``/metrics`` first."""
METRICS_PORT_ANNOTATION: Final = f"{OWN_GROUP}/metrics-port"
"""Port of the metrics page when it is not the target port (Triton: 8002); only with one target port."""
SCHEDULING_PROFILE_ANNOTATION: Final = f"{OWN_GROUP}/scheduling-profile"
"""Scheduling profile of the pool's requests; unset or unknown: the default one."""
HOST_REWRITE_ANNOTATION: Final = f"{OWN_GROUP}/host-rewrite"
"""``endpoint``: send the endpoint's own host name as Host instead of the client's."""

ENDPOINT_PICKER_ANNOTATION: Final = f"{OWN_GROUP}/endpoint-picker"
"""``inference-gateway``: our picker serves the pool whatever its ``endpointPickerRef`` says."""
ENDPOINT_PICKER_ANNOTATION_VALUE: Final = "inference-gateway"

ENDPOINT_PICKER_SERVICE: Final = "inference-gateway-endpoint-picker"
"""Service that an ``endpointPickerRef`` names when it means our picker."""

# Pod annotations that restrict the target ports, a comma list of numbers, newest first.
ACTIVE_PORTS_ANNOTATIONS: Final = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")

MODEL_HEADERS: Final = (
    "x-gateway-model-name",
    "x-gateway-base-model-name",
    "x-llm-d-model-name",
    "x-llm-d-base-model-name",
)
"""Headers that a body-based router sets from the body; an HTTPRoute match on one of them names models."""

# Labels or annotations on an endpoint that name its metrics dialect, newest first.
ENGINE_LABELS: Final = (f"{OWN_GROUP}/engine-type", "llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type")

INTERNAL_HEADER_PREFIXES: Final = (
    *(
        f"x-{owner}-{name}"
        for owner in ("gateway", "llm-d")
        for name in ("route", "cluster", "destination-endpoint", "model-name", "base-model-name", "stream-id")
    ),
    # set by pickers for disaggregated serving; a sidecar at the model server would dial what they name
    *(
        f"x-{owner}{name}"
        for owner in ("", "gateway-", "llm-d-")
        for name in ("prefiller-", "encoder-", "data-parallel-", "kv-cache-source-")
    ),
)
"""Beginnings of the headers that no client may set (names are lower-case inside Envoy)."""
