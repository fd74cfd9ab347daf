"""Edits of the manifests take effect at once, cost no request, and a broken one changes nothing but the reports."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.model_servers import HeldServer, held_server
from integration.resources import Document, http_route, inference_model, pool_with, rule, to_pool
from integration.standalone import StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

SOON_SECONDS = 2.0
"""Half of it on a machine that does nothing else."""


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    servers: Sequence[SimulatedServer]
    held: HeldServer

    def documents(self, *, endpoints: Sequence[int] = (0,), **pool: Any) -> list[Document]:
        """The pool that every case starts from, with its model."""
        ports = [self.servers[i].port for i in endpoints]
        return [*pool_with("pool", ports, **pool), inference_model("model", pool="pool")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        settings = [SimulatorSettings(name=f"server-{i}", models=("model", "second")) for i in range(2)]
        servers = [await stack.enter_async_context(SimulatedServer(each)) for each in settings]
        held = await stack.enter_async_context(held_server())
        gateway = StandaloneGateway([*pool_with("pool", [servers[0].port]), inference_model("model", pool="pool")])
        yield Site(await stack.enter_async_context(gateway), servers, held)


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    yield running
    await running.gateway.apply(*running.documents(), inference_model(f"after-{time.monotonic_ns()}", pool="pool"))


async def seconds_until(site: Site, documents: Sequence[Document], model: str, server: int) -> float:
    """How long after an edit *server* is the one that answers for *model*."""
    site.gateway.write_manifests(*documents)
    start = time.monotonic()

    async def served() -> bool:
        reply = await site.gateway.chat(model)
        return reply.status == 200 and reply.headers["x-simulated-server"] == f"server-{server}"

    await eventually(served)
    return time.monotonic() - start


async def test_an_added_endpoint_is_used_soon(site: Site) -> None:
    assert await seconds_until(site, site.documents(endpoints=(0, 1)), "model", 1) < SOON_SECONDS


async def test_an_added_model_is_served_soon(site: Site) -> None:
    documents = [*site.documents(), inference_model("second", pool="pool")]
    assert await seconds_until(site, documents, "second", 0) < SOON_SECONDS


async def test_an_added_pool_is_served_soon(site: Site) -> None:
    added = [*pool_with("added", [site.servers[1].port]), inference_model("second", pool="added")]
    assert await seconds_until(site, [*site.documents(), *added], "second", 1) < SOON_SECONDS


async def test_a_removed_endpoint_leaves_envoy_in_the_end(site: Site) -> None:
    await site.gateway.apply(*site.documents(endpoints=(0, 1)))
    await site.gateway.apply(*site.documents())

    prefix = "default/pool:v1::127.0.0.1"

    async def has_left() -> bool:
        return f"{prefix}:{site.servers[1].port}" not in await site.gateway.envoy_page("/clusters")

    assert not await has_left()  # requests may still be on their way to it
    await eventually(has_left)
    assert f"{prefix}:{site.servers[0].port}" in await site.gateway.envoy_page("/clusters")


async def test_a_removed_model_is_unknown_soon(site: Site) -> None:
    await site.gateway.apply(*site.documents(), inference_model("second", pool="pool"))
    assert (await site.gateway.chat("second")).status == 200
    await site.gateway.apply(*site.documents())
    assert (await site.gateway.chat("second")).status == 404


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("kind: [", "all.yaml", id="no-yaml"),
        pytest.param(
            "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferenceModel\nmetadata: {name: m}\nspec: {}\n",
            "modelName",
            id="no-such-schema",
        ),
    ],
)
async def test_a_broken_edit_leaves_the_last_good_one_in_force_and_is_reported(
    site: Site, text: str, said: str
) -> None:
    rejected = await site.gateway.metric("inference_gateway_config_rejected_total")
    site.gateway.write_manifest_text(text)

    async def refused() -> dict[str, Any] | None:
        state = await site.gateway.debug_state()
        return None if state["configuration"]["accepted"] else state

    state = await eventually(refused)
    assert said in state["configuration"]["error"]
    assert any(said in problem for problem in state["problems"])
    assert await site.gateway.metric("inference_gateway_config_rejected_total") == rejected + 1
    assert await site.gateway.metric("inference_gateway_config_last_load_success") == 0
    assert (await site.gateway.chat("model")).status == 200
    await site.gateway.apply(*site.documents(endpoints=(0, 1)))
    assert await site.gateway.metric("inference_gateway_config_last_load_success") == 1


async def test_a_stream_outlives_its_pool(site: Site) -> None:
    added = [*pool_with("held", [site.held.port]), inference_model("held", pool="held")]
    await site.gateway.apply(*site.documents(), *added)
    site.held.release.clear()
    url = f"{site.gateway.base_url}/v1/chat/completions"
    body = chat("held", stream=True, stream_options={"include_usage": True})
    async with site.gateway.session.post(url, json=body, headers={"x-request-id": "outlives"}) as response:
        assert b"first" in await response.content.readany()
        await site.gateway.apply(*site.documents())
        assert (await site.gateway.chat("held")).status == 404
        site.held.release.set()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
    assert (await site.gateway.completed("outlives"))["completion_tokens"] == 2
    assert await site.gateway.in_flight() == 0


def _edits(site: Site) -> list[list[Document]]:
    """Edits of every kind, each of which keeps an endpoint of the one before."""
    route = http_route("route", rule("/v1", to_pool("pool")))
    more = [*pool_with("more", [site.servers[1].port]), inference_model("second", pool="more")]
    second = inference_model("second", pool="pool")
    return [
        site.documents(endpoints=(0, 1)),
        site.documents(endpoints=(1,)),
        [*site.documents(endpoints=(0, 1)), second],
        [*site.documents(), second],
        [*site.documents(), *more],
        [*site.documents(failure_mode="FailOpen"), *more],
        [*site.documents(), route],
        [*site.documents(endpoints=(0, 1)), route, *more],
        site.documents(annotations={"inferencegateway.dev/first-token-timeout": "30s"}),
        site.documents(annotations={"inferencegateway.dev/first-token-timeout": "40s"}),
    ]


async def failures_during(site: Site, edits: Sequence[Sequence[Document]], *, workers: int) -> list[object]:
    """Make *edits* one after the other under load; return every answer that was no success."""
    failed: list[object] = []
    answered = 0
    over = asyncio.Event()

    async def work() -> None:
        nonlocal answered
        while not over.is_set():
            reply = await site.gateway.chat("model")
            answered += reply.status == 200
            if reply.status != 200:
                failed.append(reply)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
        try:
            for documents in edits:
                await site.gateway.apply(*documents)
        finally:
            over.set()
    assert answered > 100
    return failed


async def test_edits_under_load_fail_no_request(site: Site) -> None:
    assert await failures_during(site, 2 * _edits(site), workers=4) == []


async def test_replacing_every_endpoint_under_load_fails_no_request(site: Site) -> None:
    edits = [site.documents(endpoints=(number % 2,)) for number in range(1, 11)]
    assert await failures_during(site, edits, workers=8) == []
