"""The answer of a resolution: which listener, route, model and pool serve what, and what was refused and why.

Everything is a frozen value. `envoy_config` renders it, the endpoint picker routes by it, and the operator copies
`Verdict` values into status conditions, so the three cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple


class ObjectKey(NamedTuple):
    """Names one object: API group, kind, namespace (empty for cluster-scoped kinds) and name."""

    group: str
    kind: str
    namespace: str
    name: str


class PoolKey(NamedTuple):
    """Names one InferencePool; `version` tells the v1 pool from the legacy x-k8s.io one (``v1`` or ``v1alpha2``)."""

    namespace: str
    name: str
    version: Literal["v1", "v1alpha2"]

    @property
    def cluster_name(self) -> str:
        """Name of the pool's Envoy cluster: ``<ns>/<pool>:<version>``."""
        return f"{self.namespace}/{self.name}:{self.version}"


class ServiceKey(NamedTuple):
    """Names one port of a Service."""

    namespace: str
    name: str
    port: int

    @property
    def cluster_name(self) -> str:
        """Name of the Service's Envoy cluster: ``<ns>/<service>:<port>``."""
        return f"{self.namespace}/{self.name}:{self.port}"


class FailureMode(StrEnum):
    """What a request meets when no endpoint picker answers."""

    FAIL_OPEN = "FailOpen"
    FAIL_CLOSE = "FailClose"


class AppProtocol(StrEnum):
    """Protocol spoken with the model servers of a pool."""

    HTTP = "http"
    H2C = "kubernetes.io/h2c"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition of one object, relative to one parent where the kind has parents.

    Attributes:
        subject: The object that is judged.
        parent: The Gateway it is judged for, None where the kind has no parents.
        type: Condition type, such as ``Accepted`` or ``ResolvedRefs``.
        status: True, False or Unknown as the API spells them.
        reason: Upstream's reason where one exists (CamelCase).
        message: One sentence for a person.
        section_name: Listener that the parentRef names, empty for none; tells two parentRefs to one Gateway apart.
        parent_port: Port that the parentRef names, 0 for none.
    """

    subject: ObjectKey
    parent: ObjectKey | None
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    section_name: str = ""
    parent_port: int = 0


@dataclass(frozen=True, slots=True)
class ResolvedEndpoint:
    """One ready (pod, port) of a pool or one ready address of a Service.

    Attributes:
        name: Pod or slice-endpoint name, ``<name>-rank-<i>`` for the i-th of several target ports.
        namespace: Namespace of the pod or slice.
        ip: IPv4 or IPv6 address without brackets.
        port: TCP port, 1 to 65535.
        hostname: DNS name of the model server where it is known, else empty; used for SNI and Host.
        labels: Labels of the pod or slice.
    """

    name: str
    namespace: str
    ip: str
    port: int
    hostname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """``ip:port`` as Envoy dials it, IPv6 in brackets."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class ModelServerTls:
    """TLS towards the model servers of a pool.

    Attributes:
        verify: Check the certificate chain and name.
        server_name: SNI and expected name; empty: the endpoint's own hostname.
        ca_pem: PEM bundle to verify with; empty: the system's authorities.
    """

    verify: bool
    server_name: str = ""
    ca_pem: str = ""


@dataclass(frozen=True, slots=True)
class TargetModel:
    """One target of an InferenceModel or a rewrite; weights are relative, all 1 where none was given."""

    name: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The InferenceModel that won a model name within a pool.

    Attributes:
        key: The InferenceModel.
        model_name: What clients send.
        pool: Its pool.
        targets: Never empty; the model name itself where none was given.
        priority: Higher first; below 0 is sheddable. Critical 1, Standard 0, Sheddable -1.
        critical: Whether it bypasses saturation (criticality Critical).
    """

    key: ObjectKey
    model_name: str
    pool: PoolKey
    targets: tuple[TargetModel, ...]
    priority: int
    critical: bool = False


@dataclass(frozen=True, slots=True)
class ResolvedRewrite:
    """One rule of an InferenceModelRewrite, in order of precedence within its pool.

    Attributes:
        key: The InferenceModelRewrite.
        models: Exact model names it matches; empty: every request of the pool.
        targets: Never empty.
    """

    key: ObjectKey
    models: frozenset[str]
    targets: tuple[TargetModel, ...]


@dataclass(frozen=True, slots=True)
class ResolvedPool:
    """One InferencePool with everything that decides how its requests are served.

    Attributes:
        key: The pool.
        endpoints: Ready endpoints, sorted by address; may be empty.
        failure_mode: What happens without a picker.
        app_protocol: h2c or plain HTTP/1.1.
        models: Winning InferenceModels by model name; empty: any model passes, sheddable.
        rewrites: In order of precedence: exact before generic, then oldest, then rule order.
        objectives: Priority by InferenceObjective name.
        tls: None for plain text.
        api_key: Bearer token for the model servers; empty: none. Never logged.
        first_token_timeout_seconds: Silence that ends an attempt at a stream.
        answer_timeout_seconds: Silence that ends an attempt at an answer that comes as a whole.
        metrics_path: Empty: by engine.
        metrics_port: 0: the endpoint's own port.
        rewrite_host: Send the endpoint's hostname as Host.
        scheduling_profile: Name of its scheduling profile; empty: the default one.
        foreign_picker: Name of another project's picker Service, which our picker leaves alone; empty: ours.
    """

    key: PoolKey
    endpoints: tuple[ResolvedEndpoint, ...] = ()
    failure_mode: FailureMode = FailureMode.FAIL_CLOSE
    app_protocol: AppProtocol = AppProtocol.HTTP
    models: Mapping[str, ResolvedModel] = field(default_factory=dict)
    rewrites: tuple[ResolvedRewrite, ...] = ()
    objectives: Mapping[str, int] = field(default_factory=dict)
    tls: ModelServerTls | None = None
    api_key: str = field(default="", repr=False)
    first_token_timeout_seconds: float = 120.0
    answer_timeout_seconds: float = 900.0
    metrics_path: str = ""
    metrics_port: int = 0
    rewrite_host: bool = False
    scheduling_profile: str = ""
    foreign_picker: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedService:
    """One Service port that routes use as an ordinary backend."""

    key: ServiceKey
    endpoints: tuple[ResolvedEndpoint, ...] = ()
    app_protocol: AppProtocol = AppProtocol.HTTP


class PathMatchType(StrEnum):
    """How a path is matched, as in Gateway API."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """Matches one header (lower-case name) or query parameter; `regex` makes value a full-match expression (RE2)."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """What a request must look like; every part must hold.

    Attributes:
        path_type: How `path` is matched.
        path: Path value, ``/`` with PathPrefix matches everything.
        method: Upper-case method, empty for any.
        headers: Header matches other than the model headers of the body-based router.
        query: Query parameter matches.
    """

    path_type: PathMatchType = PathMatchType.PREFIX
    path: str = "/"
    method: str = ""
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """Header filter of a rule: names lower-case; `set` replaces, `add` appends, `remove` deletes."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PathRewrite:
    """URLRewrite of a rule: exactly one of `full` and `prefix` for the path, empty strings mean unchanged."""

    hostname: str = ""
    full: str = ""
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """RequestRedirect of a rule; empty or 0 parts are taken from the request."""

    scheme: str = ""
    hostname: str = ""
    full: str = ""
    prefix: str | None = None
    port: int = 0
    status: int = 302


@dataclass(frozen=True, slots=True)
class ResolvedBackend:
    """One backend of a rule and its weight; `target` is None where the reference is invalid (its share gets 500)."""

    target: PoolKey | ServiceKey | None
    weight: int = 1
    request_headers: HeaderChange = HeaderChange()


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    """One rule of a route: what happens to a matched request.

    Attributes:
        name: ``httproute/<ns>/<name>/<rule>`` or ``inferencemodels/<ns>/<pool>:<version>``; unique, the value of the
            picker's route header.
        backends: Empty with a redirect; else an empty tuple, or no positive weight, means 500.
        request_timeout_seconds: Whole request; 0 disables, None leaves the default (disabled).
        backend_timeout_seconds: One attempt; None: unset.
        request_headers: Header changes towards the backend.
        response_headers: Header changes towards the client.
        rewrite: URLRewrite, None for none.
        redirect: RequestRedirect, None for none.
        picked: Whether any backend is a pool, so that the picker decides.
    """

    name: str
    backends: tuple[ResolvedBackend, ...]
    request_timeout_seconds: float | None = None
    backend_timeout_seconds: float | None = None
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()
    rewrite: PathRewrite | None = None
    redirect: Redirect | None = None

    @property
    def pools(self) -> tuple[PoolKey, ...]:
        """Pools among the backends, in order."""
        return tuple(b.target for b in self.backends if isinstance(b.target, PoolKey))

    @property
    def picked(self) -> bool:
        """Whether any backend is a pool."""
        return any(isinstance(b.target, PoolKey) for b in self.backends)


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One client-facing match of a virtual host, in order of Gateway API precedence.

    Attributes:
        name: Name of the Envoy route, ``<rule name>/<match index>``; unique within the resolution.
        match: What Envoy matches.
        rule: What then happens.
        models: Model names this entry is limited to, which only the picker can know from the body; None: any.
            Entries from InferenceModels and HTTPRoute matches on ``X-Gateway-Model-Name`` or
            ``X-Gateway-Base-Model-Name`` carry them.
    """

    name: str
    match: RouteMatch
    rule: ResolvedRule
    models: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """Entries for one host name (``*``, ``*.example.com`` or exact), best match first."""

    hostname: str
    entries: tuple[RouteEntry, ...]


@dataclass(frozen=True, slots=True)
class ResolvedListener:
    """One listener of a Gateway with its virtual hosts, most specific host name first."""

    gateway: ObjectKey
    name: str
    port: int
    virtual_hosts: tuple[VirtualHost, ...]


@dataclass(frozen=True, slots=True)
class Resolution:
    """Everything that follows from one set of resources.

    Attributes:
        listeners: Listeners of the Gateways asked for.
        pools: Every pool that a route or model of these listeners reaches.
        services: Every Service that a route reaches.
        verdicts: Conditions of every object judged, in a stable order.
        unreachable: Pools that exist but that nothing here refers to.
    """

    listeners: tuple[ResolvedListener, ...] = ()
    pools: Mapping[PoolKey, ResolvedPool] = field(default_factory=dict)
    services: Mapping[ServiceKey, ResolvedService] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    unreachable: tuple[PoolKey, ...] = ()
