"""Resolution: Gateway API precedence, oldest wins, grants and references decide what is served; nothing raises."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_api.resources import Resource, parse_resource
from inference_resolution.matching import find_entries
from inference_resolution.resolution import resolve
from inference_resolution.resolved import ObjectKey, PoolKey, Resolution
from inference_resolution.targets import GatewayTarget, ListenerTarget

GATEWAY = ObjectKey("gateway.networking.k8s.io", "Gateway", "default", "gw")
IMPLICIT = (GatewayTarget(GATEWAY, (ListenerTarget("http", 8080),)),)
V1 = "inference.networking.k8s.io/v1"
X = "inference.networking.x-k8s.io/v1alpha2"
ROUTE = "gateway.networking.k8s.io/v1"
POOL_REF = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "p"}


def make(api_version: str, kind: str, name: str, spec: dict[str, Any] | None = None, **more: Any) -> Resource:
    meta = {"name": name, **more.pop("meta", {})}
    document = {"apiVersion": api_version, "kind": kind, "metadata": meta, **more}
    if spec is not None:
        document["spec"] = spec
    parsed = parse_resource(document)
    assert parsed is not None
    return parsed


def pool(name: str = "p", version: str = V1, **meta: Any) -> Resource:
    if version == X:
        spec: dict[str, Any] = {"selector": {"app": name}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}}
    else:
        spec = {"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": 8000}]}
    return make(version, "InferencePool", name, spec, meta=meta)


def route(name: str, *rules: dict[str, Any], meta: dict[str, Any] | None = None, **spec: Any) -> Resource:
    return make(ROUTE, "HTTPRoute", name, {"rules": list(rules), **spec}, meta=meta or {})


def model(
    name: str, model_name: str, pool_name: str = "p", meta: dict[str, Any] | None = None, **spec: Any
) -> Resource:
    spec = {"modelName": model_name, "poolRef": {"name": pool_name}, **spec}
    return make(X, "InferenceModel", name, spec, meta=meta or {})


def standalone(*resources: Resource) -> Resolution:
    return resolve(resources, gateways=IMPLICIT, attach_all=True)


def names(resolution: Resolution, host: str = "h", path: str = "/", method: str = "POST", **headers: str) -> list[str]:
    hosts = resolution.listeners[0].virtual_hosts
    return [e.name for e in find_entries(hosts, host=host, path=path, method=method, headers=headers)]


def verdicts(resolution: Resolution, kind: str, name: str) -> dict[str, str]:
    found = (v for v in resolution.verdicts if (v.subject.kind, v.subject.name) == (kind, name))
    return {v.type: v.reason if v.status == "True" else f"not {v.reason}" for v in found}


def match(value: str, type_: str = "PathPrefix", **more: Any) -> dict[str, Any]:
    return {"matches": [{"path": {"type": type_, "value": value}, **more}], "backendRefs": [POOL_REF]}


def test_precedence_of_matches() -> None:
    header = {"headers": [{"name": "X-A", "value": "1"}]}
    resolution = standalone(
        pool(),
        route("plain", match("/")),
        route("header", match("/", **header)),
        route("method", match("/", method="POST")),
        route("longer", match("/v1/")),
        route("exact", match("/v1/chat", "Exact")),
        model("m", "llama"),
    )
    expected = ["exact/0/0", "longer/0/0", "method/0/0", "header/0/0", "p:v1/0", "plain/0/0"]
    found = names(resolution, path="/v1/chat", **{"X-a": "1"})
    assert [name.split("/", 2)[2] for name in found] == expected
    assert [name.split("/", 2)[2] for name in names(resolution, path="/v10")] == ["method/0/0", "p:v1/0", "plain/0/0"]


def test_a_model_header_becomes_models_and_counts_as_a_header() -> None:
    by_model = match("/", headers=[{"name": "X-Gateway-Base-Model-Name", "value": "llama"}])
    resolution = standalone(pool(), route("plain", match("/")), route("model", by_model))
    entries = resolution.listeners[0].virtual_hosts[0].entries
    assert [(e.name, e.models, e.match.headers) for e in entries] == [
        ("httproute/default/model/0/0", frozenset({"llama"}), ()),
        ("httproute/default/plain/0/0", None, ()),
    ]


def test_wider_hosts_follow_within_a_virtual_host() -> None:
    resolution = standalone(
        pool(),
        route("any", match("/")),
        route("wild", match("/"), hostnames=["*.example.com"]),
        route("one", match("/"), hostnames=["a.example.com"]),
    )
    assert [h.hostname for h in resolution.listeners[0].virtual_hosts] == ["a.example.com", "*.example.com", "*"]
    assert [n.split("/")[2] for n in names(resolution, host="A.example.com:80")] == ["one", "wild", "any"]
    assert [n.split("/")[2] for n in names(resolution, host="b.c.example.com")] == ["wild", "any"]
    assert [n.split("/")[2] for n in names(resolution, host="example.com")] == ["any"]


def test_the_oldest_model_wins_its_name() -> None:
    young, old = datetime(2026, 1, 2, tzinfo=UTC).isoformat(), datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    resolution = standalone(
        pool("p"),
        pool("q"),
        model("young", "llama", meta={"creationTimestamp": young}),
        model("old", "llama", "q", meta={"creationTimestamp": old}),
        model("same-pool", "llama", "q", meta={"creationTimestamp": young}),
    )
    assert names(resolution) == ["inferencemodels/default/q:v1/0"]
    assert verdicts(resolution, "InferenceModel", "old") == {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}
    assert verdicts(resolution, "InferenceModel", "young")["Accepted"] == "not ModelNameInUse"
    assert verdicts(resolution, "InferenceModel", "same-pool")["Accepted"] == "not ModelNameInUse"
    assert resolution.unreachable == (PoolKey("default", "p", "v1"),)


def test_an_unset_pool_group_means_the_legacy_pool_first() -> None:
    resolution = standalone(pool(), pool(version=X), model("m", "llama", criticality="Critical"))
    assert list(resolution.pools) == [PoolKey("default", "p", "v1alpha2")]
    winner = resolution.pools[PoolKey("default", "p", "v1alpha2")].models["llama"]
    assert (winner.priority, winner.critical, [t.name for t in winner.targets]) == (1, True, ["llama"])


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        pytest.param({**POOL_REF, "name": "none"}, "BackendNotFound", id="missing-pool"),
        pytest.param({"name": "none", "port": 80}, "BackendNotFound", id="missing-service"),
        pytest.param({"kind": "ConfigMap", "name": "c"}, "InvalidKind", id="kind"),
        pytest.param({**POOL_REF, "namespace": "other"}, "RefNotPermitted", id="no-grant"),
    ],
)
def test_an_invalid_reference_has_no_target_and_says_why(ref: dict[str, Any], reason: str) -> None:
    resolution = standalone(pool(), pool(namespace="other"), route("r", {"backendRefs": [ref]}))
    entry = resolution.listeners[0].virtual_hosts[0].entries[0]
    assert [backend.target for backend in entry.rule.backends] == [None]
    assert verdicts(resolution, "HTTPRoute", "r") == {"Accepted": "Accepted", "ResolvedRefs": f"not {reason}"}


def test_a_grant_permits_a_reference() -> None:
    spec = {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}],
        "to": [{"group": "inference.networking.k8s.io", "kind": "InferencePool"}],
    }
    grant = make("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "g", spec, meta={"namespace": "other"})
    rule = {"backendRefs": [{**POOL_REF, "namespace": "other"}]}
    assert list(standalone(pool(namespace="other"), grant, route("r", rule)).pools) == [PoolKey("other", "p", "v1")]


@pytest.mark.parametrize(
    ("parent", "hostnames", "reason"),
    [
        pytest.param({"name": "gw"}, ["a.example.com"], "Accepted", id="attached"),
        pytest.param({"name": "gw", "sectionName": "none"}, [], "not NoMatchingParent", id="section"),
        pytest.param({"name": "gw"}, ["a.org"], "not NoMatchingListenerHostname", id="hostname"),
        pytest.param({"name": "gw", "namespace": "infra"}, [], None, id="another-gateway"),
    ],
)
def test_attachment(parent: dict[str, Any], hostnames: list[str], reason: str | None) -> None:
    gateways = [GatewayTarget(GATEWAY, (ListenerTarget("http", 80, "*.example.com"),))]
    resources = [pool(), route("r", match("/"), parentRefs=[parent], hostnames=hostnames)]
    assert verdicts(resolve(resources, gateways=gateways), "HTTPRoute", "r").get("Accepted") == reason


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({"inferencegateway.dev/model-server-tls": "yes"}, id="tls-mode"),
        pytest.param({"inferencegateway.dev/model-server-credential-secret": "none"}, id="missing-secret"),
        pytest.param({"inferencegateway.dev/first-token-timeout": "soon"}, id="duration"),
        pytest.param({"inferencegateway.dev/model-server-tls-ca-secret": "s"}, id="ca-without-tls"),
    ],
)
def test_a_pool_with_bad_settings_is_not_served(annotations: dict[str, str]) -> None:
    resolution = standalone(pool(annotations=annotations), route("r", match("/")), model("m", "llama"))
    assert resolution.pools == {}
    targets = {b.target for e in resolution.listeners[0].virtual_hosts[0].entries for b in e.rule.backends}
    assert targets == {None}
    assert verdicts(resolution, "InferencePool", "p")["Accepted"] == "not InvalidParameters"
    assert verdicts(resolution, "InferenceModel", "m")["Accepted"] == "not BackendNotFound"


def test_pods_and_slices_of_one_address_are_one_endpoint() -> None:
    pod = make("v1", "Pod", "pod", meta={"labels": {"app": "p", "a": "pod"}}, status={"podIP": "10.0.0.1"})
    labels = {"labels": {"app": "p", "a": "slice", "b": "slice"}}
    item = make(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "s",
        meta=labels,
        addressType="IPv4",
        endpoints=[
            {"addresses": ["10.0.0.1"], "hostname": "gpu-1"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
            {"addresses": ["10.0.0.3"], "conditions": {"terminating": True}},
        ],
    )
    ported = make(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "t",
        meta=labels,
        addressType="IPv6",
        endpoints=[{"addresses": ["::1"]}],
        ports=[{"port": 9001}, {"port": 9002}],
    )
    found = standalone(item, ported, pod, pool(), model("m", "llama")).pools[PoolKey("default", "p", "v1")].endpoints
    assert [(e.name, e.address) for e in found] == [
        ("pod", "10.0.0.1:8000"),
        ("t-rank-0", "[::1]:9001"),
        ("t-rank-1", "[::1]:9002"),
    ]
    assert (found[0].hostname, found[0].labels) == ("gpu-1", {"app": "p", "a": "pod", "b": "slice"})


def test_rewrites_are_exact_first_and_mixed_weights_are_reported() -> None:
    rules = [
        {"targets": [{"modelRewrite": "generic"}]},
        {
            "matches": [{"model": {"value": "m"}}],
            "targets": [{"modelRewrite": "a", "weight": 2}, {"modelRewrite": "never"}],
        },
    ]
    rewrite = make(X, "InferenceModelRewrite", "w", {"poolRef": {"name": "p"}, "rules": rules})
    objective = make(X, "InferenceObjective", "o", {"poolRef": {"name": "p"}, "priority": 5})
    resolution = standalone(pool(), rewrite, objective, model("m", "llama"))
    found = resolution.pools[PoolKey("default", "p", "v1")]
    assert [(r.models, [t.name for t in r.targets]) for r in found.rewrites] == [
        (frozenset({"m"}), ["a"]),
        (frozenset(), ["generic"]),
    ]
    assert found.objectives == {"o": 5}
    assert verdicts(resolution, "InferenceModelRewrite", "w")["PartiallyInvalid"] == "UnsupportedValue"


def test_services_take_slices_by_port_name_else_pods() -> None:
    spec = {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "web", "appProtocol": "kubernetes.io/h2c"}]}
    containers = {"containers": [{"ports": [{"name": "web", "containerPort": 3000}]}]}
    pod = make("v1", "Pod", "x", containers, meta={"labels": {"a": "b"}}, status={"podIP": "10.0.0.9"})
    rule = {"backendRefs": [{"name": "s", "port": 80}]}
    (service,) = standalone(make("v1", "Service", "s", spec), pod, route("r", rule)).services.values()
    assert ([e.address for e in service.endpoints], service.app_protocol) == (["10.0.0.9:3000"], "kubernetes.io/h2c")


@pytest.mark.parametrize(
    ("pattern", "served"),
    [
        pytest.param("/v[0-9]+/.*", True, id="plain"),
        pytest.param("/(a+)+", False, id="nested-repetition"),
        pytest.param("/(?=a)", False, id="look-ahead"),
        pytest.param("/(", False, id="broken"),
        pytest.param("/.*a.*b.*c", False, id="polynomial"),
        pytest.param("/" + "a?" * 20, False, id="many-optional-parts"),
    ],
)
def test_only_regular_expressions_of_bounded_cost_are_served(pattern: str, served: bool) -> None:
    resolution = standalone(pool(), route("r", match(pattern, "RegularExpression")))
    assert bool(names(resolution, path="/v1/x")) is served
    assert verdicts(resolution, "HTTPRoute", "r")["Accepted"] == ("Accepted" if served else "not UnsupportedValue")


_paths = st.sampled_from(["/", "/a", "/a/", "/a/b"])
_matches = st.builds(match, _paths, st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]))
_refs = st.sampled_from([POOL_REF, {**POOL_REF, "name": "q"}, {"name": "s", "port": 80}, {"name": "s", "port": 81}])
_hosts = st.lists(st.sampled_from(["a.b", "*.b", "c.b", "*.a.b"]), max_size=2, unique=True)
_name = st.sampled_from(["p", "q", "s"])
_resources = st.lists(
    st.one_of(
        st.builds(pool, _name, st.sampled_from([V1, X]), namespace=st.sampled_from(["default", "other"])),
        st.builds(
            lambda n, r, h, ref: route(n, r, {"backendRefs": [ref]}, hostnames=h), _name, _matches, _hosts, _refs
        ),
        st.builds(lambda n, m, p, h: model(n, m, p, hostnames=h), _name, _name, _name, _hosts),
        st.builds(lambda n, p: make("v1", "Service", n, {"ports": [{"port": p}]}), _name, st.sampled_from([80, 81])),
        st.builds(lambda n: make(X, "InferenceObjective", n, {"poolRef": {"name": n}}), _name),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(_resources, st.booleans())
def test_any_resources_resolve_consistently(resources: list[Resource], attach_all: bool) -> None:
    resolution = resolve(resources, gateways=IMPLICIT, attach_all=attach_all, default_gateway=GATEWAY)
    by_name = {}
    for listener in resolution.listeners:
        for host in listener.virtual_hosts:
            assert len({entry.name for entry in host.entries}) == len(host.entries)
            for entry in host.entries:
                assert by_name.setdefault(entry.name, entry) == entry
                for backend in entry.rule.backends:
                    known = {**resolution.pools, **resolution.services}
                    assert backend.target is None or backend.target in known
    assert not set(resolution.unreachable) & set(resolution.pools)
    assert resolve(resources, gateways=IMPLICIT, attach_all=attach_all, default_gateway=GATEWAY) == resolution


@settings(deadline=None, max_examples=40)
@given(st.lists(_matches, min_size=1, max_size=6), st.randoms())
def test_precedence_does_not_depend_on_the_order_of_dated_routes(rules: list[dict[str, Any]], random: Any) -> None:
    routes = [
        route(f"r{index}", rule, meta={"creationTimestamp": "2026-01-01T00:00:00Z"}) for index, rule in enumerate(rules)
    ]
    shuffled = list(routes)
    random.shuffle(shuffled)
    assert standalone(pool(), *routes).listeners == standalone(pool(), *shuffled).listeners
