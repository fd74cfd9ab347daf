"""Many clients that hold what they have got cost the gateway a bounded amount, and others a clear refusal at most."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest
import pytest_asyncio

from integration.hostile_site import CHAT, Site, hostile_site
from integration.raw_clients import RawClient, raw_client
from integration.standalone import eventually
from integration.wire import Answer, request
from integration.wire_http2 import PREFACE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

MIB = 1024 * 1024
HEAP = 96 * MIB
CONNECTIONS = 150
UPLOAD = request(b"POST /v1/chat/completions HTTP/1.1", b"content-length: 30000000")
PIECE = b"x" * (256 * 1024)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    limits = ("--envoy-max-heap-bytes", str(HEAP), "--max-connections", str(CONNECTIONS))
    async with hostile_site(*limits) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> Site:
    """The site once all earlier clients have gone."""

    async def quiet() -> bool:
        return await running.gateway.envoy_stat("http.gateway.downstream_cx_active") == 0

    await eventually(quiet, seconds=20, what="clients stayed")
    return running


async def clients(stack: AsyncExitStack, site: Site, count: int) -> list[RawClient]:
    return [await stack.enter_async_context(raw_client(site.gateway.port)) for _ in range(count)]


async def upload(client: RawClient, mebibytes: int) -> None:
    """Send part of a body that never ends, as far as the gateway takes it."""
    client.send(UPLOAD)
    with suppress(ConnectionError, TimeoutError):
        for _ in range(4 * mebibytes):
            client.send(PIECE)
            async with asyncio.timeout(5):
                await client.writer.drain()


async def serves_again(site: Site) -> None:
    async def served() -> Answer | None:
        answer = await site.send(request(body=CHAT))
        return answer if answer.status == 200 else None

    await eventually(served, seconds=20, what="the gateway did not recover")
    await site.still_serves()


async def test_unfinished_uploads_are_cut_before_they_take_all_memory(site: Site) -> None:
    before = site.received
    async with AsyncExitStack() as stack:
        held = await clients(stack, site, 40)
        async with asyncio.TaskGroup() as group:
            for client in held:
                group.create_task(upload(client, 8))

        async def under_pressure() -> int:
            shed = "overload.envoy.load_shed_points.http1_server_abort_dispatch.shed_load_count"
            return await site.gateway.envoy_stat(shed)

        await eventually(under_pressure, what="no upload was cut")
        assert site.gateway.resident_bytes("envoy") < 4 * HEAP  # 320 MiB were sent, besides what Envoy is itself
        assert site.received == before
    await serves_again(site)


async def test_a_request_that_comes_when_memory_is_short_is_told_to_come_later(site: Site) -> None:
    async with AsyncExitStack() as stack:
        held = await clients(stack, site, 60)
        refused: list[Answer] = []

        async def fill_until_refused() -> list[Answer]:
            async with asyncio.TaskGroup() as group:
                for client in held:
                    group.create_task(upload(client, 2))
            answer = await site.send(request(body=CHAT))
            refused.extend([answer] * (answer.status not in {0, 200}))
            held[:] = await clients(stack, site, 20) if not refused else held
            return refused

        await eventually(fill_until_refused, seconds=60, what="nothing was ever refused")
        (answer,) = refused
        assert (answer.status, answer.error["code"]) == (503, "service_unavailable")
        assert answer.headers["retry-after"] == "1"
    await serves_again(site)


async def test_idle_connections_are_bounded_and_others_refused_at_once(site: Site) -> None:
    async with AsyncExitStack() as stack:
        idle = await clients(stack, site, CONNECTIONS + 50)

        async def refused() -> bool:
            return await site.gateway.envoy_stat("http.gateway.downstream_cx_active") == CONNECTIONS

        await eventually(refused, what="the limit was not reached")
        answer = await site.send(request(body=CHAT))
        assert answer.status == 0  # closed at once: nobody is left to wait
        for client in idle[:10]:
            client.leave()
        await serves_again(site)


async def test_idle_http_2_connections_and_half_heads_count_like_all(site: Site) -> None:
    async with AsyncExitStack() as stack:
        for number, client in enumerate(await clients(stack, site, CONNECTIONS - 10)):
            client.send(PREFACE if number % 2 else b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ")
            await client.writer.drain()
        await site.still_serves()
        assert site.gateway.resident_bytes("envoy") < 4 * HEAP
    await serves_again(site)
