"""Route tables: picked routes first, each match, rewrite and filter in Envoy's words, fallbacks by failure mode."""

import re
from typing import Any

import pytest
from resolved_values import CLOSED, OPEN, SERVICE, client_facing, entry, picked, routes, rule, virtual_host

from endpoint_picker.requestcontrol.body.kinds import canonical_path
from envoy_config import names
from envoy_config.control_paths import CONTROL_PATHS, is_control_path
from envoy_config.settings import UsageSource
from inference_resolution.resolved import (
    HeaderChange,
    PathMatchType,
    PathRewrite,
    Redirect,
    ResolvedBackend,
    ResolvedRule,
    RouteMatch,
    ValueMatch,
)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        pytest.param(RouteMatch(), {"prefix": "/"}, id="everything"),
        pytest.param(RouteMatch(path="/v1"), {"path_separated_prefix": "/v1"}, id="prefix"),
        pytest.param(RouteMatch(path="/v1/"), {"path_separated_prefix": "/v1"}, id="prefix-with-slash"),
        pytest.param(RouteMatch(PathMatchType.EXACT, "/v1/"), {"path": "/v1/"}, id="exact"),
        pytest.param(RouteMatch(PathMatchType.REGEX, "/v[12]"), {"safe_regex": {"regex": "/v[12]"}}, id="regex"),
        pytest.param(
            RouteMatch(method="GET", headers=(ValueMatch("x", "1%"), ValueMatch("y", "a.*", regex=True))),
            {
                "prefix": "/",
                "headers": [
                    {"name": "x", "string_match": {"exact": "1%"}},
                    {"name": "y", "string_match": {"safe_regex": {"regex": "a.*"}}},
                    {"name": ":method", "string_match": {"exact": "GET"}},
                ],
            },
            id="headers-and-method",
        ),
        pytest.param(
            RouteMatch(query=(ValueMatch("q", "1"), ValueMatch("r", ".", regex=True))),
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "q", "string_match": {"exact": "1"}},
                    {"name": "r", "string_match": {"safe_regex": {"regex": "."}}},
                ],
            },
            id="query",
        ),
    ],
)
def test_matches(match: RouteMatch, expected: dict[str, Any]) -> None:
    assert client_facing(entry(rule(SERVICE), match))["match"] == expected


@pytest.mark.parametrize(
    ("match", "rewrite", "expected"),
    [
        pytest.param("/", PathRewrite(hostname="a.b"), {"host_rewrite_literal": "a.b"}, id="hostname"),
        pytest.param(
            "/x",
            PathRewrite(full="/a\\1%"),
            {"regex_rewrite": {"pattern": {"regex": "^/.*$"}, "substitution": "/a\\\\1%"}},
            id="full-path-is-literal",
        ),
        pytest.param(
            "/a.b/",
            PathRewrite(prefix="/c/"),
            {"regex_rewrite": {"pattern": {"regex": r"^/a\.b(/.*)?$"}, "substitution": "/c\\1"}},
            id="prefix",
        ),
        pytest.param(
            "/a",
            PathRewrite(prefix="/"),
            {"regex_rewrite": {"pattern": {"regex": "^/a/*(.*)$"}, "substitution": "/\\1"}},
            id="prefix-to-root",
        ),
        pytest.param(
            "/",
            PathRewrite(prefix="/c"),
            {"regex_rewrite": {"pattern": {"regex": "^(/.*)?$"}, "substitution": "/c\\1"}},
            id="prefix-of-root",
        ),
    ],
)
def test_rewrites_stand_on_picked_and_client_facing_routes(
    match: str, rewrite: PathRewrite, expected: dict[str, Any]
) -> None:
    for given in (
        client_facing(entry(rule(SERVICE, rewrite=rewrite), RouteMatch(path=match))),
        client_facing(entry(rule(OPEN, rewrite=rewrite), RouteMatch(path=match))),
        picked(entry(rule(CLOSED, rewrite=rewrite), RouteMatch(path=match))),
    ):
        action = given["route"]
        assert {k: v for k, v in action.items() if k in ("host_rewrite_literal", "regex_rewrite")} == expected


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        pytest.param(Redirect(), {"response_code": "FOUND"}, id="bare"),
        pytest.param(
            Redirect(scheme="https", hostname="a.b", port=444, status=308),
            {
                "response_code": "PERMANENT_REDIRECT",
                "scheme_redirect": "https",
                "host_redirect": "a.b",
                "port_redirect": 444,
            },
            id="parts",
        ),
        pytest.param(
            Redirect(full="/x", status=301), {"response_code": "MOVED_PERMANENTLY", "path_redirect": "/x"}, id="path"
        ),
        pytest.param(
            Redirect(prefix="/y", status=303),
            {
                "response_code": "SEE_OTHER",
                "regex_rewrite": {"pattern": {"regex": "^/a(/.*)?$"}, "substitution": "/y\\1"},
            },
            id="prefix",
        ),
        pytest.param(Redirect(status=307), {"response_code": "TEMPORARY_REDIRECT"}, id="307"),
    ],
)
def test_redirects_need_no_picker(redirect: Redirect, expected: dict[str, Any]) -> None:
    given = client_facing(entry(rule(redirect=redirect), RouteMatch(path="/a")))
    assert given["redirect"] == expected
    assert disabled(given)


def disabled(route: Any) -> bool:
    override = route.get("typed_per_filter_config", {}).get("envoy.filters.http.ext_proc", {})
    return override.get("disabled") is True


def test_header_changes_escape_percent_and_leave_host_to_the_route() -> None:
    change = HeaderChange(set=(("x", "1%"), ("host", "h"), (":path", "/")), add=(("y", "%%"),), remove=("z", "host"))
    given = client_facing(entry(rule(SERVICE, request_headers=change, response_headers=change)))
    added = [(h["header"]["key"], h["header"]["value"], h["append_action"]) for h in given["request_headers_to_add"]]
    assert added == [("x", "1%%", "OVERWRITE_IF_EXISTS_OR_ADD"), ("y", "%%%%", "APPEND_IF_EXISTS_OR_ADD")]
    assert given["response_headers_to_add"] == given["request_headers_to_add"]
    assert given["response_headers_to_remove"] == ["z"]
    assert "z" in given["request_headers_to_remove"]
    assert given["route"]["host_rewrite_literal"] == "h"


def test_internal_headers_never_reach_a_server() -> None:
    for given in (client_facing(entry(rule(SERVICE))), client_facing(entry(rule(OPEN))), picked(entry(rule(CLOSED)))):
        assert set(names.UPSTREAM_REMOVED_HEADERS) <= set(given["request_headers_to_remove"])


def test_a_client_never_sees_what_runs_behind_the_gateway() -> None:
    change = HeaderChange(set=(("server", "ours"),), remove=("z",))
    for given in (client_facing(entry(rule(OPEN))), picked(entry(rule(CLOSED)))):
        assert given["response_headers_to_remove"] == ["server"]
    given = picked(entry(rule(CLOSED, response_headers=change)))
    assert given["response_headers_to_remove"] == ["server", "z"]
    assert given["response_headers_to_add"][0]["header"] == {"key": "server", "value": "ours"}
    assert "response_headers_to_remove" not in client_facing(entry(rule(SERVICE)))


def test_requests_that_nobody_serves_are_answered_before_any_route_leads_on() -> None:
    found = virtual_host(entry(rule(CLOSED)), entry(rule(SERVICE, name="s"), number=1))["routes"]
    leading_on = [i for i, route in enumerate(found) if route["match"] == {"prefix": "/"}]
    refused = {i: route for i, route in enumerate(found) if route["name"].startswith(names.REFUSED_ROUTE_PREFIX)}
    assert leading_on
    assert max(refused) < min(leading_on)
    assert [route["direct_response"]["status"] for route in refused.values()] == [403, 405, 400]
    assert all(disabled(route) for route in refused.values())


@pytest.mark.parametrize(
    ("authority", "refused"),
    [
        pytest.param("", False, id="none"),
        pytest.param("a-b.example_1:8080", False, id="name"),
        pytest.param("[::1%25lo]:80", False, id="ipv6"),
        pytest.param("a.example,b.example", True, id="two"),
        pytest.param("user@a.example", True, id="user"),
        pytest.param("a.example/b", True, id="path"),
        pytest.param("a.example b", True, id="blank"),
    ],
)
def test_a_host_that_is_none_or_more_than_one_is_refused(authority: str, refused: bool) -> None:
    found = virtual_host(entry(rule(CLOSED)))["routes"]
    match = next(route for route in found if route["name"] == names.REFUSED_ROUTE_PREFIX + "host")["match"]["headers"]
    assert match[0]["invert_match"] is True
    pattern = match[0]["string_match"]["safe_regex"]["regex"]
    assert (re.fullmatch(pattern, authority) is None) == refused


def test_control_paths_do_not_fail_open() -> None:
    given = entry(rule(OPEN), RouteMatch(path="/v1", headers=(ValueMatch("x", "1"),)))
    closed, opened = (route for route in routes(given) if route["name"] == given.name)
    assert closed["route"]["cluster"] == names.NO_DECISION_CLUSTER
    assert opened["route"]["weighted_clusters"]
    own_match, control = closed["match"].pop("headers")
    assert {**closed["match"], "headers": [own_match]} == opened["match"]
    assert control["name"] == ":path"
    for route_that_names_one in (
        RouteMatch(path="/v1/metrics"),
        RouteMatch(PathMatchType.REGEX, "/v1/(sleep|wake_up)"),
    ):
        named = entry(rule(OPEN), route_that_names_one)
        assert len([route for route in routes(named) if route["name"] == named.name]) == 1


@pytest.mark.parametrize(
    ("path", "controls"),
    [
        pytest.param("/sleep", True, id="plain"),
        pytest.param("/v1/load_lora_adapter?x=/y", True, id="query"),
        pytest.param("/a/b/metrics", True, id="prefix"),
        pytest.param("/v2/repository/index", True, id="below"),
        pytest.param("/v1%2Fsleep", True, id="escaped-slash"),
        pytest.param("/SLEEP/", True, id="capitals"),
        pytest.param("/sleep;a=b", True, id="parameter"),
        pytest.param("/sleep%20", True, id="escaped-blank"),
        pytest.param("/slots/0?action=save", True, id="number-below"),
        pytest.param("/v1/chat/completions", False, id="chat"),
        pytest.param("/v1/chat/completions?x=/sleep", False, id="in-the-query"),
        pytest.param("/asleep", False, id="longer-at-the-front"),
        pytest.param("/sleeping", False, id="longer-at-the-end"),
        pytest.param("/health", False, id="health"),
        pytest.param("/", False, id="root"),
    ],
)
def test_what_a_control_path_is_for_envoy_and_for_the_picker(path: str, controls: bool) -> None:
    assert (re.fullmatch(CONTROL_PATHS, path) is not None) == controls
    assert is_control_path(canonical_path(path)) == controls


def test_picked_routes_come_first_one_pair_per_rule() -> None:
    shared = rule(CLOSED)
    found = routes(entry(shared), entry(shared, RouteMatch(path="/b"), number=1), entry(rule(SERVICE, name="s")))
    assert [route["name"] for route in found] == [
        shared.name,
        shared.name + names.WHOLE_ANSWER_SUFFIX,
        f"{shared.name}/0",
        f"{shared.name}/1",
        "s/0",
    ]


def test_a_prefix_rewrite_gives_each_match_its_own_picked_route() -> None:
    shared = rule(CLOSED, rewrite=PathRewrite(prefix="/x"))
    found = routes(entry(shared, RouteMatch(path="/a")), entry(shared, RouteMatch(path="/b"), number=1))
    picked_names = [route["name"] for route in found if route["match"].get("headers")]
    assert picked_names == [f"{shared.name}/{n}{s}" for n in (0, 1) for s in ("", names.WHOLE_ANSWER_SUFFIX)]


def test_behind_an_entry_limited_to_models_every_rule_can_be_picked() -> None:
    limited = entry(rule(CLOSED, name="m"), models=frozenset({"a"}))
    behind = entry(rule(SERVICE, name="s"))
    assert "s" in [route["name"] for route in routes(limited, behind)]
    assert "s" not in [route["name"] for route in routes(behind, limited)]


def test_a_picked_route_dials_what_the_picker_names_and_retries_only_as_it_says() -> None:
    given = picked(entry(rule(CLOSED, request_timeout_seconds=1.5, backend_timeout_seconds=0.5)))
    assert given["match"]["headers"] == [
        {"name": names.ROUTE_HEADER, "string_match": {"exact": "httproute/default/r/0"}}
    ]
    action = given["route"]
    assert (action["cluster_header"], action["timeout"]) == (names.CLUSTER_HEADER, "1.5s")
    policy = action["retry_policy"]
    assert (policy["num_retries"], policy["per_try_timeout"], policy["per_try_idle_timeout"]) == (0, "0.5s", "120s")
    assert "accept-encoding" in given["request_headers_to_remove"]


def weighted(*backends: tuple[Any, int]) -> ResolvedRule:
    return ResolvedRule("w", tuple(ResolvedBackend(target, weight) for target, weight in backends))


REFUSED = {
    "cluster": names.NO_DECISION_CLUSTER,
    "cluster_not_found_response_code": "SERVICE_UNAVAILABLE",
    "idle_timeout": "30s",
}
BACKENDLESS = {
    "cluster": names.NO_BACKEND_CLUSTER,
    "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR",
    "idle_timeout": "30s",
}


@pytest.mark.parametrize(
    ("given", "action"),
    [
        pytest.param(entry(rule(CLOSED)), REFUSED, id="fail-close"),
        pytest.param(entry(rule(OPEN, CLOSED)), REFUSED, id="one-of-two-fails-close"),
        pytest.param(entry(weighted((OPEN, 0))), BACKENDLESS, id="no-weight-on-a-pool"),
    ],
)
def test_a_request_that_no_picker_answered_meets_a_cluster_that_does_not_exist(
    given: Any, action: dict[str, str]
) -> None:
    found = client_facing(given, max_body_bytes=1_000_000)
    assert found["route"] == action
    assert found["request_body_buffer_limit"] > 1_000_000  # else the picker would see no larger body


@pytest.mark.parametrize(
    ("changed", "idle"),
    [
        pytest.param({"request_timeout_seconds": 12.0}, "12s", id="never-longer-than-a-whole-request"),
        pytest.param({"message_timeout_seconds": 60.0}, "70s", id="long-enough-for-the-picker"),
    ],
)
def test_a_client_that_stops_sending_is_let_go(changed: dict[str, float], idle: str) -> None:
    given = client_facing(entry(rule(CLOSED)), **{"message_timeout_seconds": 1.0, **changed})
    assert given["route"]["idle_timeout"] == idle


@pytest.mark.parametrize(
    "given", [pytest.param(entry(rule()), id="no-backend"), pytest.param(entry(weighted((SERVICE, 0))), id="no-weight")]
)
def test_a_rule_without_backends_answers_500_by_itself(given: Any) -> None:
    found = client_facing(given)
    assert found["direct_response"] == {"status": 500}
    assert "route" not in found


def test_a_pool_that_fails_open_is_dialled_without_the_picker() -> None:
    given = client_facing(entry(rule(OPEN)))
    override = given["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["overrides"]
    assert set(override) == {"failure_mode_allow", "grpc_service"}
    assert override["failure_mode_allow"] is True
    assert "retry_policy" not in override["grpc_service"]  # it has another way and does not wait for the picker
    assert [c["name"] for c in given["route"]["weighted_clusters"]["clusters"]] == [
        OPEN.cluster_name + names.OPEN_SUFFIX
    ]


def test_a_fallback_shows_no_answers_to_a_picker_that_is_down() -> None:
    given = client_facing(entry(rule(OPEN)), usage=UsageSource.PICKER)
    override = given["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["overrides"]
    assert override["processing_mode"]["response_header_mode"] == "SKIP"


def test_pools_told_apart_by_the_body_do_not_fail_open_between_each_other() -> None:
    one = entry(rule(OPEN, name="a"), models=frozenset({"a"}))
    other = entry(rule(CLOSED, name="b"))
    found = {route["name"]: route for route in routes(one, other)}
    assert found["a/0"]["route"] == REFUSED
    alone = entry(rule(OPEN, name="a"), models=frozenset({"a"}))
    assert "weighted_clusters" in client_facing(alone)["route"]


def test_a_service_rule_splits_by_weight_and_an_invalid_reference_takes_its_share() -> None:
    change = HeaderChange(set=(("x", "1"),), remove=("y",))
    mixed = ResolvedRule(
        "w", (ResolvedBackend(SERVICE, 3, change), ResolvedBackend(None, 1), ResolvedBackend(SERVICE, 0))
    )
    given = client_facing(entry(mixed))
    clusters = given["route"]["weighted_clusters"]["clusters"]
    assert [(c["name"], c["weight"]) for c in clusters] == [
        (SERVICE.cluster_name, 3),
        (names.NO_BACKEND_CLUSTER, 1),
    ]
    assert clusters[0]["request_headers_to_remove"] == ["y"]
    assert given["route"]["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"
    assert disabled(given)


@pytest.mark.parametrize("hostname", ["*", "a.example.com", "*.example.com"])
def test_a_virtual_host_matches_its_name_on_any_port(hostname: str) -> None:
    assert virtual_host(entry(rule(CLOSED)), hostname=hostname)["domains"] == [hostname]
