"""A request reaches what its route and its model name say, changed as the rule says, and nothing else."""

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.model_servers import EchoServer, echo_server
from integration.resources import (
    Document,
    http_route,
    inference_model,
    pool_with,
    rule,
    service,
    to_pool,
    to_service,
)
from integration.standalone import Reply, StandaloneGateway, chat

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

FALL = {"Host": "fall.example"}


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    model_server: SimulatedServer
    echo: EchoServer
    web: EchoServer

    def served_by_pool(self, reply: Reply) -> dict[str, Any]:
        return self._only(self.echo, self.web, reply)

    def served_by_service(self, reply: Reply) -> dict[str, Any]:
        return self._only(self.web, self.echo, reply)

    @staticmethod
    def _only(server: EchoServer, other: EchoServer, reply: Reply) -> dict[str, Any]:
        assert reply.status == 200, reply
        facts = dict(reply.json)
        assert facts in server.requests
        assert facts not in other.requests
        return facts


def _changed(name: str, **values: Any) -> Document:
    """A filter of a rule: its field is its type with a small beginning."""
    return {"type": name, {"URLRewrite": "urlRewrite"}.get(name, name[0].lower() + name[1:]): values}


def _headers(**values: str) -> list[Document]:
    return [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]


def _documents(model_server: int, echo: int, web: int) -> list[Document]:
    pool, site = to_pool("echo"), to_service("web")
    prefix_rewrite = _changed("URLRewrite", path={"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"})
    full_rewrite = _changed(
        "URLRewrite", hostname="inner.example", path={"type": "ReplaceFullPath", "replaceFullPath": "/whole"}
    )
    changes = [
        _changed("RequestHeaderModifier", set=_headers(x_set="1"), add=_headers(x_add="2"), remove=["x-remove"]),
        _changed("ResponseHeaderModifier", set=_headers(x_answer="3"), remove=["x-echo"]),
    ]
    redirect = _changed("RequestRedirect", hostname="other.example", scheme="https", statusCode=301)
    by_team = [
        rule("/team", pool | {"filters": [_changed("RequestHeaderModifier", set=_headers(x_team="red"))]}, model="red"),
        rule(
            "/team", pool | {"filters": [_changed("RequestHeaderModifier", set=_headers(x_team="blue"))]}, model="blue"
        ),
    ]
    return [
        *pool_with("main", [model_server]),
        *pool_with("echo", [echo]),
        *service("web", [web]),
        inference_model("plain", pool="main", targetModels=[{"name": "base-1"}]),
        inference_model(
            "weighted",
            pool="main",
            targetModels=[{"name": "base-1", "weight": 1}, {"name": "base-2", "weight": 3}],
        ),
        inference_model("adapted", pool="main", targetModels=[{"name": "adapter-1"}]),
        inference_model("slashed", pool="main", model_name="org/name", targetModels=[{"name": "base-1"}]),
        http_route(
            "paths",
            rule("/pool", pool),
            rule("/web", site),
            rule("/pool-prefix", pool, filters=[prefix_rewrite]),
            rule("/web-prefix", site, filters=[prefix_rewrite]),
            rule("/pool-full", pool, filters=[full_rewrite]),
            rule("/web-full", site, filters=[full_rewrite]),
            rule("/pool-headers", pool, filters=changes),
            rule("/web-headers", site, filters=changes),
            rule("/pool-timeout", pool, timeouts={"request": "300ms"}),
            rule("/web-timeout", site, timeouts={"request": "300ms"}),
            rule("/redirect", filters=[redirect]),
            rule("/secure", filters=[_changed("RequestRedirect", scheme="https", statusCode=301)]),
            rule("/nowhere"),
            rule("/absent", to_service("absent")),
        ),
        http_route("teams", *by_team),
        http_route("fall-models", rule("/", to_pool("main"), model="plain"), hostnames=["fall.example"]),
        http_route(
            "fall-general",
            rule("/", pool),
            rule("/", site, headers=[{"name": "x-web", "value": "1"}]),
            hostnames=["fall.example"],
        ),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    settings = SimulatorSettings(models=("base-1", "base-2"), adapters=("adapter-1",))
    async with AsyncExitStack() as stack:
        model_server = await stack.enter_async_context(SimulatedServer(settings))
        echo = await stack.enter_async_context(echo_server())
        web = await stack.enter_async_context(echo_server())
        documents = _documents(model_server.port, echo.port, web.port)
        gateway = await stack.enter_async_context(StandaloneGateway(documents))
        yield Site(gateway, model_server, echo, web)


# -- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "served"),
    [
        pytest.param("plain", "base-1", id="model"),
        pytest.param("adapted", "adapter-1", id="adapter"),
        pytest.param("org/name", "base-1", id="name-with-slash"),
    ],
)
async def test_the_model_server_is_asked_for_the_target_and_the_client_told_what_it_asked_for(
    site: Site, model: str, served: str
) -> None:
    reply = await site.gateway.chat(model)
    assert reply.status == 200
    assert reply.json["model"] == served
    assert reply.headers["x-gateway-model-name"] == model


async def test_targets_are_drawn_by_weight(site: Site) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(site.gateway.chat("weighted")) for _ in range(80)]
    served = Counter(task.result().json["model"] for task in tasks)
    assert set(served) == {"base-1", "base-2"}
    assert 5 < served["base-1"] < 40  # 20 expected, over three standard deviations either way


async def test_an_unknown_model_is_refused_with_the_names_of_the_known(site: Site) -> None:
    reply = await site.gateway.chat("unheard-of")
    assert reply.status == 404
    assert reply.error["code"] == "model_not_found"
    assert reply.error["param"] == "model"
    assert "unheard-of" in reply.error["message"]
    for known in ("adapted", "org/name", "plain", "weighted"):
        assert known in reply.error["message"]


async def test_models_are_listed_for_the_whole_host(site: Site) -> None:
    reply = await site.gateway.get("/v1/models")
    assert reply.status == 200
    assert {"adapted", "org/name", "plain", "weighted"} <= {model["id"] for model in reply.json["data"]}
    assert {model["object"] for model in reply.json["data"]} == {"model"}


@pytest.mark.parametrize("path", ["/v1/models/org/name", "/v1/models/org%2Fname"], ids=["plain", "escaped"])
async def test_one_model_is_described_also_with_a_slash_in_its_name(site: Site, path: str) -> None:
    reply = await site.gateway.get(path)
    assert reply.status == 200
    assert reply.json["id"] == "org/name"


async def test_a_model_that_is_not_served_is_not_described(site: Site) -> None:
    reply = await site.gateway.get("/v1/models/unheard-of")
    assert reply.status == 404
    assert reply.error["code"] == "model_not_found"


# -- routes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "body"),
    [
        pytest.param("POST", chat("anything"), id="post"),
        pytest.param("GET", None, id="get-without-body"),
        pytest.param("DELETE", None, id="delete-without-body"),
    ],
)
async def test_a_path_leads_to_its_pool_by_way_of_the_picker(site: Site, method: str, body: Any) -> None:
    request_id = f"pool-{method}"
    reply = await site.gateway.request(
        method, "/pool/a%2Fb?q=1&q=%202", json=body, headers={"x-request-id": request_id}
    )
    facts = site.served_by_pool(reply)
    assert (facts["method"], facts["path"]) == (method, "/pool/a%2Fb?q=1&q=%202")
    entry = await site.gateway.completed(request_id)
    assert entry["endpoint"] == f"127.0.0.1:{site.echo.port}"
    assert entry["pool"] == "default/echo:v1"
    assert reply.headers["x-request-id"] == request_id


async def test_a_path_leads_to_its_service_with_the_query_as_it_was(site: Site) -> None:
    facts = site.served_by_service(await site.gateway.get("/web/x?a=b%20c&d"))
    assert facts["path"] == "/web/x?a=b%20c&d"


async def test_an_upload_to_a_service_may_be_larger_than_a_prompt(site: Site) -> None:
    size = 40 * 1024 * 1024
    facts = site.served_by_service(await site.gateway.request("POST", "/web/upload", data=io.BytesIO(bytes(size))))
    assert facts["bytes"] == size


async def test_a_websocket_passes_to_a_service(site: Site) -> None:
    async with asyncio.timeout(5), site.gateway.session.ws_connect(f"{site.gateway.base_url}/web/socket") as socket:
        await socket.send_str("one")
        assert await socket.receive_str() == "one"
        await socket.send_str("two")
        assert await socket.receive_str() == "two"


@pytest.mark.parametrize("team", ["red", "blue"])
async def test_rules_that_differ_by_model_alone_keep_their_own_backends(site: Site, team: str) -> None:
    facts = site.served_by_pool(await site.gateway.post("/team/chat/completions", chat(team)))
    assert facts["headers"]["x-team"] == team


async def test_a_model_that_no_rule_names_falls_through_to_a_shorter_path(site: Site) -> None:
    reply = await site.gateway.post("/team/v1/chat/completions", chat("plain"))
    assert reply.status == 404  # by the model server, which has no such path
    assert reply.headers["x-simulated-server"] == site.model_server.settings.name


async def test_a_limited_rule_takes_its_model(site: Site) -> None:
    reply = await site.gateway.chat("plain", headers=FALL)
    assert reply.json["model"] == "base-1"


async def test_another_model_falls_through_to_the_general_rule_of_a_pool(site: Site) -> None:
    site.served_by_pool(await site.gateway.chat("other", headers=FALL))


async def test_a_match_that_is_more_specific_goes_before_a_model(site: Site) -> None:
    site.served_by_service(await site.gateway.chat("other", headers={**FALL, "x-web": "1"}))


async def test_a_request_without_a_route_is_told_so_in_the_form_of_the_api(site: Site) -> None:
    reply = await site.gateway.get("/no/such/path")
    assert reply.status == 404
    assert reply.error["code"] == "not_found"


@pytest.mark.parametrize("path", ["/nowhere", "/absent"], ids=["no-backend", "backend-that-does-not-exist"])
async def test_a_rule_without_a_usable_backend_answers_500(site: Site, path: str) -> None:
    reply = await site.gateway.get(path)
    assert reply.status == 500
    assert reply.error["type"] == "server_error"


# -- what rules change -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pool", "web"])
@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        pytest.param("-prefix/a/b?c=d", "/new/a/b?c=d", id="prefix"),
        pytest.param("-prefix?c=d", "/new?c=d", id="prefix-alone"),
        pytest.param("-full/a?c=d", "/whole?c=d", id="full"),
    ],
)
async def test_a_path_is_rewritten(site: Site, kind: str, path: str, arrives: str) -> None:
    reply = await site.gateway.post(f"/{kind}{path}", chat("any"))
    facts = site.served_by_pool(reply) if kind == "pool" else site.served_by_service(reply)
    assert facts["path"] == arrives
    if "full" in path:
        assert facts["headers"]["host"] == "inner.example"


@pytest.mark.parametrize("kind", ["pool", "web"])
async def test_headers_are_set_added_and_removed(site: Site, kind: str) -> None:
    sent = {"x-set": "client", "x-add": "1", "x-remove": "1"}
    reply = await site.gateway.post(f"/{kind}-headers", chat("any"), headers=sent)
    facts = site.served_by_pool(reply) if kind == "pool" else site.served_by_service(reply)
    assert facts["headers"]["x-set"] == "1"
    assert facts["headers"]["x-add"].replace(" ", "") == "1,2"
    assert "x-remove" not in facts["headers"]
    assert reply.headers["x-answer"] == "3"
    assert "x-echo" not in reply.headers


@pytest.mark.parametrize("kind", ["pool", "web"])
async def test_a_rule_ends_a_request_that_takes_too_long(site: Site, kind: str) -> None:
    server = site.echo if kind == "pool" else site.web
    server.delay_seconds = 2.0
    try:
        reply = await site.gateway.post(f"/{kind}-timeout", chat("any"))
    finally:
        server.delay_seconds = 0.0
    assert reply.status == 504
    assert reply.error["code"] == "gateway_timeout"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        pytest.param("/redirect/here?a=b", "https://other.example/redirect/here?a=b", id="host-and-scheme"),
        pytest.param("/secure/here?a=b", "https://127.0.0.1:443/secure/here?a=b", id="scheme-alone"),
    ],
)
async def test_a_rule_redirects(site: Site, path: str, location: str) -> None:
    reply = await site.gateway.get(path)
    assert reply.status == 301
    assert reply.headers["Location"] == location
