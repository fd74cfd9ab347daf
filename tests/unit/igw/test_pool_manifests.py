"""Pools of the command line become valid manifests: one pool, model and route each, slices by family and port."""

import hashlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from igw.pool_flag import parse_pool_flag
from igw.pool_manifests import PoolToServe, ResolvedServer, object_names, render_manifests
from inference_api.manifests import parse_manifests

DIGESTS = {name: hashlib.sha256(name.encode()).hexdigest()[:8] for name in ("a.b", "a/b")}


def pool(text: str, *ips: str, target: str = "t") -> PoolToServe:
    flag = parse_pool_flag(text)
    return PoolToServe(flag, tuple(map(ResolvedServer, flag.servers, ips)), target)


def documents(*pools: PoolToServe) -> list[dict[str, Any]]:
    text = render_manifests(pools)
    parsed = parse_manifests(text, "pools.yaml")
    assert not parsed.problems
    assert not parsed.ignored
    return list(yaml.safe_load_all(text))


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in found if document["kind"] == kind]


def test_the_name_clients_use_stays_as_given() -> None:
    (model,) = of_kind(documents(pool("Qwen/Qwen2.5=http://10.0.0.1:80", "10.0.0.1", target="base")), "InferenceModel")
    assert model["metadata"]["name"] == "qwen-qwen2-5"
    assert model["spec"]["modelName"] == "Qwen/Qwen2.5"
    assert model["spec"]["targetModels"] == [{"name": "base"}]


def test_servers_with_different_ports_and_families_have_their_own_slices() -> None:
    found = documents(
        pool(
            "m=http://10.0.0.1:1,http://10.0.0.2:1,http://10.0.0.1:2,http://[::1]:1",
            "10.0.0.1",
            "10.0.0.2",
            "10.0.0.1",
            "::1",
        )
    )
    slices = {
        (s["addressType"], s["ports"][0]["port"]): [e["addresses"][0] for e in s["endpoints"]]
        for s in of_kind(found, "EndpointSlice")
    }
    assert slices == {("IPv4", 1): ["10.0.0.1", "10.0.0.2"], ("IPv4", 2): ["10.0.0.1"], ("IPv6", 1): ["::1"]}
    (resource,) = of_kind(found, "InferencePool")
    assert resource["spec"]["targetPorts"] == [{"number": 1}, {"number": 2}]
    selector = resource["spec"]["selector"]["matchLabels"]
    assert all(s["metadata"]["labels"] == selector for s in of_kind(found, "EndpointSlice"))


def test_more_ports_than_a_pool_may_name_are_left_to_the_slices() -> None:
    urls = ",".join(f"http://10.0.0.1:{port}" for port in range(1, 13))
    found = documents(pool(f"m={urls}", *["10.0.0.1"] * 12))
    (resource,) = of_kind(found, "InferencePool")
    assert len(resource["spec"]["targetPorts"]) == 8
    assert len(of_kind(found, "EndpointSlice")) == 12


@pytest.mark.parametrize(
    ("text", "ip", "annotations", "hostname"),
    [
        pytest.param("m=http://10.0.0.1:1", "10.0.0.1", {}, None, id="plain-ip"),
        pytest.param("m=http://gpu.lan:1", "10.0.0.1", {"host-rewrite": "endpoint"}, "gpu.lan", id="host-name"),
        pytest.param("m=https://10.0.0.1", "10.0.0.1", {"model-server-tls": "verify"}, None, id="tls-to-an-ip"),
        pytest.param(
            "m=https://gpu.lan",
            "10.0.0.1",
            {"host-rewrite": "endpoint", "model-server-tls": "verify"},
            "gpu.lan",
            id="tls-to-a-host",
        ),
        pytest.param("m=http://my_llm:1", "10.0.0.1", {}, None, id="no-dns-name"),
    ],
)
def test_host_names_and_tls(text: str, ip: str, annotations: dict[str, str], hostname: str | None) -> None:
    found = documents(pool(text, ip))
    (resource,) = of_kind(found, "InferencePool")
    given_annotations = resource["metadata"].get("annotations", {})
    assert {key.rpartition("/")[2]: value for key, value in given_annotations.items()} == annotations
    (endpoint,) = of_kind(found, "EndpointSlice")[0]["endpoints"]
    assert endpoint.get("hostname") == hostname


def test_two_names_of_one_address_are_one_endpoint() -> None:
    (found,) = of_kind(documents(pool("m=http://a.lan:1,http://b.lan:1", "10.0.0.1", "10.0.0.1")), "EndpointSlice")
    assert [e["hostname"] for e in found["endpoints"]] == ["a.lan"]


def test_one_pool_takes_every_path_and_several_are_told_apart_by_model() -> None:
    one = pool("a=http://10.0.0.1:1", "10.0.0.1")
    other = pool("b=http://10.0.0.2:1", "10.0.0.2")
    (alone,) = of_kind(documents(one), "HTTPRoute")
    assert alone["spec"]["rules"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    routes = of_kind(documents(one, other), "HTTPRoute")
    assert [r["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] for r in routes] == ["a", "b"]


def test_a_pool_without_an_address_is_still_a_pool() -> None:
    found = documents(pool("m=http://gone.lan:1"))
    assert [document["kind"] for document in found] == ["InferencePool", "InferenceModel", "HTTPRoute"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["llama-3"], ["llama-3"], id="already-a-label"),
        pytest.param(["a.b", "a-b", "a/b"], ["a-b-" + DIGESTS["a.b"], "a-b", "a-b-" + DIGESTS["a/b"]], id="alike"),
        pytest.param(["-"], ["pool-3973e022"], id="nothing-left"),
    ],
)
def test_object_names(names: list[str], expected: list[str]) -> None:
    assert object_names(names) == expected


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=8))
def test_object_names_are_distinct_dns_labels(names: list[str]) -> None:
    labels = object_names(names)
    assert len(set(labels)) == len(names)
    for label in labels:
        assert len(label) <= 63
        assert label.isascii()
        assert label == label.lower()
        assert label.replace("-", "").isalnum()
        assert label[0] != "-" != label[-1]
