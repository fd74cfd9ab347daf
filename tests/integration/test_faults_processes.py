"""The gateway's own processes are killed and stopped under the load of official clients, which lose nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from endpoint_picker.config.settings import API_VERSION, KIND
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.igw_up import ChildName, IgwUp, SdkLoad
from integration.resources import http_route, inference_model, pool_with, rule, to_pool

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

CLOSED, OPEN = "closed", "open"
REWRITE = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
AS_IS: dict[str, Any] = {"filters": [{"type": "URLRewrite", "urlRewrite": REWRITE}]}


@dataclass(frozen=True, slots=True)
class Site:
    gateway: IgwUp

    def load(self) -> SdkLoad:
        return SdkLoad(((f"{self.gateway.url}/v1", CLOSED), (f"{self.gateway.url}/open/v1", OPEN)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        settings = SimulatorSettings(models=(CLOSED, OPEN), timing="h100-8b", time_scale=2.0)
        servers = [await stack.enter_async_context(SimulatedServer(settings)) for _ in range(2)]
        ports = [server.port for server in servers]
        documents = [
            *(*pool_with(CLOSED, ports), inference_model(CLOSED, pool=CLOSED)),
            # Without a picker only a path tells which pool is meant.
            *(
                *pool_with(OPEN, ports, failure_mode="FailOpen"),
                http_route(OPEN, rule("/open", to_pool(OPEN), **AS_IS)),
            ),
        ]
        gateway = IgwUp(documents)
        config = gateway.folder / "config.yaml"
        # What a dead Envoy never reported leaves the ledger so soon.
        config.write_text(f"apiVersion: {API_VERSION}\nkind: {KIND}\ninFlightLimitSeconds: 3\n")
        gateway.add_arguments("--config", str(config))
        yield Site(await stack.enter_async_context(gateway))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_a_picker_that_goes_away_costs_no_answer(site: Site, number: signal.Signals) -> None:
    async with site.load() as load:
        await load.more(10)
        await site.gateway.strike(number, "picker")
        await load.more(10)
    assert (load.lost, load.cut, load.silent) == ([], [], []), site.gateway.recent_output
    await site.gateway.settled()


@pytest.mark.parametrize(
    ("number", "names"),
    [
        pytest.param(signal.SIGKILL, ("envoy",), id="killed"),
        pytest.param(signal.SIGKILL, ("envoy", "picker"), id="killed-with-the-picker"),
        pytest.param(signal.SIGSTOP, ("envoy", "picker"), id="stopped-with-the-picker"),
    ],
)
async def test_an_envoy_that_goes_away_costs_only_streams_that_had_begun(
    site: Site, number: signal.Signals, names: tuple[ChildName, ...]
) -> None:
    async with site.load() as load:
        await load.more(10)
        await site.gateway.strike(number, *names)
        await load.more(10)
    assert (load.lost, load.silent) == ([], []), site.gateway.recent_output
    assert len(load.cut) <= load.workers  # each of them at most once, and the client was told
    await site.gateway.settled()


@pytest.mark.parametrize("name", ["envoy", "picker"])
async def test_a_child_that_stands_still_for_a_moment_costs_nothing(site: Site, name: ChildName) -> None:
    before = await site.gateway.pid(name)
    async with site.load() as load:
        await load.more(10)
        os.kill(before, signal.SIGSTOP)
        await asyncio.sleep(0.5)
        os.kill(before, signal.SIGCONT)
        await load.more(10)
    assert (load.lost, load.cut, load.silent) == ([], [], []), site.gateway.recent_output
    assert await site.gateway.pid(name) == before


async def test_a_picker_that_dies_again_and_again_is_back_each_time(site: Site) -> None:
    async with site.load() as load:
        for _ in range(2):
            await site.gateway.strike(signal.SIGKILL, "picker")
            await load.more(2)
    assert (load.cut, load.silent) == ([], []), site.gateway.recent_output  # a slow machine may lose some before
    await site.gateway.settled()
