"""Requests are routed by the table that Envoy matched with: its entry first, then by precedence where models differ."""

import random
from collections import Counter

import pytest

from endpoint_picker.domain.errors import BackendInvalid, ModelNotFound, RouteNotFound
from endpoint_picker.requestcontrol.exchange import RequestHead
from endpoint_picker.requestcontrol.request_ids import safe_request_id
from endpoint_picker.requestcontrol.routing import Routing
from envoy_config import names
from inference_resolution.resolved import (
    PathMatchType,
    Resolution,
    ResolvedBackend,
    ResolvedListener,
    ResolvedRule,
    RouteEntry,
    RouteMatch,
    TargetModel,
    ValueMatch,
    VirtualHost,
)
from picker_world import GATEWAY, OTHER_POOL, POOL, entry_to, model_of, pool_of, resolution_of


def routing_of(*entries: RouteEntry) -> tuple[Routing, str]:
    resolution = resolution_of(*entries, pools=[pool_of(), pool_of(OTHER_POOL)])
    routing = Routing(random.Random(7))
    routing.replace(resolution)
    return routing, names.virtual_host_name(resolution.listeners[0].virtual_hosts[0])


def head(host: str, route: str, path: str = "/v1/x", method: str = "POST", **headers: str) -> RequestHead:
    return RequestHead(method=method, path=path, headers=headers, route=route, virtual_host=host)


LIMITED = entry_to(POOL, name="limited", models=frozenset({"a"}))
ELSE = entry_to(OTHER_POOL, name="else")


@pytest.mark.parametrize(
    ("entries", "model", "found"),
    [
        pytest.param([LIMITED, ELSE], "a", "limited", id="the-entry-that-matched"),
        pytest.param([LIMITED, ELSE], "b", "else", id="falls-through-to-another-model"),
        pytest.param([LIMITED, ELSE], "", "else", id="no-model-named"),
        pytest.param([ELSE, LIMITED], "a", "else", id="never-before-what-envoy-chose"),
    ],
)
def test_find(entries: list[RouteEntry], model: str, found: str) -> None:
    routing, host = routing_of(*entries)
    assert routing.find(head(host, entries[0].name), model).rule.name == found


@pytest.mark.parametrize(
    ("match", "given", "through"),
    [
        pytest.param(RouteMatch(path="/v1"), {}, True, id="prefix"),
        pytest.param(RouteMatch(path="/v2"), {}, False, id="other-prefix"),
        pytest.param(
            RouteMatch(PathMatchType.REGEX, "/v[0-9]/x"), {"path": "/v1/x?q=1"}, True, id="regex-without-query"
        ),
        pytest.param(RouteMatch(method="GET"), {}, False, id="method"),
        pytest.param(RouteMatch(headers=(ValueMatch("k", "1"),)), {"k": "1"}, True, id="header"),
        pytest.param(RouteMatch(query=(ValueMatch("q", "1"),)), {"path": "/v1/x?q=1&q=2"}, True, id="first-of-a-query"),
        pytest.param(RouteMatch(query=(ValueMatch("q", "2"),)), {"path": "/v1/x?q=1&q=2"}, False, id="not-the-second"),
        pytest.param(RouteMatch(query=(ValueMatch("q", ""),)), {"path": "/v1/x?q"}, True, id="empty-value"),
        pytest.param(RouteMatch(query=(ValueMatch("q", "a%20b"),)), {"path": "/v1/x?q=a%20b"}, True, id="undecoded"),
        pytest.param(RouteMatch(query=(ValueMatch("q", "a b"),)), {"path": "/v1/x?q=a+b"}, False, id="plus-is-plus"),
    ],
)
def test_fall_through_asks_the_whole_match(match: RouteMatch, given: dict[str, str], through: bool) -> None:
    routing, host = routing_of(LIMITED, entry_to(OTHER_POOL, name="next", match=match))
    if through:
        assert routing.find(head(host, LIMITED.name, **given), "b").rule.name == "next"
    else:
        with pytest.raises(ModelNotFound):
            routing.find(head(host, LIMITED.name, **given), "b")


def test_nothing_found() -> None:
    routing, host = routing_of(LIMITED)
    with pytest.raises(ModelNotFound) as raised:
        routing.find(head(host, LIMITED.name), "b")
    assert raised.value.known == ("a",)
    for asked in (head(host, LIMITED.name), head(host, "unknown"), head("unknown", LIMITED.name)):
        with pytest.raises(RouteNotFound):
            routing.find(asked, "")


def test_a_body_matters_only_where_a_pool_can_be_reached() -> None:
    routing, host = routing_of(entry_to(name="none"), LIMITED)
    assert routing.reaches_pools(head(host, "none/0"))
    assert not routing.reaches_pools(head("unknown", "none/0"))
    routing, host = routing_of(entry_to(name="none"))
    assert not routing.reaches_pools(head(host, "none/0"))


def test_requests_matched_with_an_earlier_table_are_still_routed() -> None:
    routing, host = routing_of(LIMITED)
    routing.replace(resolution_of(ELSE, pools=[pool_of(OTHER_POOL)]))
    assert routing.find(head(host, LIMITED.name), "a").rule.name == "limited"
    assert routing.pools_of_host(host) == ()


def test_earlier_tables_are_forgotten_at_last() -> None:
    routing, host = routing_of(LIMITED)
    for number in range(100):
        routing.replace(resolution_of(entry_to(POOL, name=f"r{number}")))
    assert len(routing._tables) == 64
    with pytest.raises(RouteNotFound):
        routing.find(head(host, LIMITED.name), "a")


def test_weights_are_kept_in_the_mean() -> None:
    routing, _ = routing_of(ELSE)
    split = ResolvedRule("w", (ResolvedBackend(POOL, 3), ResolvedBackend(OTHER_POOL, 1), ResolvedBackend(None, 0)))
    drawn = Counter(routing.choose_backend(split).target for _ in range(2000))
    assert set(drawn) == {POOL, OTHER_POOL}
    assert 0.7 < drawn[POOL] / 2000 < 0.8
    targets = (TargetModel("x", 1), TargetModel("y", 4), TargetModel("z", 0))
    pool = pool_of(models={"m": model_of("m", *targets)})
    models = Counter(routing.choose_model(pool, "m").target for _ in range(2000))
    assert set(models) == {"x", "y"}
    assert 0.75 < models["y"] / 2000 < 0.85


@pytest.mark.parametrize("backends", [(), (ResolvedBackend(POOL, 0),), (ResolvedBackend(None, 1),)])
def test_an_invalid_backend_is_no_backend(backends: tuple[ResolvedBackend, ...]) -> None:
    routing, _ = routing_of(ELSE)
    with pytest.raises(BackendInvalid):
        routing.choose_backend(ResolvedRule("w", backends))


def test_a_request_without_model_asks_for_none() -> None:
    routing, _ = routing_of(ELSE)
    choice = routing.choose_model(pool_of(models={"a": model_of("a")}), "")
    assert (choice.target, choice.priority, choice.configured) == ("", 0, False)


@pytest.mark.parametrize(
    ("authority", "hostname"),
    [
        pytest.param("a.example.com", "a.example.com", id="exact"),
        pytest.param("A.Example.com:8080", "a.example.com", id="case-and-port"),
        pytest.param("b.c.example.com", "*.example.com", id="wildcard"),
        pytest.param("example.com", "*", id="not-the-wildcard"),
        pytest.param("[::1]:80", "*", id="ipv6"),
    ],
)
def test_the_virtual_host_of_an_authority(authority: str, hostname: str) -> None:
    hosts = tuple(VirtualHost(name, (ELSE,)) for name in ("a.example.com", "*.example.com", "*"))
    routing = Routing(random.Random(1))
    routing.replace(Resolution((ResolvedListener(GATEWAY, "http", 80, hosts),)))
    assert routing.virtual_host_of(authority).partition("@")[0] == hostname


def test_no_virtual_host() -> None:
    assert Routing(random.Random(1)).virtual_host_of("h") == ""
    assert Routing(random.Random(1)).model_names("h") == ()


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("a-1._:/+=@Z", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("a b", False),
        ("é", False),
        ("a\n", False),
    ],
)
def test_request_ids(value: str, safe: bool) -> None:
    assert safe_request_id(value) == (value if safe else "")
