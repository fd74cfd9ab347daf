"""A client that leaves, dawdles or floods costs the gateway little, and its model server and all others nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from integration.faulty_servers import (
    LAST_CHUNK,
    STREAM_HEAD,
    FaultyServer,
    answers,
    chunk,
    faulty_server,
    hangs_after,
    head,
    json_head,
)
from integration.model_servers import DONE, chat_event, usage_event
from integration.raw_clients import chat_head, chat_request, http2_client, raw_client
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

PATIENCE_SECONDS = 3
ANSWER = json.dumps(
    {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}}
).encode()
STREAM = (
    *(STREAM_HEAD, chunk(chat_event("one"))),
    *(chunk(usage_event(prompt=11, completion=2)), chunk(DONE), LAST_CHUNK),
)
LONG = (head("content-type: text/event-stream", "transfer-encoding: chunked"), *[chunk(chat_event("x" * 50_000))] * 240)
"""A stream of 12 MB, more than sockets hold."""


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    servers: dict[str, FaultyServer]

    async def reached(self, name: str, count: int = 1) -> None:
        """Wait until so many requests are at a server."""

        async def are_there() -> bool:
            return self.servers[name].open == count

        await eventually(are_there, what=f"the requests did not reach {name}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    scripts = {
        "whole": answers(json_head(len(ANSWER)) + ANSWER),
        "stream": answers(*STREAM),
        "silent": hangs_after(),
        "begun": hangs_after(*STREAM[:2]),
        "long": answers(*LONG, LAST_CHUNK),
    }
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(faulty_server(script)) for name, script in scripts.items()}
        documents = []
        for name, server in servers.items():
            documents += [*pool_with(name, [server.port]), inference_model(name, pool=name)]
        gateway = StandaloneGateway(documents, "--request-timeout-seconds", str(PATIENCE_SECONDS))
        yield Site(await stack.enter_async_context(gateway), servers)


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    """The gateway; whatever a test did, nothing may be left of it, and it must still serve."""
    yield running

    async def told() -> bool:
        return not any(server.open for server in running.servers.values())

    await eventually(told, what="a model server was not told that its client is gone")
    await running.gateway.quiet()
    assert (await running.gateway.chat("whole")).status == 200


async def test_a_client_that_leaves_before_the_decision_leaves_nothing(site: Site) -> None:
    served = len(site.servers["whole"].bodies)

    async def all_wait() -> bool:
        return await site.gateway.envoy_stat("http.gateway.downstream_rq_active") == 5

    async def none_waits() -> bool:
        return await site.gateway.envoy_stat("http.gateway.downstream_rq_active") == 0

    site.gateway.stop_picker()
    try:
        async with AsyncExitStack() as stack:
            for _ in range(5):
                client = await stack.enter_async_context(raw_client(site.gateway.port))
                client.send(chat_request("whole"))
            await eventually(all_wait)
        await eventually(none_waits)
    finally:
        site.gateway.continue_picker()
    await site.gateway.quiet()
    assert len(site.servers["whole"].bodies) == served


@pytest.mark.parametrize("name", ["silent", "begun"], ids=["before-the-first-byte", "in-the-answer"])
async def test_a_client_that_leaves_takes_its_request_away_from_the_model_server(site: Site, name: str) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(site.gateway.port)) for _ in range(10)]
        for client in clients:
            client.send(chat_request(name, stream=True))
        if name == "begun":
            for client in clients:
                await client.reader.readuntil(b"one")
        await site.reached(name, 10)
        assert await site.gateway.in_flight() == 10


@pytest.mark.parametrize("fields", [(), ("connection: close",)], ids=["keep-alive", "close"])
@pytest.mark.parametrize(("name", "end"), [("whole", ANSWER), ("stream", DONE)], ids=["whole", "stream"])
async def test_a_client_that_leaves_at_the_last_byte_has_its_usage_counted(
    site: Site, name: str, end: bytes, fields: tuple[str, ...]
) -> None:
    ids = [f"{name}-{len(fields)}-{number}" for number in range(20)]

    async def ask(request_id: str) -> None:
        async with raw_client(site.gateway.port) as client:
            document = {"stream": True, "stream_options": {"include_usage": True}} if name == "stream" else {}
            client.send(chat_request(name, f"x-request-id: {request_id}", *fields, **document))
            await client.reader.readuntil(end)

    async with asyncio.TaskGroup() as group:
        for request_id in ids:
            group.create_task(ask(request_id))
    for request_id in ids:
        assert (await site.gateway.completed(request_id))["completion_tokens"] == 2


@pytest.mark.parametrize("name", ["silent", "begun"], ids=["before-the-first-byte", "in-the-answer"])
async def test_a_client_that_closes_its_half_counts_as_gone(site: Site, name: str) -> None:
    async with raw_client(site.gateway.port) as client:
        client.send(chat_request(name, stream=True))
        await site.reached(name)
        client.half_close()
        assert LAST_CHUNK not in await client.rest()  # the connection ends, and does not leave the client waiting


async def test_a_client_that_closes_its_half_in_the_body_is_not_served(site: Site) -> None:
    served = len(site.servers["whole"].bodies)
    async with raw_client(site.gateway.port) as client:
        client.send(chat_request("whole")[:-5])
        client.half_close()
        assert await client.rest() == b""
    assert len(site.servers["whole"].bodies) == served


async def test_requests_in_one_packet_are_answered_in_their_order(site: Site) -> None:
    async with raw_client(site.gateway.port) as client:
        client.send(b"".join(chat_request(name) for name in ("whole", "unknown", "whole", "unknown", "whole")))
        assert [(await client.answer())[0] for _ in range(5)] == [200, 404, 200, 404, 200]


async def test_a_slow_reader_slows_its_model_server_and_nobody_else(site: Site) -> None:
    readers = 8
    before = {name: site.gateway.resident_bytes(name) for name in ("envoy", "picker")}
    async with AsyncExitStack() as stack:
        sizes = [4096] * (readers - 1) + [0]
        clients = [
            await stack.enter_async_context(raw_client(site.gateway.port, receive_buffer=size)) for size in sizes
        ]
        for client in clients:
            client.send(chat_request("long", stream=True))
        for _ in range(20):  # a kilobyte at a time; in between others are served
            for client in clients:
                await client.reader.readexactly(1000)
            assert (await site.gateway.chat("whole")).status == 200
        grown = {name: site.gateway.resident_bytes(name) - size for name, size in before.items()}
        assert site.servers["long"].open == readers, "a model server got rid of an answer that nobody had read"
        assert grown["envoy"] < readers * 3_000_000
        assert grown["picker"] < 8_000_000
        end = b""
        while not end.endswith(LAST_CHUNK):  # whoever reads on gets it all
            end = end[-5:] + await clients[-1].reader.read(65_536)


async def test_a_client_that_sends_too_slowly_is_told_so(site: Site) -> None:
    head_only, begun = chat_head(1000), chat_head(1000) + b'\r\n{"model":'
    slow = {
        "headers-stall": (head_only, b""),
        "headers-drip": (head_only, b"x: 1\r\n"),
        "body-stalls": (begun, b""),
        "body-drips": (begun, b" "),
    }
    ends: dict[str, set[bytes]] = {name: set() for name in slow}

    async def send(name: str, start: bytes, drip: bytes) -> None:
        async with raw_client(site.gateway.port) as client, asyncio.TaskGroup() as group:
            client.send(start)

            async def drips() -> None:
                while drip:
                    await asyncio.sleep(0.2)
                    client.send(drip)

            dripping = group.create_task(drips())
            ends[name].add((await client.rest())[:12])
            dripping.cancel()

    async with asyncio.timeout(PATIENCE_SECONDS + 20), asyncio.TaskGroup() as group:
        for name, (start, drip) in slow.items():
            for _ in range(25):
                group.create_task(send(name, start, drip))
        await asyncio.sleep(1)
        assert (await site.gateway.chat("whole")).status == 200
    too_slow = b"HTTP/1.1 408"
    assert ends["headers-stall"] == ends["body-stalls"] == {too_slow}
    # what arrives after the end resets the connection, and with it an answer that was not read yet
    assert ends["headers-drip"] | ends["body-drips"] <= {too_slow, b""}


async def test_one_http_2_connection_carries_many_requests(site: Site) -> None:
    async with http2_client(site.gateway.port) as client:
        streams = {client.ask("whole") for _ in range(90)}
        await client.flush()
        while client.ended != streams:
            await client.receive()
            assert not client.closed
        assert set(client.statuses.values()) == {200}


async def test_http_2_streams_that_nobody_reads_are_held_no_further_than_their_buffers(site: Site) -> None:
    streams = 30
    before = site.gateway.resident_bytes("envoy")
    async with http2_client(site.gateway.port) as client:
        for _ in range(streams):
            client.ask("long")
        await client.flush()
        await site.reached("long", streams)
        grown = 0
        for _ in range(20):
            assert (await site.gateway.chat("whole")).status == 200
            grown = max(grown, site.gateway.resident_bytes("envoy") - before)
        assert site.servers["long"].open == streams
        assert grown < streams * 3_000_000


@pytest.mark.parametrize("name", ["whole", "silent"])
async def test_a_flood_of_cancelled_http_2_requests_ends_the_connection(site: Site, name: str) -> None:
    floods = await site.gateway.envoy_stat("http.gateway.downstream_rq_too_many_premature_resets")
    async with http2_client(site.gateway.port) as client:
        sent = 0
        while not client.closed:
            assert sent < 20_000, "the flood was not stopped"
            for _ in range(50):
                client.cancel(client.ask(name))
            sent += 50
            await client.flush()
            await asyncio.sleep(0)
    assert (await site.gateway.chat("whole")).status == 200
    assert await site.gateway.envoy_stat("http.gateway.downstream_rq_too_many_premature_resets") == floods + 1
