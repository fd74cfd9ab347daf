"""Answers under way outlive the picker, and what a dead Envoy never reported leaves the ledger in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from integration.model_servers import HeldServer, held_server
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

LIMIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    held: HeldServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(held_server())
        documents = [*pool_with("held", [held.port]), inference_model("model", pool="held")]
        gateway = StandaloneGateway(documents, "--in-flight-limit-seconds", str(LIMIT_SECONDS))
        yield Site(await stack.enter_async_context(gateway), held)


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    running.held.release.clear()
    running.held.started = 0
    running.held.hold_headers = False
    yield running
    running.held.release.set()


async def stream(site: Site, request_id: str, started: asyncio.Semaphore) -> bytes:
    """The bytes of one held stream; *started* is released at its first byte."""
    url = f"{site.gateway.base_url}/v1/chat/completions"
    body = chat("model", stream=True, stream_options={"include_usage": True})
    async with site.gateway.session.post(url, json=body, headers={"x-request-id": request_id}) as response:
        assert response.status == 200
        text = await response.content.readany()
        started.release()
        return text + await response.content.read()


async def test_streams_outlive_their_picker_and_the_next_one_counts_them(site: Site) -> None:
    streams, started = 20, asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stream(site, f"outlive-{i}", started)) for i in range(streams)]
        for _ in range(streams):
            await started.acquire()
        assert await site.gateway.in_flight() == streams
        site.gateway.kill_picker()
        await site.gateway.start_picker()
        site.held.release.set()
    for task in tasks:
        assert b"first" in task.result()
        assert task.result().endswith(b"data: [DONE]\n\n")
    for i in range(streams):
        entry = await site.gateway.completed(f"outlive-{i}")
        assert (entry["prompt_tokens"], entry["completion_tokens"]) == (11, 2)
    assert await site.gateway.metric("inference_objective_output_tokens_count") == streams
    assert await site.gateway.in_flight() == 0


@pytest.mark.parametrize("hold_headers", [True, False], ids=["before-the-first-byte", "after-it"])
async def test_the_ledger_forgets_what_a_dead_envoy_never_reported(site: Site, hold_headers: bool) -> None:
    site.held.hold_headers = hold_headers
    streams, started = 5, asyncio.Semaphore(0)

    async def broken(number: int) -> None:
        with pytest.raises(Exception, match=r"(?i)disconnected|payload|reset"):
            await stream(site, f"dead-{hold_headers}-{number}", started)

    async def all_reached_the_server() -> bool:
        return site.held.started == streams

    async def ledger_is_empty() -> bool:
        return await site.gateway.in_flight() == 0

    async with asyncio.TaskGroup() as group:
        for i in range(streams):
            group.create_task(broken(i))
        await eventually(all_reached_the_server)
        assert await site.gateway.in_flight() == streams
        site.gateway.kill_envoy()
    await site.gateway.start_envoy()
    await eventually(ledger_is_empty, seconds=LIMIT_SECONDS + 3)
    site.held.release.set()
    assert (await site.gateway.chat("model")).status == 200
