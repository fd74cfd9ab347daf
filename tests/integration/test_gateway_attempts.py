"""Every attempt at an endpoint is counted exactly once, whichever log reports it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from igw.simulator.faults import Fault, FaultKind
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

OUTCOMES = ("answered", "server_error", "timeout", "unreachable", "broken", "abandoned")
LONG = {"max_tokens": 400, "ignore_eos": True}


class Site:
    """One gateway before one server, whose attempts are counted."""

    def __init__(self, gateway: StandaloneGateway, server: SimulatedServer) -> None:
        self.gateway = gateway
        self.server = server
        self.before: Counter[str] = Counter()

    async def counts(self) -> Counter[str]:
        found = {o: int(await self.gateway.metric("inference_gateway_attempts_total", outcome=o)) for o in OUTCOMES}
        return Counter(found)

    async def expect(self, **wanted: int) -> None:
        """Wait until exactly these attempts were counted since the test began, and no more come."""

        async def arrived() -> bool:
            return await self.counts() - self.before == Counter(wanted)

        await eventually(arrived, what=f"{wanted} never came")
        await self.gateway.chat("model")  # its entries travel behind all earlier ones
        await eventually(lambda: self._has(answered=wanted.get("answered", 0) + 1), what="the last one was not counted")
        assert await self.counts() - self.before == Counter(wanted) + Counter(answered=1)

    async def _has(self, *, answered: int) -> bool:
        return (await self.counts() - self.before)["answered"] >= answered


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(SimulatedServer(SimulatorSettings(models=("model",), name="one")))
        documents = [
            *pool_with("chats", [server.port], annotations={"inferencegateway.dev/first-token-timeout": "1s"}),
            inference_model("model", pool="chats"),
        ]
        yield Site(await stack.enter_async_context(StandaloneGateway(documents)), server)


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    await running.server.start()
    await running.server.set_faults(())
    await running.gateway.settled()
    running.before = await running.counts()
    yield running
    await running.server.set_faults(())


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_answer(site: Site, streaming: bool) -> None:
    assert (await site.gateway.chat("model", stream=streaming)).status == 200
    await site.expect(answered=1)


async def test_a_refusal_of_the_client(site: Site) -> None:
    assert (await site.gateway.chat("model", max_tokens=-1)).status == 400
    await site.expect(answered=1)


@pytest.mark.parametrize(("code", "outcome"), [(503, "server_error"), (429, "answered")])
async def test_an_error_status(site: Site, code: int, outcome: str) -> None:
    await site.server.set_faults((Fault(FaultKind.STATUS, code=code, count=1),))
    assert (await site.gateway.chat("model")).status == code
    await site.expect(**{outcome: 1})


async def test_a_cut_stream(site: Site) -> None:
    await site.server.set_faults((Fault(FaultKind.CUT_STREAM, tokens=2, count=1),))
    with pytest.raises(Exception, match=r"."):
        await site.gateway.chat("model", stream=True, **LONG)
    await site.expect(broken=1)


async def test_silence_before_the_first_token(site: Site) -> None:
    await site.server.set_faults((Fault(FaultKind.STALL_PREFILL, count=1),))
    assert (await site.gateway.chat("model", stream=True)).status == 504
    await site.expect(timeout=1)


@pytest.mark.parametrize("after_bytes", [0, 1])
async def test_a_client_that_leaves(site: Site, after_bytes: int) -> None:
    if not after_bytes:
        await site.server.set_faults((Fault(FaultKind.SLOW_FIRST_TOKEN, seconds=30, count=1),))
    body = chat("model", stream=True, **LONG)

    async def ask() -> None:
        url = f"{site.gateway.base_url}/v1/chat/completions"
        async with site.gateway.session.post(url, json=body) as response:
            await response.content.readexactly(after_bytes)
            if after_bytes:
                raise asyncio.CancelledError

    task = asyncio.get_running_loop().create_task(ask())
    if not after_bytes:
        await eventually(lambda: _is_in_flight(site), what="the request never arrived")
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await site.expect(**{"answered" if after_bytes else "abandoned": 1})


async def _is_in_flight(site: Site) -> bool:
    return await site.gateway.in_flight() == 1
