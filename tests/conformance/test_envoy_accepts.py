"""Whatever valid resources are given, the real Envoy accepts the configuration they lead to.

Hundreds of generated sets of resources go through resolution and rendering; many of them stand in one document, since
starting Envoy is the slow part. A document it refuses is halved until the one set is found.
"""

import copy
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from envoy_config import names
from envoy_config.render import render
from envoy_config.settings import EnvoySettings, ListenAddress, UsageSource
from envoy_config.static import static_document
from igw.envoy_binary import find_envoy
from inference_api.problems import ValidationProblems
from inference_api.resources import Resource, parse_resource
from inference_resolution.resolution import resolve
from inference_resolution.resolved import ObjectKey, Resolution
from inference_resolution.targets import GatewayTarget, ListenerTarget

ENVOY = find_envoy(None)
GATEWAY = ObjectKey("gateway.networking.k8s.io", "Gateway", "default", "gw")
TARGETS = (GatewayTarget(GATEWAY, (ListenerTarget("http", 8080),)),)
SETS = 300
SETS_PER_DOCUMENT = 50
POOL_GROUP = "inference.networking.k8s.io"
PEM = (Path(__file__).parents[1] / "data" / "authority.pem").read_text()

LONGEST = "x" * 63 + "." + "y" * 63 + "." + "z" * 63 + "." + "w" * 61
Document = dict[str, Any]

# -- values -----------------------------------------------------------------------------------------------------------

hostile_text = st.one_of(
    st.sampled_from(
        ["%", "%%", "%REQ(x)%", "100%25", '"', "'", "\\", "\\1", "{{x}}", "$1", "é\u2028\U0001f600", "\t", " "]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=40),
)
header_names = st.one_of(
    st.sampled_from(
        ["x-a", "X-B", "host", "Host", "content-length", "te", "!#$%&'*+-.^_`|~", "authorization", "h" * 256]
    ),
    st.from_regex(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,12}", fullmatch=True),
)
path_text = st.one_of(
    st.sampled_from(["/", "/v1", "/v1/", "/a.b(c)*+$", "/%41%25", "/~user;x=1", "/" + "p" * 1000, "/a/b/c", "/[x]"]),
    st.from_regex(r"/[-A-Za-z0-9._~!$&'()*+,;=:@/]{0,20}", fullmatch=True),
)
patterns = st.one_of(
    st.sampled_from(
        [
            ".*",
            "/v[12]/.*",
            "(?i)/ABC",
            "(a|b)c",
            r"\d+",
            r"/\w+/x",
            "[^/]+",
            r"\bfoo\b",
            "a{2,3}",
            "(?:x)y",
            "(?P<n>a)",
            # what RE2 refuses or reads differently
            "(?=a)",
            "(?!a)",
            "(?<=a)b",
            r"(a)\1",
            "a++",
            "(?>a)",
            r"\Z",
            r"\p{L}",
            "a{1001}",
            "(?:" + "." * 200 + "){11}",
            "." * 1000,
            "[^a]{1,200}",
            "(?i)é{200}",
            r"\W{200}",
            "a{,5}",
            "(?a)x",
            "(?x) a",
            r"\N{DIGIT ONE}",
            r"\u0041",
            "[[:alpha:]]",
            "[a-z&&[b]]",
            "[]a]",
            "[^]a]",
            "é+",
            "\U0001f600",
            "(",
            "[",
            "a**",
            "*a",
            "(?P=n)",
            "(?#c)a",
            "(?P<é>a)",
            r"\x{41}",
            r"\x41",
            r"\0",
            r"\07",
            "a{2}{3}",
            "x{1000}",
            "(?P<a>x)(?P<a>y)",
            r"\G",
            r"\K",
            r"\h",
            r"\R",
            r"\e",
            r"\_",
            "(|a)",
            "()",
            "^$",
            "a|",
            "|",
            "]",
            "}",
            "{",
            "a{",
            "a{1",
            "a{1,2",
            "^*",
            "$+",
            "(?i)a(?i)b",
            "(?-i)x",
            "(?s).",
            "(?i:a)b",
            "[\\d-z]",
            "[z-a]",
            r"[\b]",
            "x" * 1000,
            "(((((a)))))",
        ]
    ),
    st.text("ab.*+?()[]{}|^$\\-,:=!<P>1d/é", min_size=1, max_size=12),
)
methods = st.sampled_from(["GET", "POST", "DELETE", "CONNECT", "OPTIONS"])
hostnames = st.sampled_from(
    ["a.example.com", "*.example.com", "*.a.example.com", "b.test", LONGEST, "*." + LONGEST[2:], "x"]
)
precise_hostnames = st.sampled_from(["a.example.com", "b.test", LONGEST, "x"])
durations = st.sampled_from(["0s", "1ms", "10s", "1h", "99999h", "1h30m", "500ms"])
weights = st.sampled_from([0, 1, 3, 1_000_000])
object_names = st.sampled_from(["p", "q", LONGEST])
ports = st.integers(min_value=1, max_value=65_535)

# -- routes -----------------------------------------------------------------------------------------------------------


def distinct(items: st.SearchStrategy[Document], most: int) -> st.SearchStrategy[list[Document]]:
    return st.lists(items, max_size=most, unique_by=lambda item: item["name"].lower())


def value_matches() -> st.SearchStrategy[Document]:
    exact = st.fixed_dictionaries({"name": header_names, "value": hostile_text})
    regex = st.fixed_dictionaries({"name": header_names, "value": patterns, "type": st.just("RegularExpression")})
    return st.one_of(exact, regex)


model_matches = st.fixed_dictionaries({"name": st.just("X-Gateway-Model-Name"), "value": hostile_text})
paths = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["Exact", "PathPrefix"]), "value": path_text}),
    st.fixed_dictionaries({"type": st.just("RegularExpression"), "value": patterns}),
)
matches = st.fixed_dictionaries(
    {},
    optional={
        "path": paths,
        "method": methods,
        "headers": st.one_of(distinct(value_matches(), 3), model_matches.map(lambda match: [match])),
        "queryParams": distinct(value_matches(), 3),
    },
)
headers = st.fixed_dictionaries({"name": header_names, "value": hostile_text})
modifiers = st.fixed_dictionaries(
    {},
    optional={"set": distinct(headers, 3), "add": distinct(headers, 3), "remove": st.lists(header_names, max_size=3)},
)
replacements = st.one_of(path_text, hostile_text, st.just(""), st.just("/a\\1"))
full_path = st.fixed_dictionaries({"type": st.just("ReplaceFullPath"), "replaceFullPath": replacements})
prefix_path = st.fixed_dictionaries({"type": st.just("ReplacePrefixMatch"), "replacePrefixMatch": replacements})


def url_rewrites(path: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    rewrite = st.fixed_dictionaries({}, optional={"hostname": precise_hostnames, "path": path})
    return st.fixed_dictionaries({"type": st.just("URLRewrite"), "urlRewrite": rewrite})


def redirects(path: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    target = st.fixed_dictionaries(
        {},
        optional={
            "scheme": st.sampled_from(["http", "https"]),
            "hostname": precise_hostnames,
            "path": path,
            "port": ports,
            "statusCode": st.sampled_from([301, 302, 303, 307, 308]),
        },
    )
    return st.fixed_dictionaries({"type": st.just("RequestRedirect"), "requestRedirect": target})


modifier_filters = st.one_of(
    st.fixed_dictionaries({"type": st.just("RequestHeaderModifier"), "requestHeaderModifier": modifiers}),
    st.fixed_dictionaries({"type": st.just("ResponseHeaderModifier"), "responseHeaderModifier": modifiers}),
    st.just({"type": "ExtensionRef", "extensionRef": {"group": "x.y", "kind": "Z", "name": "n"}}),
)


def backends() -> st.SearchStrategy[Document]:
    weight = st.fixed_dictionaries({}, optional={"weight": weights, "filters": st.lists(modifier_filters, max_size=1)})
    pools = st.fixed_dictionaries(
        {"group": st.just(POOL_GROUP), "kind": st.just("InferencePool"), "name": object_names}
    )
    services = st.fixed_dictionaries({"name": st.sampled_from(["svc", "none"]), "port": st.sampled_from([80, 81])})
    return st.tuples(st.one_of(pools, services), weight).map(lambda parts: {**parts[0], **parts[1]})


@st.composite
def rules(draw: st.DrawFn) -> Document:
    prefix_rule = draw(st.integers(0, 3)) == 0
    rule: Document = {}
    if prefix_rule:
        rule["matches"] = [{"path": {"type": "PathPrefix", "value": draw(path_text)}}]
    else:
        rule["matches"] = draw(st.lists(matches, max_size=3))
    path = prefix_path if prefix_rule else full_path
    filters = draw(st.lists(modifier_filters, max_size=2, unique_by=lambda item: item["type"]))
    kind = draw(st.sampled_from(["plain", "plain", "rewrite", "redirect"]))
    if kind == "redirect":
        filters.append(draw(redirects(path)))
    else:
        rule["backendRefs"] = draw(st.lists(backends(), max_size=3))
        if kind == "rewrite":
            filters.append(draw(url_rewrites(path)))
    rule["filters"] = filters
    rule["timeouts"] = draw(st.fixed_dictionaries({}, optional={"request": durations, "backendRequest": durations}))
    return rule


routes = st.fixed_dictionaries(
    {"rules": st.lists(rules(), min_size=1, max_size=4)},
    optional={"hostnames": st.lists(hostnames, max_size=3, unique=True)},
)

# -- pools, models, endpoints -----------------------------------------------------------------------------------------

OWN = "inferencegateway.dev/"
annotations = st.fixed_dictionaries(
    {},
    optional={
        f"{OWN}first-token-timeout": durations,
        f"{OWN}host-rewrite": st.just("endpoint"),
        f"{OWN}model-server-credential-secret": st.just("key"),
    },
)
tls_annotations = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {f"{OWN}model-server-tls": st.sampled_from(["verify", "skip-verify"])},
        optional={
            f"{OWN}model-server-tls-server-name": st.sampled_from(["a.example.com", LONGEST]),
            f"{OWN}model-server-tls-ca-secret": st.just("ca"),
        },
    ),
)


@st.composite
def pools(draw: st.DrawFn, name: str) -> Document:
    spec: Document = {
        "selector": {"matchLabels": {"app": "a"}},
        "targetPorts": [{"number": port} for port in draw(st.lists(ports, min_size=1, max_size=3, unique=True))],
        "appProtocol": draw(st.sampled_from(["http", "kubernetes.io/h2c"])),
    }
    mode = draw(st.sampled_from([None, "FailOpen", "FailClose"]))
    if mode is not None:
        spec["endpointPickerRef"] = {"name": "picker", "port": {"number": 9002}, "failureMode": mode}
    meta = {"name": name, "annotations": {**draw(annotations), **draw(tls_annotations)}}
    return {"apiVersion": f"{POOL_GROUP}/v1", "kind": "InferencePool", "metadata": meta, "spec": spec}


@st.composite
def slices(draw: st.DrawFn) -> Document:
    kind = draw(st.sampled_from(["IPv4", "IPv6"]))
    address = st.ip_addresses(v=4 if kind == "IPv4" else 6).map(str)
    endpoint = st.fixed_dictionaries(
        {"addresses": address.map(lambda ip: [ip])},
        optional={"hostname": st.sampled_from(["h", "m.example.com", LONGEST])},
    )
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": draw(st.sampled_from(["s1", "s2"])), "labels": {"app": "a"}},
        "addressType": kind,
        "endpoints": draw(st.lists(endpoint, max_size=3)),
    }


@st.composite
def models(draw: st.DrawFn) -> Document:
    targets = draw(st.lists(hostile_text, max_size=2))
    return {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "kind": "InferenceModel",
        "metadata": {"name": draw(st.sampled_from(["m1", "m2", "m3"]))},
        "spec": {
            "modelName": draw(hostile_text),
            "poolRef": {"name": draw(object_names)},
            "targetModels": [{"name": target} for target in targets],
            "hostnames": draw(st.lists(hostnames, max_size=2, unique=True)),
        },
    }


def object_of(api_version: str, kind: str, name: str, spec: Document | None = None, **more: Any) -> Document:
    document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **more}
    return document if spec is None else {**document, "spec": spec}


SERVICE = object_of(
    "v1",
    "Service",
    "svc",
    {"selector": {"app": "a"}, "ports": [{"port": 80}, {"port": 81, "name": "b", "appProtocol": "kubernetes.io/h2c"}]},
)
POD = {
    **object_of("v1", "Pod", "pod", {"containers": []}, status={"phase": "Running", "podIP": "10.1.2.3"}),
    "metadata": {"name": "pod", "labels": {"app": "a"}},
}
SECRETS = [
    object_of("v1", "Secret", "key", stringData={"api-key": "s3cret%REQ(x)%"}),
    object_of("v1", "Secret", "ca", stringData={"ca.crt": PEM}),
]


@st.composite
def resource_sets(draw: st.DrawFn) -> list[Document]:
    documents = [SERVICE, POD, *SECRETS]
    documents += [draw(pools(name)) for name in draw(st.lists(object_names, max_size=3, unique=True))]
    documents += draw(st.lists(slices(), max_size=2, unique_by=lambda item: item["metadata"]["name"]))
    documents += draw(st.lists(models(), max_size=3, unique_by=lambda item: item["metadata"]["name"]))
    for index, spec in enumerate(draw(st.lists(routes, max_size=3))):
        documents.append(object_of("gateway.networking.k8s.io/v1", "HTTPRoute", f"r{index}", spec))
    return documents


@st.composite
def switches(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "usage": draw(st.sampled_from(UsageSource)),
        "hold_headers": draw(st.booleans()),
        "api_keys": draw(st.sampled_from([(), ("k1",), ("k1", "k%2"), ("x" * 4096,)])),
        "max_body_bytes": draw(st.sampled_from([1024, 32 * 1024 * 1024, 1 << 30])),
        "message_timeout_seconds": draw(st.sampled_from([0.001, 10.0, 3600.0])),
        "connect_timeout_seconds": draw(st.sampled_from([0.001, 60.0])),
        "stream_idle_timeout_seconds": draw(st.sampled_from([0.001, 86_400.0])),
        "listen": {"http": ListenAddress(draw(st.sampled_from(["127.0.0.1", "0.0.0.0", "::1"])), 0)},
    }


# -- rendering and validation -----------------------------------------------------------------------------------------


def read(documents: Sequence[Document], namespace: str) -> list[Resource]:
    """Return the valid ones among *documents*, all in one namespace."""
    resources = []
    for document in documents:
        placed = copy.deepcopy(document)
        placed["metadata"]["namespace"] = namespace
        try:
            resource = parse_resource(placed)
        except ValidationProblems:
            continue
        if resource is not None:
            resources.append(resource)
    return resources


def resolution_of(documents: Sequence[Document], namespace: str = "default") -> Resolution:
    return resolve(read(documents, namespace), gateways=TARGETS, attach_all=True)


class Combined:
    """One document of many resolutions: a listener for each, clusters apart by namespace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def document(self, sets: Sequence[tuple[list[Document], dict[str, Any]]]) -> Document:
        base: Document = {}
        for index, (documents, chosen) in enumerate(sets):
            settings_ = EnvoySettings(directory=str(self._folder), **chosen)
            files = render(resolution_of(documents, f"n{index}"), settings_)
            for path, content in files.items():
                if path.startswith("sds/"):
                    (self._folder / path).parent.mkdir(exist_ok=True)
                    (self._folder / path).write_text(json.dumps(content))
            one: Any = static_document(files)
            resources = one["static_resources"]
            for listener in resources["listeners"]:
                listener["name"] = f"l{index}"
            if not base:
                base = one
            else:
                base["static_resources"]["listeners"] += resources["listeners"]
                known = {cluster["name"] for cluster in base["static_resources"]["clusters"]}
                base["static_resources"]["clusters"] += [
                    cluster for cluster in resources["clusters"] if cluster["name"] not in known
                ]
        return base

    def problem(self, sets: Sequence[tuple[list[Document], dict[str, Any]]]) -> str:
        """Return what Envoy objects to, empty if nothing."""
        path = self._folder / "document.json"
        path.write_text(json.dumps(self.document(sets)))
        done = subprocess.run(
            [str(ENVOY), "--mode", "validate", "-c", str(path), "-l", "error", "--concurrency", "1"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return "" if done.returncode == 0 else done.stderr + done.stdout

    def require(self, sets: Sequence[tuple[list[Document], dict[str, Any]]]) -> None:
        """Fail with the first set that Envoy refuses."""
        problem = self.problem(sets)
        if not problem:
            return
        if len(sets) == 1:
            pytest.fail(f"{problem[-1500:]}\n{json.dumps(sets[0][0])}")
        middle = len(sets) // 2
        self.require(sets[:middle])
        self.require(sets[middle:])
        pytest.fail(f"only together: {problem[-1500:]}")


def collected(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    found: list[Any] = []

    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


def test_envoy_accepts_every_configuration(tmp_path: Path) -> None:
    sets = collected(st.tuples(resource_sets(), switches()), SETS)
    combined = Combined(tmp_path)
    for start in range(0, len(sets), SETS_PER_DOCUMENT):
        combined.require(sets[start : start + SETS_PER_DOCUMENT])


def test_a_pattern_that_re2_refuses_costs_its_own_match_only(tmp_path: Path) -> None:
    """All candidate patterns at once; those that resolution lets pass must be fine with RE2."""
    candidates = sorted(set(collected(patterns, SETS)))
    pool = {
        **object_of(f"{POOL_GROUP}/v1", "InferencePool", "p"),
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "targetPorts": [{"number": 80}]},
    }
    backend = [{"group": POOL_GROUP, "kind": "InferencePool", "name": "p"}]
    documents = [pool]
    for index, pattern in enumerate(candidates):
        bad = {"path": {"type": "RegularExpression", "value": pattern}}
        in_header = {"headers": [{"name": "x", "type": "RegularExpression", "value": pattern}]}
        good = {"path": {"type": "Exact", "value": "/fine"}}
        rule = {"matches": [bad, in_header, good], "backendRefs": backend}
        documents.append(object_of("gateway.networking.k8s.io/v1", "HTTPRoute", f"r{index}", {"rules": [rule]}))
    entries = resolution_of(documents).listeners[0].virtual_hosts[0].entries
    assert sum(entry.match.path == "/fine" for entry in entries) == len(candidates)
    assert len(candidates) < len(entries) < 3 * len(candidates)
    Combined(tmp_path).require([(documents, {"listen": {"http": ListenAddress("127.0.0.1", 0)}})])


@pytest.mark.parametrize("usage", list(UsageSource))
@pytest.mark.parametrize("hold_headers", [True, False])
@pytest.mark.parametrize("api_keys", [(), ("k",)], ids=["open", "keys"])
def test_every_switch_with_nothing_to_serve(
    tmp_path: Path, usage: UsageSource, hold_headers: bool, api_keys: tuple[str, ...]
) -> None:
    chosen = {
        "usage": usage,
        "hold_headers": hold_headers,
        "api_keys": api_keys,
        "listen": {"http": ListenAddress("127.0.0.1", 0)},
    }
    assert Combined(tmp_path).problem([([], chosen)]) == ""


def test_the_files_themselves_are_a_valid_start(tmp_path: Path) -> None:
    """The start-up file with its dynamic resources, as Envoy is really run."""
    settings_ = EnvoySettings(directory=str(tmp_path), listen={"http": ListenAddress("127.0.0.1", 0)})
    for path, content in render(resolution_of([SERVICE, POD]), settings_).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(json.dumps(content))
    done = subprocess.run(
        [str(ENVOY), "--mode", "validate", "-c", str(tmp_path / names.BOOTSTRAP_FILE), "-l", "error"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_hold_module_is_what_its_source_compiles_to() -> None:
    script = Path(__file__).parents[2] / "scripts" / "compile_hold.py"
    assert subprocess.run([sys.executable, str(script), "--check"], check=False).returncode == 0
