"""Answers outlive the picker, requests wait for the next one, and what a dead Envoy never reported is forgotten."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from envoy_config import names
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
    await running.gateway.settled()
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


async def test_requests_wait_for_a_picker_that_is_away_for_a_moment(site: Site) -> None:
    site.held.release.set()
    socket = site.gateway.folder / names.PICKER_SOCKET
    away = socket.with_name("away")
    site.gateway.kill_envoy()
    socket.rename(away)
    await site.gateway.start_envoy()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(site.gateway.chat("model", content="x" * size)) for size in (1, 100_000) * 20]
        await eventually(lambda: has_retried(site))
        away.rename(socket)
    assert {task.result().status for task in waiting} == {200}


async def has_retried(site: Site) -> bool:
    """Whether Envoy has asked in vain for a picker."""
    return await site.gateway.envoy_stat(f"cluster.{names.PICKER_CLUSTER}.upstream_rq_retry") > 20


async def test_a_picker_that_comes_back_is_asked_only_when_it_knows_the_routes(site: Site) -> None:
    site.held.release.set()
    site.gateway.kill_picker()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(site.gateway.chat("model")) for _ in range(200)]
        await site.gateway.start_picker()
    statuses = {task.result().status for task in waiting}
    assert statuses <= {200, 503}  # on a slow machine some waited too long, and may try again


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
