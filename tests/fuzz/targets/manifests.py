"""Manifests: any text gives resources or problems with their place, and what is accepted can be served."""

import json
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from endpoint_picker.datalayer.files import LISTENER_NAME, resolve_standalone
from envoy_config.render import render
from envoy_config.settings import EnvoySettings, ListenAddress, UsageSource
from envoy_config.static import static_document
from fuzz import json_text
from fuzz.target import Target, bounded
from inference_api.gateway import Gateway
from inference_api.manifests import ParsedManifests, _documents, find_duplicates, parse_manifests
from inference_api.yaml_nodes import InvalidYaml
from inference_resolution.resolution import resolve
from inference_resolution.resolved import Resolution
from inference_resolution.targets import gateway_target

SOURCE = "f.yaml"
SEEDS = Path(__file__).parents[1] / "seeds" / "manifests"
_MOST_RESOURCES = 300
"""Rendering is measured elsewhere; here the reader is."""


def check(data: bytes) -> None:
    """Read, resolve and render one text."""
    with bounded(len(data), seconds=2.0):
        parsed = parse_manifests(data, SOURCE)
    lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xe2\x80") + data.count(b"\xc2\x85") + 2
    for problem in parsed.problems:
        assert str(problem).startswith(f"{SOURCE}:"), problem
        assert 0 < problem.line <= lines, problem
        assert problem.message
    for item in (*parsed.resources, *parsed.ignored):
        assert 0 < item.line <= lines
        assert str(item)
    if not parsed.problems:
        _check_nothing_lost(data, parsed)
    _check_json(data)
    resources = [item.resource for item in parsed.resources]
    assert len(find_duplicates(parsed.resources)) < max(1, len(resources))
    if 0 < len(resources) <= _MOST_RESOURCES:
        with bounded(len(data) * 10, seconds=2.0):
            usage = tuple(UsageSource)[len(data) % len(UsageSource)]
            _check_rendering(resolve_standalone(resources, 8080), [LISTENER_NAME], usage)
            gateways = [gateway_target(resource) for resource in resources if isinstance(resource, Gateway)]
            attached = resolve(resources, gateways=gateways, namespace_labels={"default": {"a": "b"}})
            _check_rendering(attached, {listener.name for listener in attached.listeners}, usage)


def _check_nothing_lost(data: bytes, parsed: ParsedManifests) -> None:
    """Silence means there was nothing, or nothing but empty lists."""
    if parsed.resources or parsed.ignored:
        return
    for document in _documents(data.decode().removeprefix("\ufeff")):
        value = document.root.plain()
        assert isinstance(value, Mapping)
        assert str(value.get("kind", "")).endswith("List")


def _check_json(data: bytes) -> None:
    """A JSON text means the same read as YAML."""
    try:
        value = json_text.strict_value(data)
        text = data.decode()
        documents = list(_documents(text))
    except (json_text.NotStrict, InvalidYaml):
        return
    if isinstance(value, dict | list) and not any(document.problems for document in documents):
        assert [document.root.plain() for document in documents] == [value]


def _check_rendering(resolution: Resolution, listeners: Iterable[str], usage: UsageSource) -> None:
    listen = {name: ListenAddress("127.0.0.1", 8080) for name in listeners}
    files = render(resolution, EnvoySettings(directory="/run/igw", listen=listen, usage=usage))
    json.dumps(dict(files), allow_nan=False, ensure_ascii=False).encode()
    json.dumps(static_document(files))
    for verdict in resolution.verdicts:
        assert verdict.reason
        assert verdict.status in ("True", "False")


_DOCUMENTS: tuple[Any, ...] = tuple(
    document
    for path in sorted(SEEDS.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document is not None
)
_SCALARS = (
    None, True, False, 0, 1, -1, 80, 8080, 65536, 2**31, 2**64, 1.5, 1e300, "", "a", "a.example.com", "*.example.com",
    "/",
    "/v1", "default", "yes", "1", "10s", "1h99m", "0s", "x" * 300, "é", "\u2028", "%", "{{x}}", "\\1", "(", "a{1001}",
    "\U0001f600",
    "10.0.0.1", "::1", "fe80::1%eth0", "999.1.1.1", "InferencePool", "Service", "RegularExpression", "PathPrefix",
    "\t", "\x7f",
    "FailOpen", "inference.networking.k8s.io", "LS0tLS1CRUdJTg==", "2024-01-01T00:00:00Z", [], {}, [1], {"a": "b"},
)  # fmt: skip
_PIECES = (
    b"&a ", b"*a", b"<<: *a\n", b"!!int ", b"!x ", b"---\n", b"...\n", b"%YAML 1.1\n", b"%TAG ! x:\n", b"? ", b"- ",
    b": ", b"|\n",
    b">-\n", b"\t", b"\r", b"'", b'"', b"{", b"}", b"[", b"]", b"#", b"\xef\xbb\xbf", b"\x00", b"\xff", b"\xc2\x85",
    b"\xe2\x80\xa8",
    b'"\\ud83d\\ude00"', b'"\\U00110000"', b'"\\x00"', b"0x10", b"0b1", b"017", b"0o7", b"1_000", b".inf", b".nan",
    b"1e400", b"~",
    b"<<: [*a, *a]\n", b"kind: List\nitems:\n", b"kind: PodList\n", b"apiVersion: v1\n", b"metadata: {name: a}\n",
    b"spec:\n",
)  # fmt: skip


def _changed(value: Any, rng: random.Random, *, rate: float) -> Any:
    """Return *value* with some of its parts replaced, dropped or doubled."""
    if rng.random() < rate:
        return rng.choice(_SCALARS)
    if isinstance(value, dict):
        kept = {key: _changed(item, rng, rate=rate) for key, item in value.items() if rng.random() > rate / 2}
        if rng.random() < rate:
            kept[rng.choice(("x", "name", "namespace", "kind", "weight", "port"))] = rng.choice(_SCALARS)
        return kept
    if isinstance(value, list):
        items = [_changed(item, rng, rate=rate) for item in value if rng.random() > rate / 2]
        return items * 2 if rng.random() < rate else items
    return value


def _doubling(count: int, entry: str) -> bytes:
    return "\n".join(entry.format(n=n, m=n - 1) for n in range(1, count)).encode()


HOSTILE: tuple[Callable[[int], bytes], ...] = (
    lambda count: b"[" * count,
    lambda count: b"{a: " * count,
    lambda count: b"- " * count + b"a",
    lambda count: b"? " * count + b"a",
    lambda count: b"a: " + b"9" * count * 10,
    lambda count: b'{"a": [' + b"[]," * count + b'"\\ud83d\\ude00"]}',
    lambda count: b"[" + b'{"a": 1},' * count + b"1]",
    lambda count: b"a0: &a0 [1, 1]\n" + _doubling(min(count, 60), "b{n}: &a{n} [*a{m}, *a{m}]"),
    lambda count: b"a0: &a0 {x: 1}\n" + _doubling(count, "b{n}: &a{n} {{<<: [*a{m}, *a{m}], y{n}: 1}}"),
    lambda count: b"a: &x 1\n" + b"".join(b"b%d: *x\n" % n for n in range(count)),
    lambda count: b"apiVersion: v1\nkind: List\nitems: [" + b"{apiVersion: v1, kind: List, items: [" * min(count, 60),
)
"""What costs much of a reader that is not careful."""


def generate(rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return rng.choice(HOSTILE)(rng.choice((10, 200, 3000)))
    rate = rng.choice((0.0, 0.02, 0.05, 0.2))
    chosen = rng.sample(_DOCUMENTS, rng.randrange(1, min(6, len(_DOCUMENTS))))
    texts = []
    for document in (_changed(document, rng, rate=rate) for document in chosen):
        if rng.random() < 0.3:
            texts.append(json.dumps(document, ensure_ascii=rng.random() < 0.5))
        else:
            texts.append(
                yaml.dump(document, Dumper=_Dumper, default_flow_style=rng.choice((None, True, False)), width=10**6)
            )
    text = "\n---\n".join(texts).encode()
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(_PIECES) + text[at:]
    return text


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

TARGET = Target(
    "manifests",
    check,
    generate,
    seeds=tuple(path.read_bytes() for path in sorted(SEEDS.glob("*.yaml"))),
    tokens=_PIECES,
)
