"""What a request meets while the picker is alive, dead, hanging or not there yet; no header of a client ever steers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from envoy_config import names
from integration.model_servers import EchoServer, echo_server
from integration.resources import http_route, pool_with, rule, to_pool
from integration.standalone import Reply, StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

REQUESTS: list[Any] = [
    pytest.param("GET", None, id="get"),
    pytest.param("POST", chat("any"), id="small-post"),
    pytest.param("POST", chat("any", "x" * 3_000_000), id="large-post"),
]


@dataclass(slots=True)
class Site:
    gateway: StandaloneGateway
    open_servers: tuple[EchoServer, EchoServer]
    closed_server: EchoServer
    other_server: EchoServer
    picker: str = "alive"

    async def send(self, method: str, path: str, document: Any = None, **headers: str) -> Reply:
        if document is None:
            return await self.gateway.request(method, path, headers=headers)
        return await self.gateway.post(path, document, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        first, second, closed, other = [await stack.enter_async_context(echo_server()) for _ in range(4)]
        documents = [
            *pool_with("open", [first.port, second.port], failure_mode="FailOpen"),
            *pool_with("closed", [closed.port]),
            *pool_with("other", [other.port], failure_mode="FailOpen"),
            http_route("routes", *(rule(f"/{name}", to_pool(name)) for name in ("open", "closed", "other"))),
        ]
        gateway = StandaloneGateway(documents, "--message-timeout-seconds", "0.5")
        yield Site(await stack.enter_async_context(gateway), (first, second), closed, other)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["alive", "killed", "hung", "absent"])
async def site(running: Site, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """The gateway with its picker in one of four conditions, and healthy again afterwards."""
    gateway, running.picker = running.gateway, request.param
    match running.picker:
        case "killed":
            gateway.kill_picker()
        case "hung":
            gateway.stop_picker()
        case "absent":
            gateway.kill_picker()
            gateway.kill_envoy()
            (gateway.folder / names.PICKER_SOCKET).unlink()
            await gateway.start_envoy()
    yield running
    match running.picker:
        case "killed" | "absent":
            await gateway.restart_picker()
        case "hung":
            gateway.continue_picker()

    async def decides() -> bool:
        return (await gateway.get("/closed")).status == 200

    await eventually(decides)
    running.picker = "alive"


@pytest.mark.parametrize(("method", "document"), REQUESTS)
async def test_a_pool_that_fails_open_answers_whatever_the_picker_does(site: Site, method: str, document: Any) -> None:
    reply = await site.send(method, "/open/v1?a=b", document)
    assert reply.status == 200
    assert reply.json in [*site.open_servers[0].requests, *site.open_servers[1].requests]
    assert reply.json["path"] == "/open/v1?a=b"
    if document is not None:
        assert reply.json["bytes"] > len(document["messages"][0]["content"])


@pytest.mark.parametrize(("method", "document"), REQUESTS)
async def test_a_pool_that_fails_closed_answers_only_with_its_picker(site: Site, method: str, document: Any) -> None:
    served = len(site.closed_server.requests)
    reply = await site.send(method, "/closed/v1", document)
    if site.picker == "alive":
        assert reply.status == 200
        assert reply.json in site.closed_server.requests
        return
    assert reply.status == 503
    assert reply.error["code"] == "service_unavailable"
    assert int(reply.headers["Retry-After"]) >= 1
    assert len(site.closed_server.requests) == served


@pytest.mark.parametrize("owner", ["gateway", "llm-d"])
@pytest.mark.parametrize("name", ["destination-endpoint", "cluster", "route"])
async def test_a_header_of_a_client_leads_nowhere_else(site: Site, owner: str, name: str) -> None:
    values = {
        "destination-endpoint": f"127.0.0.1:{site.other_server.port}",
        "cluster": "default/other:v1",
        "route": "httproute/default/routes/2",
    }
    forged = {f"X-{owner}-{name}".title(): values[name]}
    async with asyncio.TaskGroup() as group:
        to_open = group.create_task(site.send("POST", "/open/x", chat("any"), **forged))
        to_closed = group.create_task(site.send("POST", "/closed/x", chat("any"), **forged))
    assert to_open.result().status == 200
    assert to_closed.result().status == (200 if site.picker == "alive" else 503)
    assert site.other_server.requests == []


@pytest.mark.parametrize("owner", ["gateway", "llm-d"])
async def test_a_header_of_a_client_does_not_choose_the_endpoint(site: Site, owner: str) -> None:
    for server in site.open_servers:
        server.requests.clear()
    wanted = {f"x-{owner}-destination-endpoint": f"127.0.0.1:{site.open_servers[0].port}"}
    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(site.send("GET", "/open", **wanted))
    counts = [len(server.requests) for server in site.open_servers]
    assert sum(counts) == 16
    assert 0 not in counts


async def test_internal_headers_reach_neither_model_server_nor_client(site: Site) -> None:
    hints = {
        f"x-{owner}-{name}": "1"
        for owner in ("gateway", "llm-d")
        for name in (
            *("route", "cluster", "destination-endpoint", "destination-endpoint-served", "model-name"),
            *("destination-endpoint-subset", "base-model-name", "model-name-rewrite"),
            *("inference-objective", "inference-fairness-id"),
        )
    }
    reply = await site.send("POST", "/open/x", chat("any"), **hints)
    assert reply.status == 200
    internal = ("x-gateway-", "x-llm-d-", "x-envoy-")
    assert [name for name in reply.json["headers"] if name.startswith(internal)] == []
    shown = {name.lower() for name in reply.headers if name.lower().startswith(internal)}
    assert shown <= {"x-gateway-model-name"}
