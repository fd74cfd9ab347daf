"""The wall clock may jump and the process may be suspended: no request is harmed, nothing is forgotten too early."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration import jumping_clock
from integration.model_servers import HeldServer, held_server
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

HOUR, DAY = 3600.0, 86_400.0
LIMIT_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    held: HeldServer
    clock: Path

    def jump(self, seconds: float) -> None:
        """Let the wall clock be so far ahead."""
        jumping_clock.set_ahead(self.clock, seconds)

    async def stream(self, request_id: str, begun: asyncio.Semaphore) -> bytes:
        """The bytes of one held stream; *begun* is released at its first."""
        url = f"{self.gateway.base_url}/v1/chat/completions"
        body = chat("held", stream=True, stream_options={"include_usage": True})
        async with self.gateway.session.post(url, json=body, headers={"x-request-id": request_id}) as response:
            assert response.status == 200
            first = await response.content.readany()
            begun.release()
            return first + await response.content.read()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(held_server())
        server = await stack.enter_async_context(SimulatedServer(SimulatorSettings(models=("model",))))
        documents = [
            *(*pool_with("held", [held.port]), inference_model("held", pool="held")),
            *(*pool_with("pool", [server.port]), inference_model("model", pool="pool")),
        ]
        gateway = StandaloneGateway(documents, "--in-flight-limit-seconds", str(LIMIT_SECONDS))
        folder = tmp_path_factory.mktemp("clock")
        clock = folder / "ahead"
        jumping_clock.set_ahead(clock, 0.0)
        gateway.picker_program = (sys.executable, jumping_clock.__file__, str(clock), "endpoint_picker")
        if jumping_clock.COMPILER is not None:  # else Envoy's clock stands firm
            gateway.envoy_environment = jumping_clock.preloaded(clock, folder / "clock.so")
        yield Site(await stack.enter_async_context(gateway), held, clock)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def rest(site: Site) -> AsyncIterator[None]:
    site.held.release.clear()
    await site.gateway.settled()
    yield
    site.held.release.set()
    site.jump(0.0)


async def test_the_wall_clock_jumps_by_hours_and_days_in_both_directions(site: Site) -> None:
    seconds_before = await site.gateway.metric("inference_objective_request_duration_seconds_sum")
    begun = asyncio.Semaphore(0)
    statuses: set[int] = set()
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(site.stream(f"jump-{i}", begun)) for i in range(4)]
        for _ in streams:
            await begun.acquire()
        for ahead in (HOUR, -HOUR, DAY, -DAY, 0.0):
            site.jump(ahead)
            for _ in range(5):
                reply = await site.gateway.chat("model")
                statuses.add(reply.status)
            assert await site.gateway.in_flight() >= len(streams)
            models = (await site.gateway.get("/v1/models")).json["data"]
            created = datetime.fromtimestamp(models[0]["created"], UTC)
            assert abs(created - datetime.now(UTC) - timedelta(seconds=ahead)) < timedelta(minutes=5)
        site.held.release.set()
    assert statuses == {200}
    assert all(task.result().endswith(b"data: [DONE]\n\n") for task in streams)
    await site.gateway.settled()
    # Durations come from clocks that do not jump.
    spent = await site.gateway.metric("inference_objective_request_duration_seconds_sum") - seconds_before
    assert 0.0 <= spent < HOUR / 2
    durations = [entry["duration_seconds"] for entry in site.gateway.log_entries() if "duration_seconds" in entry]
    assert all(0.0 <= each < HOUR / 2 for each in durations)


async def test_a_picker_that_stood_still_forgets_no_request_and_reads_its_endpoints_again(site: Site) -> None:
    begun = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(site.stream(f"stood-{i}", begun)) for i in range(4)]
        for _ in streams:
            await begun.acquire()
        site.gateway.stop_picker()
        await asyncio.sleep(2 * LIMIT_SECONDS)
        site.gateway.continue_picker()
        assert (await site.gateway.chat("model")).status == 200
        assert await site.gateway.in_flight() >= len(streams)

        async def read_again() -> bool:
            state = await site.gateway.debug_state()
            (endpoint,) = next(pool for pool in state["pools"] if "pool" in pool["name"])["endpoints"]
            return endpoint["healthy"] and endpoint["metrics"] is not None and endpoint["metrics"]["age_seconds"] < 2.0

        await eventually(read_again)
        await asyncio.sleep(LIMIT_SECONDS)
        assert await site.gateway.in_flight() == len(streams)
        site.held.release.set()
    assert all(task.result().endswith(b"data: [DONE]\n\n") for task in streams)
    await site.gateway.settled()
    assert await site.gateway.metric("inference_gateway_ledger_expired_total") == 0


async def test_a_gateway_that_stood_still_goes_on_with_its_answers(site: Site) -> None:
    begun = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(site.stream(f"both-{i}", begun)) for i in range(4)]
        for _ in streams:
            await begun.acquire()
        site.gateway.stop_envoy()
        site.gateway.stop_picker()
        asked = group.create_task(site.gateway.chat("model"))
        await asyncio.sleep(2 * LIMIT_SECONDS)
        site.gateway.continue_envoy()
        site.gateway.continue_picker()
        assert (await asked).status == 200
        assert await site.gateway.in_flight() >= len(streams)
        site.held.release.set()
    assert all(task.result().endswith(b"data: [DONE]\n\n") for task in streams)
    await site.gateway.settled()
