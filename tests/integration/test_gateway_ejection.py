"""An endpoint that fails is kept out, probed by single requests, and comes back; never all of them are kept out."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from igw.simulator.faults import Fault, FaultKind
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.model_servers import EchoServer, echo_server
from integration.resources import Document, inference_model, inference_pool, pool_with
from integration.standalone import Reply, StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

SERVERS = 4
CONCURRENCY = 8
LONGEST_SECONDS = 1
FAILING = Fault(FaultKind.STATUS, code=500)


@dataclass(frozen=True, slots=True)
class Site:
    """Four servers behind one model, and two more behind another."""

    gateway: StandaloneGateway
    servers: tuple[SimulatedServer, ...]
    echoes: tuple[EchoServer, ...]
    documents: tuple[Document, ...]

    async def load(self, requests: int, *, streaming: bool = True) -> Counter[int]:
        """Send chats, a few at a time; return how often each status was the answer."""
        statuses: Counter[int] = Counter()
        numbers = iter(range(requests))

        async def work() -> None:
            for number in numbers:
                reply = await self.gateway.post(
                    "/v1/chat/completions", chat("model", f"Request {number}", stream=streaming)
                )
                statuses[reply.status] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
        await self.gateway.settled()
        return statuses

    def met(self, number: int = 0) -> int:
        """Requests that reached a server since it started."""
        return self.servers[number].state.statistics.http_requests

    async def endpoint(self, port: int) -> Document:
        pools = (await self.gateway.debug_state())["pools"]
        address = f"127.0.0.1:{port}"
        return next(dict(e) for pool in pools for e in pool["endpoints"] if e["address"] == address)

    async def circuit(self, number: int = 0) -> str:
        return str((await self.endpoint(self.servers[number].port))["circuit"]["state"])

    async def transitions(self, state: str, port: int = 0) -> int:
        """How often the circuit of a server, the first if none is named, has changed to a state."""
        endpoint = f"127.0.0.1:{port or self.servers[0].port}"
        name = "inference_gateway_circuit_transitions_total"
        return int(await self.gateway.metric(name, endpoint=endpoint, state=state))

    async def all_closed(self) -> bool:
        pools = (await self.gateway.debug_state())["pools"]
        return all(e["circuit"]["state"] == "closed" for pool in pools for e in pool["endpoints"])

    async def comes_back(self) -> None:
        """Send requests until every circuit is closed."""

        async def tried() -> bool:
            await self.load(2 * SERVERS)
            return await self.all_closed()

        await eventually(tried, seconds=30, what="an endpoint did not come back")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    settings = SimulatorSettings(models=("model",))
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(SimulatedServer(settings)) for _ in range(SERVERS)]
        echoes = [await stack.enter_async_context(echo_server()) for _ in range(2)]
        documents = (
            *pool_with("chats", [server.port for server in servers]),
            *pool_with("echoes", [echo.port for echo in echoes]),
            inference_model("model", pool="chats"),
            inference_model("echoed", pool="echoes"),
        )
        gateway = StandaloneGateway(documents, "--ejection-longest-seconds", str(LONGEST_SECONDS))
        await stack.enter_async_context(gateway)
        yield Site(gateway, tuple(servers), tuple(echoes), documents)


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    if not await running.all_closed():  # begin anew
        await running.gateway.apply(inference_pool("nothing"))
        await running.gateway.apply(*running.documents)
    yield running
    for server in running.servers:
        await server.start()
        await server.set_faults(())


async def test_one_that_fails_at_once_gets_probes_only_and_comes_back(site: Site) -> None:
    bad = site.servers[0]
    await bad.set_faults((FAILING,))
    assert set(await site.load(100)) == {200}
    assert await site.circuit() != "closed"
    met, probed = site.met(), await site.transitions("half-open")
    while await site.transitions("half-open") < probed + 2:
        assert set(await site.load(50)) == {200}
    # each half-open circuit lets one request through, whose failure opens it again
    assert 1 <= site.met() - met <= await site.transitions("half-open") - probed + 1
    assert await site.gateway.metric("inference_gateway_endpoint_circuit_state", endpoint=f"127.0.0.1:{bad.port}") > 0
    assert (await site.endpoint(bad.port))["circuit"]["reason"] == "failures"
    await bad.set_faults(())
    await site.comes_back()
    met = site.met()
    assert set(await site.load(100)) == {200}
    assert site.met() - met >= 100 // SERVERS // 2
    assert await site.gateway.metric("inference_gateway_pool_ejected_share") == 0


async def test_answers_that_come_as_a_whole_fail_over_alike(site: Site) -> None:
    await site.servers[0].set_faults((FAILING,))
    assert set(await site.load(100, streaming=False)) == {200}
    assert await site.circuit() != "closed"


async def test_one_that_fails_now_and_then_gets_much_less_than_its_share(site: Site) -> None:
    await site.servers[0].set_faults((Fault(FaultKind.STATUS, code=500, probability=0.3),))
    opened = await site.transitions("open")
    while await site.transitions("open") < opened + 3:
        assert set(await site.load(50)) == {200}
    met = [site.met(number) for number in range(SERVERS)]
    assert set(await site.load(400)) == {200}
    shares = [site.met(number) - before for number, before in enumerate(met)]
    assert shares[0] < min(shares[1:]) / 2, shares


async def test_when_all_fail_their_errors_pass_through_and_the_first_to_recover_serves(site: Site) -> None:
    for server in site.servers:
        await server.set_faults((FAILING,))
    replies: list[Reply] = []
    while not all([await site.circuit(number) == "open" for number in range(SERVERS)]):
        assert len(replies) < 200, "some circuit never opened"
        replies.append(await site.gateway.chat("model"))
    replies += [await site.gateway.chat("model") for _ in range(20)]
    assert {reply.status for reply in replies} == {500}
    assert all("x-simulated-server" in reply.headers for reply in replies)
    await site.servers[2].set_faults(())
    await eventually(lambda: _is_served(site), what="nobody was asked any more")


async def _is_served(site: Site) -> bool:
    return (await site.gateway.chat("model")).status == 200


async def test_one_that_says_when_to_come_back_is_left_alone_until_then(site: Site) -> None:
    busy, other = site.echoes
    busy.status, busy.headers = 429, {"retry-after": str(LONGEST_SECONDS)}
    try:
        while not busy.requests:
            assert len(other.requests) < 50, "no request met the busy endpoint"
            assert (await site.gateway.chat("echoed")).status == 200
        await eventually(lambda: _rests(site, busy), what="its circuit stayed closed")
        met, opened = len(busy.requests), await site.transitions("open", busy.port)
        for _ in range(10):
            assert (await site.gateway.chat("echoed")).status == 200
        assert len(busy.requests) - met <= await site.transitions("open", busy.port) - opened
    finally:
        busy.status, busy.headers = 200, {}


async def _rests(site: Site, echo: EchoServer) -> bool:
    return (await site.endpoint(echo.port))["circuit"]["reason"] == "overloaded"
