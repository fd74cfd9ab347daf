"""Uploads that hold more than Envoy may are cut before its memory is gone, and others are served again at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import openai
import pytest
import pytest_asyncio

from integration.faulty_servers import answers, faulty_server, json_head
from integration.raw_clients import chat_head, raw_client
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

HEAP_BYTES = 64 << 20
PATIENCE_SECONDS = 3
UPLOADS = 24
UPLOAD_BYTES = 10_000_000
PIECE_BYTES = 500_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[StandaloneGateway]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(faulty_server(answers(json_head(2) + b"{}")))
        documents = [*pool_with("pool", [server.port]), inference_model("model", pool="pool")]
        limits = ("--envoy-max-heap-bytes", str(HEAP_BYTES), "--request-timeout-seconds", str(PATIENCE_SECONDS))
        yield await stack.enter_async_context(StandaloneGateway(documents, *limits))


async def test_uploads_that_stop_before_their_end_take_no_more_than_the_heap(gateway: StandaloneGateway) -> None:
    before = gateway.resident_bytes("envoy")
    ends: list[bytes] = []

    async def upload() -> None:
        async with raw_client(gateway.port) as client:
            client.send(chat_head(UPLOAD_BYTES) + b'\r\n{"model":"model","x":"')
            for _ in range((UPLOAD_BYTES - 1000) // PIECE_BYTES):
                if client.writer.transport.is_closing():
                    break
                client.send(b"x" * PIECE_BYTES)
                await asyncio.sleep(0.05)
            ends.append(await client.rest())

    grown = 0
    async with asyncio.TaskGroup() as group:
        for _ in range(UPLOADS):
            group.create_task(upload())
        while len(ends) < UPLOADS:
            grown = max(grown, gateway.resident_bytes("envoy") - before)
            await asyncio.sleep(0.05)
    assert grown < 2 * HEAP_BYTES < UPLOADS * UPLOAD_BYTES
    # cut while they sent, which may reset the connection, or let go when they had stopped
    assert {end[:12] for end in ends} <= {b"", b"HTTP/1.1 503", b"HTTP/1.1 408"}
    for end in ends:
        if end.startswith(b"HTTP/1.1 503"):
            assert b"retry-after: 1\r\n" in end
            assert b'"code":"service_unavailable"' in end

    ended = time.monotonic()

    async def serves() -> bool:
        return (await gateway.chat("model")).status == 200

    await eventually(serves)
    await gateway.quiet()
    async with openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key="-") as client:
        await client.chat.completions.create(**chat("model"))
    assert time.monotonic() - ended < 10
