"""One of eight servers stalls, crashes or loses its engine in prefill, under load: clients lose time and nothing else.

Servers send their headers at once and their first event after the prefill, as vLLM does. Every answer is one token
long, so that what a dying server has begun is as good as nothing. Clients do not retry. `pytest -s` shows figures.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp
import pytest
import pytest_asyncio

from igw.simulator.faults import Fault, FaultKind
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.resources import Document, inference_model, inference_pool, pool_with
from integration.standalone import StandaloneGateway, chat

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

SERVERS = 8
CONCURRENCY = 12
HEALTHY = 150
LIMIT_SECONDS = 3.0
MARGIN_SECONDS = 1.0
"""What a busy machine may add to a time."""
MOST_EXTRA = 0.01
PATIENCE = dict.fromkeys(
    ("inferencegateway.dev/first-token-timeout", "inferencegateway.dev/answer-timeout"), f"{LIMIT_SECONDS:g}s"
)
PROMPT = "word " * 1500


@dataclass(slots=True)
class Figures:
    """What clients saw."""

    first_token_seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def p99(self) -> float:
        ordered = sorted(self.first_token_seconds)
        return ordered[int(len(ordered) * 0.99)]


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    servers: tuple[SimulatedServer, ...]
    documents: tuple[Document, ...]
    numbers: Iterator[int]

    async def load(
        self, requests: int, *, streaming: bool = True, then: Callable[[], Awaitable[None]] | None = None
    ) -> Figures:
        """Send requests with prompts that nobody has cached; break something when a quarter of them are done."""
        figures, left = Figures(), iter(range(requests))

        async def work() -> None:
            for index in left:
                if index == requests // 4 and then is not None:
                    await then()
                await self._ask(figures, streaming=streaming)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
        await self.gateway.settled()
        return figures

    async def reason(self) -> str:
        """Why the first server's circuit is not closed."""
        (pool,) = (await self.gateway.debug_state())["pools"]
        address = f"127.0.0.1:{self.servers[0].port}"
        return next(str(e["circuit"]["reason"]) for e in pool["endpoints"] if e["address"] == address)

    async def _ask(self, figures: Figures, *, streaming: bool) -> None:
        body = chat("model", f"Request {next(self.numbers)}: {PROMPT}", stream=streaming, max_tokens=1)
        began = time.monotonic()
        try:
            url = f"{self.gateway.base_url}/v1/chat/completions"
            async with self.gateway.session.post(url, json=body) as response:
                text = await response.content.readany()
                figures.first_token_seconds.append(time.monotonic() - began)
                text += await response.read()
            whole = text.endswith(b"data: [DONE]\n\n") if streaming else text.endswith(b"}")
            if response.status != 200 or not whole or b'"error"' in text:
                figures.errors.append(f"{response.status}: {text[:300]!r}")
        except (aiohttp.ClientError, TimeoutError) as error:
            figures.errors.append(repr(error))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    settings = SimulatorSettings(models=("model",), time_scale=0.25)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(SimulatedServer(settings)) for _ in range(SERVERS)]
        documents = (
            *pool_with("chats", [server.port for server in servers], annotations=PATIENCE),
            inference_model("model", pool="chats"),
        )
        gateway = await stack.enter_async_context(StandaloneGateway(documents))
        yield Site(gateway, tuple(servers), documents, iter(range(1_000_000)))


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    yield running
    await running.servers[0].set_faults(())
    await running.servers[0].start()
    await running.gateway.apply(inference_pool("nothing"))  # circuits begin anew
    await running.gateway.apply(*running.documents)


async def stall(server: SimulatedServer) -> None:
    await server.set_faults((Fault(FaultKind.STALL_PREFILL),))


async def crash(server: SimulatedServer) -> None:
    while not server.state.statistics.in_flight:  # noqa: ASYNC110 - in the middle of a prefill
        await asyncio.sleep(0.001)
    await server.stop()


async def run_out_of_memory(server: SimulatedServer) -> None:
    await server.set_faults((Fault(FaultKind.ENGINE_DEATH, count=1, seconds=1.0),))


@pytest.mark.parametrize(
    ("fault", "reasons", "streaming", "requests"),
    [
        pytest.param(stall, {"silent"}, True, 800, id="stalls"),
        pytest.param(crash, {"unreachable", "failures"}, True, 800, id="crashes"),
        pytest.param(run_out_of_memory, {"unreachable", "failures"}, True, 800, id="runs-out-of-memory"),
        pytest.param(crash, {"unreachable", "failures"}, False, 300, id="crashes-before-whole-answers"),
    ],
)
async def test_a_server_that_fails_in_prefill_costs_no_answer_and_hardly_any_prefill(
    site: Site,
    request: pytest.FixtureRequest,
    fault: Callable[[SimulatedServer], Awaitable[None]],
    reasons: set[str],
    streaming: bool,
    requests: int,
) -> None:
    healthy = await site.load(HEALTHY, streaming=streaming)
    lives = [server.state.statistics for server in site.servers]
    met = sum(life.http_requests for life in lives)
    faulty = await site.load(requests, streaming=streaming, then=lambda: fault(site.servers[0]))
    # every request that reached a server counts as a whole prefill, also one that was refused at once
    extra = sum(life.http_requests for life in lives) - met - requests
    found = (
        f"{request.node.callspec.id}: {len(faulty.errors)} errors of {requests}, first token p99 "
        f"{faulty.p99():.3f} s (healthy {healthy.p99():.3f} s, limit {LIMIT_SECONDS:g} s), longest "
        f"{max(faulty.first_token_seconds):.3f} s, extra prefill {extra / requests:.2%}"
    )
    sys.stdout.write(found + "\n")
    assert faulty.errors == []
    assert faulty.p99() <= LIMIT_SECONDS + healthy.p99() + MARGIN_SECONDS, found
    assert 0 < extra <= MOST_EXTRA * requests, found
    assert await site.reason() in reasons
