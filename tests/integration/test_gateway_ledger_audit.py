"""Whatever dies or leaves, the in-flight counts soon equal what the model servers have, and end at zero."""

import asyncio
import json
import random
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio

from integration.model_servers import HeldServer, held_server
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

STREAMS = 500
SERVERS = 5
FILES = 4096
"""Each stream needs two open files here and two in Envoy, which inherits the limit."""
DONE = b"data: [DONE]\n\n"
HELD_UP_SECONDS = 1.5
"""Longer than a request may take to be dispatched, and its end to be reported."""
Stream = asyncio.Task[bytes]


@pytest.fixture(scope="module")
def open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway with the default limits before servers whose streams stay open."""

    gateway: StandaloneGateway
    servers: list[HeldServer]
    clients: aiohttp.ClientSession

    async def open_streams(self, group: asyncio.TaskGroup, number: int) -> list[Stream]:
        """Open streams and wait until each has begun."""
        begun = asyncio.Semaphore(0)
        streams = [group.create_task(self._stream(begun)) for _ in range(number)]
        for _ in range(number):
            await begun.acquire()
        return streams

    async def _stream(self, begun: asyncio.Semaphore) -> bytes:
        """The bytes of one stream; those of a broken one end early."""
        url = f"{self.gateway.base_url}/v1/chat/completions"
        received = b""
        try:
            async with self.clients.post(url, json=chat("model", stream=True)) as response:
                assert response.status == 200
                received += await response.content.readany()
                begun.release()
                received += await response.content.read()
        except aiohttp.ClientError:
            pass
        return received

    def finish(self) -> None:
        """Let every open stream go on to its end."""
        for server in self.servers:
            server.release.set()

    @property
    def truth(self) -> dict[str, int]:
        return {f"127.0.0.1:{server.port}": server.open for server in self.servers}

    async def in_flight(self) -> dict[str, int]:
        (pool,) = (await self.gateway.debug_state())["pools"]
        return {endpoint["address"]: endpoint["in_flight"] for endpoint in pool["endpoints"]}

    async def equal(self) -> bool:
        return await self.in_flight() == self.truth

    async def idle(self) -> bool:
        """Nothing in flight anywhere, and nothing that an audit would have to say about it."""
        names = ("inference_gateway_ledger_drift_requests", "inference_gateway_ledger_correction_requests")
        return (
            set(self.truth.values()) == {0}
            and await self.equal()
            and await self.gateway.in_flight() == 0
            and await self.gateway.metric("inference_objective_running_requests") == 0
            and [await self.gateway.metric(name) for name in names] == [0, 0]
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(open_files: None) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(held_server()) for _ in range(SERVERS)]
        documents = [*pool_with("held", [s.port for s in servers]), inference_model("model", pool="held")]
        gateway = await stack.enter_async_context(StandaloneGateway(documents))
        clients = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        yield Site(gateway, servers, await stack.enter_async_context(clients))


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    for server in running.servers:
        server.release.clear()
    yield running
    running.finish()


def leave(streams: list[Stream]) -> None:
    """Let clients leave in the middle of their answers."""
    for stream in streams:
        stream.cancel()


async def test_counts_are_right_within_a_second_of_the_restart_of_a_picker_killed_under_streams(site: Site) -> None:
    async with asyncio.TaskGroup() as group:
        old = await site.open_streams(group, STREAMS)
        assert await site.equal()
        site.gateway.kill_picker()
        await site.gateway.start_picker()
        ready = time.monotonic()
        await eventually(site.equal, what="the counts never equalled the truth")
        seconds = time.monotonic() - ready
        assert sum(site.truth.values()) == STREAMS
        assert seconds < 1.0
        adopted = await site.gateway.metric("inference_gateway_ledger_corrected_requests_total", direction="adopted")
        assert adopted == STREAMS

        # new work counts beside the old
        new = await site.open_streams(group, 20)
        assert await site.equal()

        # half of the old streams end because their clients leave, the others as they should
        leave(old[::2])

        async def left() -> bool:
            return sum(site.truth.values()) == STREAMS / 2 + 20 and await site.equal()

        await eventually(left, what="streams that were left stayed in flight")
        site.finish()
        for stream in (*old[1::2], *new):
            assert (await stream).endswith(DONE)
        await eventually(site.idle, what="something stayed in flight")


async def test_what_a_dead_envoy_never_reported_is_gone_long_before_the_time_limit(site: Site) -> None:
    async with asyncio.TaskGroup() as group:
        await site.open_streams(group, 20)
        assert await site.equal()
        site.gateway.kill_envoy()
    await site.gateway.start_envoy()
    await eventually(site.idle, seconds=30, what="the requests of the dead Envoy stayed in flight")
    assert await site.gateway.metric("inference_gateway_ledger_expired_total") == 0


async def test_a_picker_that_was_held_up_takes_nothing_for_lost_and_ends_at_zero(site: Site) -> None:
    async with asyncio.TaskGroup() as group:
        streams = await site.open_streams(group, 40)
        before = await site.gateway.metric("inference_gateway_ledger_corrected_requests_total")
        site.gateway.stop_picker()
        leave(streams[::2])
        await asyncio.sleep(HELD_UP_SECONDS)
        site.gateway.continue_picker()
        await eventually(site.equal, what="the counts did not follow")
        assert sum(site.truth.values()) == 20
        assert await site.gateway.metric("inference_gateway_ledger_corrected_requests_total") == before
        site.finish()
        for stream in streams[1::2]:
            assert (await stream).endswith(DONE)
    await eventually(site.idle, what="something stayed in flight")


@pytest.mark.parametrize("request_id", ["always-the-same", "not safe"])
async def test_clients_that_leave_while_they_are_decided_leave_nothing(site: Site, request_id: str) -> None:
    """Neither id joins what Envoy reports to a decision."""
    body = json.dumps(chat("model", stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-request-id: {request_id}\r\n"
    message = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    chance = random.Random(7)

    async def send() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
        writer.write(message)
        return reader, writer

    async def leave_after(seconds: float) -> None:
        _, writer = await send()
        await asyncio.sleep(seconds)
        writer.transport.abort()

    async def begins() -> float:
        """How long an answer takes to begin, here and now."""
        sent = time.monotonic()
        reader, writer = await send()
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        return time.monotonic() - sent

    def decided_in_vain() -> int:
        """Requests whose decision did not reach Envoy before their client left."""
        ends = (e for e in site.gateway.log_entries() if e["message"] == "request completed")
        return sum(bool(e["pool"] and not e["attempts"] and e.get("client_gone")) for e in ends)

    before = decided_in_vain()

    async def met() -> bool:
        at_most = 2 * await begins()
        for _ in range(20):
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(leave_after(chance.uniform(0, at_most)))
        return decided_in_vain() >= before + 2

    await eventually(met, seconds=40, what="no client left at the moment in question")
    await eventually(site.idle, seconds=30, what="clients that left stayed in flight")
