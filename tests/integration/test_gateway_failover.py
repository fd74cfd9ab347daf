"""Until the first byte of an answer another endpoint takes over unnoticed; after it nothing is repeated."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import aiohttp
import openai
import pytest
import pytest_asyncio

from igw.simulator.faults import Fault, FaultKind
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.model_servers import EchoServer, echo_server
from integration.resources import Document, endpoint_slices, inference_model, inference_pool, pool_with
from integration.standalone import StandaloneGateway, chat

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

SCHEDULING = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: label-selector-filter
  parameters: {matchExpressions: [{key: role, operator: NotIn, values: [never]}]}
- type: queue-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: label-selector-filter
  - pluginRef: queue-scorer
  - pluginRef: max-score-picker
"""
PATIENCE = {"inferencegateway.dev/first-token-timeout": "1s"}
SERVERS = 3


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    servers: tuple[SimulatedServer, ...]
    echoes: tuple[EchoServer, ...]
    documents: Sequence[Document]

    async def set_faults(self, *plans: tuple[Fault, ...]) -> None:
        """Give each server its faults; the last plan is that of all further servers."""
        for index, server in enumerate(self.servers):
            await server.start()
            await server.set_faults(plans[min(index, len(plans) - 1)])

    async def all_healthy(self) -> bool:
        pools = (await self.gateway.debug_state())["pools"]
        return all(endpoint["healthy"] for pool in pools for endpoint in pool["endpoints"])

    async def stream(self, request_id: str = "") -> tuple[int, str]:
        """Status and events of a streamed chat."""
        body = chat("model", stream=True, stream_options={"include_usage": True})
        reply = await self.gateway.post(
            "/v1/chat/completions", body, headers={"x-request-id": request_id} if request_id else None
        )
        return reply.status, reply.body.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    settings = SimulatorSettings(models=("model",))
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(SimulatedServer(replace(settings, name=f"server-{i}")))
            for i in range(SERVERS)
        ]
        echoes = [await stack.enter_async_context(echo_server()) for _ in range(4)]
        kept, excluded = (endpoint_slices("single", [echoes[i].port]) for i in (2, 3))
        excluded[0]["metadata"]["labels"]["role"] = "never"
        documents = [
            *pool_with("chats", [server.port for server in servers], annotations=PATIENCE),
            *pool_with("echoes", [echoes[0].port, echoes[1].port]),
            *(inference_pool("single"), *kept, *excluded),
            *(inference_model(name, pool=pool) for name, pool in _POOLS.items()),
        ]
        often = ("--scrape-idle-seconds", "0.1", "--scrape-busy-seconds", "0.1")
        gateway = StandaloneGateway(documents, "--connect-timeout-seconds", "1", *often)
        (gateway.folder / "scheduling.yaml").write_text(SCHEDULING)
        gateway.add_arguments("--scheduling-config", str(gateway.folder / "scheduling.yaml"))
        await stack.enter_async_context(gateway)
        yield Site(gateway, tuple(servers), tuple(echoes), documents)


_POOLS = {"model": "chats", "echoed": "echoes", "alone": "single"}


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    if not await running.all_healthy():  # what failed several times in a row is kept out for long: begin anew
        await running.gateway.apply(inference_pool("nothing"))
        await running.gateway.apply(*running.documents)
    yield running
    await running.set_faults(())
    for echo in running.echoes:
        echo.status = 200
        echo.requests.clear()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(FaultKind.STALL_PREFILL), id="headers-then-silence"),
        pytest.param(Fault(FaultKind.RESET_PREFILL), id="headers-then-reset"),
        pytest.param(Fault(FaultKind.REFUSE), id="refuses"),
        pytest.param(Fault(FaultKind.STATUS, code=503), id="503"),
        pytest.param(Fault(FaultKind.STATUS, code=429), id="429"),
        pytest.param(Fault(FaultKind.STATUS, code=500), id="500"),
    ],
)
async def test_a_request_that_meets_a_bad_endpoint_is_answered_once_by_the_next(site: Site, fault: Fault) -> None:
    await site.set_faults((fault,), (fault,), ())
    attempts = []
    while not attempts or max(attempts) == 1:
        assert len(attempts) < 25, "no request met the bad endpoints"
        request_id = f"{fault.kind}-{fault.code}-{len(attempts)}"
        status, events = await site.stream(request_id)
        assert status == 200
        assert events.count("data: [DONE]") == 1
        assert events.count('"role":"assistant"') == 1
        assert len({line.split('"id":"')[1].split('"')[0] for line in events.splitlines() if '"id":"' in line}) == 1
        entry = await site.gateway.completed(request_id)
        assert entry["endpoint"] == f"127.0.0.1:{site.servers[-1].port}"
        assert entry["completion_tokens"] == 8
        attempts.append(entry["attempts"])


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_the_last_error_passes_through_when_no_endpoint_is_left(site: Site, code: int) -> None:
    await site.set_faults((Fault(FaultKind.STATUS, code=code),))
    request_id = f"exhausted-{code}"
    reply = await site.gateway.chat("model", headers={"x-request-id": request_id})
    assert reply.status == code
    assert reply.json["error"]["code"] == code  # in the model server's words
    assert "x-simulated-server" in reply.headers
    assert (await site.gateway.completed(request_id))["attempts"] == SERVERS


async def test_nothing_is_repeated_for_an_error_that_is_the_clients_own(site: Site) -> None:
    await site.set_faults((Fault(FaultKind.STATUS, code=400),))
    assert (await site.gateway.chat("model", headers={"x-request-id": "own-fault"})).status == 400
    assert (await site.gateway.completed("own-fault"))["attempts"] == 1


@pytest.mark.parametrize("code", [429, 503])
async def test_a_retry_never_leaves_the_list(site: Site, code: int) -> None:
    allowed, excluded = site.echoes[2], site.echoes[3]
    allowed.status = code
    for _ in range(5):
        reply = await site.gateway.chat("alone")
        assert reply.status == code
        assert reply.headers["x-echo"] == "1", reply
    assert len(allowed.requests) == 5
    assert excluded.requests == []


async def test_a_large_body_is_sent_again_whole(site: Site) -> None:
    bad, good = site.echoes[:2]
    bad.status = 503
    while not bad.requests:
        assert len(good.requests) < 25, "no request met the bad endpoint"
        reply = await site.gateway.chat("echoed", content="x" * 3_000_000)
        assert reply.status == 200
        assert reply.json["bytes"] > 3_000_000
    assert bad.requests[-1]["sha256"] == good.requests[-1]["sha256"]
    assert bad.requests[-1]["headers"]["content-length"] == good.requests[-1]["headers"]["content-length"]


async def test_a_stream_that_breaks_after_its_first_token_is_not_repeated(site: Site) -> None:
    await site.set_faults((Fault(FaultKind.CUT_STREAM, tokens=3),))
    pieces = []
    async with openai.AsyncOpenAI(base_url=f"{site.gateway.base_url}/v1", api_key="-", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="model",
            messages=[{"role": "user", "content": "Count."}],
            max_tokens=50,
            stream=True,
            extra_headers={"x-request-id": "cut"},
        )

        async def read() -> None:
            async for piece in stream:
                pieces.append(piece)  # noqa: PERF401 - what came before the end is wanted

        with pytest.raises(openai.APIConnectionError):
            await read()
    assert 1 <= len(pieces) <= 4
    assert (await site.gateway.completed("cut"))["attempts"] == 1


async def test_a_server_that_dies_under_load_costs_only_what_had_started(site: Site) -> None:
    total, concurrency = 200, 20
    remaining = iter(range(total))
    finished = 0
    cut, lost = [], []

    async def work() -> None:
        nonlocal finished
        for number in remaining:
            started = False
            try:
                body = chat("model", f"Request {number}", stream=True, max_tokens=20)
                async with site.gateway.session.post(
                    f"{site.gateway.base_url}/v1/chat/completions", json=body
                ) as response:
                    if response.status != 200:
                        lost.append((number, response.status, await response.text()))
                        continue
                    text = b""
                    async for chunk in response.content.iter_any():
                        started = True
                        text += chunk
                    assert text.endswith(b"data: [DONE]\n\n")
            except aiohttp.ClientError as error:
                (cut if started else lost).append((number, error))
            finished += 1
            if finished == total // 4:
                await site.servers[0].stop()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    assert lost == []
    assert len(cut) <= concurrency
    await site.gateway.settled()
