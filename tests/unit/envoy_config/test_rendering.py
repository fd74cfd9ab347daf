"""Rendering: equal input gives equal output anywhere, names fit together, secrets stay where they belong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from resolved_values import CLOSED, OPEN, POOLS, SERVICE, entry, files, resolution, rule, settings

from envoy_config import names
from envoy_config.render import render
from envoy_config.settings import UsageSource
from envoy_config.static import static_document
from inference_resolution.resolved import HeaderChange, RouteMatch

ENTRIES = (
    entry(rule(CLOSED, OPEN, name="a"), models=frozenset({"m1", "m2", "m3", "m4"})),
    entry(rule(SERVICE, None, name="b", request_headers=HeaderChange(set=(("x", "%"),))), RouteMatch(path="/b")),
)

ABSENT = {names.NO_BACKEND_CLUSTER, names.NO_DECISION_CLUSTER}


def named_clusters(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "weighted_clusters" in value:
            yield from (cluster["name"] for cluster in value["weighted_clusters"]["clusters"])
        if isinstance(value.get("cluster"), str):
            yield value["cluster"]
        for item in value.values():
            yield from named_clusters(item)
    elif isinstance(value, list):
        for item in value:
            yield from named_clusters(item)


def test_equal_input_gives_equal_files_in_processes_with_other_hash_seeds() -> None:
    script = "import json, test_rendering as t; print(json.dumps(t.files(*t.ENTRIES, api_keys=('k',))), end='')"
    here = str(Path(__file__).parent)

    def run(seed: str) -> str:
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": here}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    expected = json.dumps(files(*ENTRIES, api_keys=("k",)))
    assert {run("1"), run("2")} == {expected}


def test_versions_follow_content() -> None:
    one, same, other = files(*ENTRIES), files(*ENTRIES), files(ENTRIES[0])
    versions = [
        {path: f["version_info"] for path, f in found.items() if "version_info" in f} for found in (one, same, other)
    ]
    assert versions[0] == versions[1]
    changed = {path for path in versions[0] if versions[0][path] != versions[2][path]}
    assert changed == {names.routes_file("http")}


def test_every_cluster_that_a_route_names_has_an_endpoint_file() -> None:
    found = files(*ENTRIES)
    clusters = {cluster["name"] for cluster in found[names.CLUSTERS_FILE]["resources"]}  # type: ignore[attr-defined]
    named = set(named_clusters(found[names.routes_file("http")])) - ABSENT
    assert named <= clusters
    assert {names.endpoints_file(cluster.removesuffix(names.OPEN_SUFFIX)) for cluster in clusters} <= set(found)


def test_no_client_facing_route_of_a_pool_that_fails_close_has_a_cluster() -> None:
    found = files(entry(rule(CLOSED)), entry(rule(CLOSED, OPEN, name="two"), RouteMatch(path="/b")))
    assert set(named_clusters(found[names.routes_file("http")])) == {names.NO_DECISION_CLUSTER}


def test_a_pools_credential_stands_in_its_secret_file_only() -> None:
    found = files(*ENTRIES)
    holding = [path for path, content in found.items() if "s3cret" in json.dumps(content)]
    assert holding == [names.secret_file(CLOSED.cluster_name, "credential")]
    assert "s3cret" not in json.dumps(static_document(found))


def test_clients_keys_stand_in_the_listener_file_only() -> None:
    found = files(*ENTRIES, api_keys=("client-key",))
    assert [path for path, content in found.items() if "client-key" in json.dumps(content)] == [names.LISTENERS_FILE]
    assert "client-key" not in repr(settings(api_keys=("client-key",)))


def test_files_come_in_the_order_in_which_they_may_be_written() -> None:
    kinds = [path.partition("/")[0] for path in files(*ENTRIES)]
    assert kinds[0] == names.BOOTSTRAP_FILE
    assert kinds.index(names.CLUSTERS_FILE) > max(i for i, kind in enumerate(kinds) if kind in ("eds", "sds"))
    assert kinds.index(names.CLUSTERS_FILE) < kinds.index("rds") < kinds.index(names.LISTENERS_FILE)


def test_a_listener_without_an_address_is_left_out() -> None:
    found = dict(render(resolution(*ENTRIES), settings(listen={})))
    assert found[names.LISTENERS_FILE]["resources"] == []
    assert names.routes_file("http") not in found


@pytest.mark.parametrize(
    ("usage", "filters"),
    [
        (UsageSource.NATIVE, ["ext_proc", "lua", "sse_to_metadata", "ai_protocol_manager", "router"]),
        (UsageSource.LUA, ["ext_proc", "lua", "router"]),
        (UsageSource.PICKER, ["ext_proc", "router"]),
    ],
)
def test_the_usage_switch(usage: UsageSource, filters: list[str]) -> None:
    listener: Any = files(*ENTRIES, usage=usage)[names.LISTENERS_FILE]
    manager = listener["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert [f["name"].rsplit(".", 1)[1] for f in manager["http_filters"]] == filters
    mode = manager["http_filters"][0]["typed_config"]["processing_mode"]
    assert (mode["response_header_mode"] == "SEND") == (usage is UsageSource.PICKER)


@pytest.mark.parametrize("hold", [True, False])
def test_the_hold_switch(hold: bool) -> None:
    clusters: Any = files(*ENTRIES, hold_headers=hold)[names.CLUSTERS_FILE]["resources"]
    options = clusters[0]["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    kinds = [f["name"].rsplit(".", 1)[1] for f in options["http_filters"]]
    assert kinds == (
        ["credential_injector", "wasm", "upstream_codec"] if hold else ["credential_injector", "upstream_codec"]
    )


def test_a_picked_cluster_never_dials_what_is_not_in_the_list_and_fail_open_adds_one_that_chooses() -> None:
    clusters: Any = {c["name"]: c for c in files(*ENTRIES)[names.CLUSTERS_FILE]["resources"]}  # type: ignore[attr-defined]

    def policy(name: str) -> Any:
        return clusters[name]["load_balancing_policy"]["policies"][0]["typed_extension_config"]

    for pool in (CLOSED, OPEN):
        fallback = policy(pool.cluster_name)["typed_config"]["fallback_policy"]["policies"][0]["typed_extension_config"]
        assert fallback["name"].endswith(".subset")
        assert fallback["typed_config"]["fallback_policy"] == "NO_FALLBACK"
    assert policy(OPEN.cluster_name + names.OPEN_SUFFIX)["name"].endswith(".least_request")
    assert CLOSED.cluster_name + names.OPEN_SUFFIX not in clusters


def test_a_slow_reader_is_held_no_more_for_than_a_small_buffer_on_either_side() -> None:
    found: Any = files(*ENTRIES)
    limits = [r["per_connection_buffer_limit_bytes"] for r in found[names.CLUSTERS_FILE]["resources"]]
    limits += [r["per_connection_buffer_limit_bytes"] for r in found[names.LISTENERS_FILE]["resources"]]
    assert max(limits) <= 256 * 1024
    tiny: Any = files(*ENTRIES, max_body_bytes=1024)[names.LISTENERS_FILE]["resources"][0]
    assert tiny["per_connection_buffer_limit_bytes"] < 128 * 1024


def test_envoy_shows_what_each_endpoint_of_a_pool_has_and_no_others() -> None:
    clusters: Any = files(*ENTRIES)[names.CLUSTERS_FILE]["resources"]
    shown = {c["name"] for c in clusters if c.get("track_cluster_stats", {}).get("per_endpoint_stats")}
    assert shown == {CLOSED.cluster_name, OPEN.cluster_name, OPEN.cluster_name + names.OPEN_SUFFIX}


def test_both_clusters_of_a_pool_that_fails_open_share_its_endpoint_file() -> None:
    clusters: Any = {c["name"]: c for c in files(*ENTRIES)[names.CLUSTERS_FILE]["resources"]}  # type: ignore[attr-defined]
    sources = [clusters[OPEN.cluster_name + suffix]["eds_cluster_config"] for suffix in ("", names.OPEN_SUFFIX)]
    assert sources[0] == sources[1]


def test_the_static_document_refers_to_no_other_file_but_secrets() -> None:
    document = json.dumps(static_document(files(*ENTRIES)))
    assert "/run/gw/eds" not in document
    assert "/run/gw/rds" not in document
    assert f"/run/gw/{names.secret_file(CLOSED.cluster_name, 'credential')}" in document
    assert len(POOLS) == 2


@pytest.mark.parametrize("tracing", [True, False])
def test_attempts_are_told_apart_in_traces_where_a_picker_decided(tracing: bool) -> None:
    found = files(*ENTRIES, tracing=tracing)
    clusters: Any = found[names.CLUSTERS_FILE]["resources"]
    telling = {c["name"] for c in clusters if "%UPSTREAM_REQUEST_ATTEMPT_COUNT%" in json.dumps(c)}
    assert telling == ({CLOSED.cluster_name, OPEN.cluster_name} if tracing else set())
