"""A picker that is killed costs a request at most one try, whatever stage of the request it dies in."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from integration.model_servers import EchoServer, HeldServer, echo_server, held_server
from integration.resources import http_route, inference_model, pool_with, rule, to_pool
from integration.standalone import StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

BODY = json.dumps(chat("held", "x" * 4000)).encode()


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    held: HeldServer
    echo: EchoServer


@dataclass(frozen=True, slots=True)
class Upload:
    """A request whose body is sent in two halves."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send_rest(self) -> None:
        """Send the second half."""
        self.writer.write(BODY[len(BODY) // 2 :])

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read status, headers and body of the answer, which may come before the request is whole."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        self.writer.close()
        return int(first.split()[1]), headers, body


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        held, echo = await stack.enter_async_context(held_server()), await stack.enter_async_context(echo_server())
        documents = [
            *(*pool_with("held", [held.port]), inference_model("held", pool="held")),
            *pool_with("open", [echo.port], failure_mode="FailOpen"),
            http_route("open", rule("/open", to_pool("open"))),
        ]
        yield Site(await stack.enter_async_context(StandaloneGateway(documents)), held, echo)


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    running.held.release.clear()
    running.held.hold_headers = False
    await running.gateway.settled()
    yield running
    running.held.release.set()


async def uploading(site: Site, path: str) -> Upload:
    """A request whose headers the picker has answered and whose body it waits for."""

    async def headers_answered() -> bool:
        return await site.gateway.envoy_stat("http.gateway.ext_proc.stream_msgs_received") > before

    before = await site.gateway.envoy_stat("http.gateway.ext_proc.stream_msgs_received")
    reader, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
    head = f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY[: len(BODY) // 2])
    await eventually(headers_answered)
    return Upload(reader, writer)


async def test_between_headers_and_body_the_client_is_told_to_try_again(site: Site) -> None:
    site.held.release.set()
    upload = await uploading(site, "/v1/chat/completions")
    site.gateway.kill_picker()
    status, headers, body = await upload.answer()
    await site.gateway.start_picker()
    assert status == 503
    assert headers["retry-after"] == "1"
    assert json.loads(body)["error"]["code"] == "service_unavailable"
    assert (await site.gateway.chat("held")).status == 200


async def test_between_headers_and_body_a_pool_that_fails_open_answers(site: Site) -> None:
    upload = await uploading(site, "/open/v1")
    site.gateway.kill_picker()
    upload.send_rest()
    status, _, body = await upload.answer()
    await site.gateway.start_picker()
    assert status == 200
    assert json.loads(body)["bytes"] == len(BODY)


@pytest.mark.parametrize("hold_headers", [True, False], ids=["before-the-first-byte", "in-mid-stream"])
async def test_after_the_dispatch_the_answer_comes_as_if_nothing_had_been(site: Site, hold_headers: bool) -> None:
    site.held.hold_headers = hold_headers
    before = site.held.started
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(site.gateway.chat("held", stream=True))

        async def dispatched() -> bool:
            return site.held.started > before

        await eventually(dispatched)
        site.gateway.kill_picker()
        await asyncio.sleep(0)
        site.held.release.set()
        await site.gateway.start_picker()
    assert asked.result().status == 200
    assert asked.result().body.endswith(b"data: [DONE]\n\n")
    await site.gateway.settled()


async def test_between_the_end_and_its_report_only_the_report_is_lost(site: Site) -> None:
    site.held.release.set()
    assert (await site.gateway.chat("held")).status == 200  # connections are there
    site.held.release.clear()
    before = site.held.started
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(site.gateway.chat("held", stream=True, stream_options={"include_usage": True}))

        async def dispatched() -> bool:
            return site.held.started > before

        await eventually(dispatched)
        site.gateway.stop_picker()  # it hears nothing any more
        site.held.release.set()
    assert asked.result().body.endswith(b"data: [DONE]\n\n")
    site.gateway.kill_picker()
    await site.gateway.start_picker()
    await site.gateway.settled()
    assert await site.gateway.metric("inference_objective_running_requests") == 0
    assert (await site.gateway.chat("held")).status == 200
