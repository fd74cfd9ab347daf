"""While Envoy is away clients are kept waiting and then told to try again, whatever they send."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import openai
import pytest

from igw.listen_address import ListenAddress, claim_address
from igw.stand_in import StandIn
from integration.standalone import chat


@pytest.fixture
def address() -> ListenAddress:
    return claim_address("127.0.0.1", 0, option="")


@asynccontextmanager
async def until_left(address: ListenAddress) -> AsyncIterator[asyncio.Event]:
    """A stand-in that leaves when the event is set."""
    listens, leave = asyncio.Event(), asyncio.Event()

    async def stand_in() -> None:
        async with StandIn(address):
            listens.set()
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(stand_in())
        await listens.wait()
        yield leave
        leave.set()


async def connects(address: ListenAddress) -> bool:
    try:
        _, writer = await asyncio.open_connection(address.ip, address.port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_a_request_waits_and_is_then_told_to_try_again(address: ListenAddress, size: int) -> None:
    async with until_left(address) as leave, aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        asked = group.create_task(ask(session, address, size))
        await asyncio.sleep(0.1)
        assert not asked.done()
        leave.set()
    status, headers, body = asked.result()
    assert status == 503
    assert headers["Retry-After"] == "1"
    assert json.loads(body)["error"]["code"] == "service_unavailable"
    assert not await connects(address)


async def ask(session: aiohttp.ClientSession, address: ListenAddress, size: int) -> tuple[int, object, bytes]:
    body = io.BytesIO(json.dumps(chat("m", "x" * size)).encode())
    async with session.post(f"{address.url}/v1/chat/completions", data=body) as response:
        return response.status, response.headers, await response.read()


async def test_an_official_client_tries_again_until_somebody_listens(address: ListenAddress) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        body = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with openai.AsyncOpenAI(base_url=f"{address.url}/v1", api_key="none") as client:
        async with until_left(address) as leave, asyncio.TaskGroup() as group:
            asked = group.create_task(client.chat.completions.create(**chat("m")))
            await asyncio.sleep(0.1)
            # As Envoy does: it listens before the stand-in leaves.
            server = await asyncio.start_server(serve, address.ip, address.port, reuse_port=True)
            leave.set()
        assert asked.result().id == "1"
        server.close()


async def test_who_sends_nothing_is_not_answered(address: ListenAddress) -> None:
    async with until_left(address) as leave:
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        await asyncio.sleep(0.05)
        leave.set()
        assert await reader.read() == b""
        writer.close()


async def test_more_clients_than_it_keeps_are_sent_away(
    address: ListenAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("igw.stand_in._MOST_CONNECTIONS", 2)
    async with until_left(address) as leave, aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        kept = [group.create_task(ask(session, address, 10)) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(aiohttp.ClientError):
            await ask(session, address, 10)
        leave.set()
    assert [task.result()[0] for task in kept] == [503, 503]


async def test_an_address_that_is_taken_is_left_to_its_owner(address: ListenAddress) -> None:
    owner = await asyncio.start_server(lambda _, writer: writer.close(), address.ip, address.port)
    async with StandIn(address):
        pass
    assert owner.is_serving()
    owner.close()
