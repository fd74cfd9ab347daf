"""Endpoints that come and go fifty times a second cost no request, and leave nothing behind."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from integration.resources import endpoint_slices, inference_model, inference_pool
from integration.standalone import StandaloneGateway, eventually

pytestmark = pytest.mark.timeout(90)

ENDPOINTS, STAYING = 60, 10
EDITS_PER_SECOND, SECONDS = 50, 4.0
MEMORY_MIB = 40.0


@asynccontextmanager
async def many_servers() -> AsyncIterator[int]:
    """One server on the same port of many loopback addresses; yields the port."""

    async def answer(_request: web.Request) -> web.Response:
        message = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return web.json_response({"id": "1", "model": "model", "choices": [message], "usage": usage})

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, address(0), 0).start()
        port = int(runner.addresses[0][1])
        for number in range(1, ENDPOINTS):
            await web.TCPSite(runner, address(number), port).start()
        yield port
    finally:
        await runner.cleanup()


def address(number: int) -> str:
    return f"127.0.1.{number + 1}"


@dataclass(frozen=True, slots=True)
class Slices:
    """A file per endpoint in the folder that the gateway follows."""

    folder: Path
    port: int

    def add(self, number: int) -> None:
        (document,) = endpoint_slices("pool", [self.port], ip=address(number))
        document["metadata"]["name"] = f"pool-{number}"
        draft = self.folder / f".{number}"
        draft.write_text(yaml.safe_dump(document))
        draft.rename(self.folder / f"{number:03}.yaml")

    def remove(self, number: int) -> None:
        (self.folder / f"{number:03}.yaml").unlink()


def memory_mib(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


async def hosts(gateway: StandaloneGateway) -> set[str]:
    """Addresses that Envoy knows of the pool."""
    page = json.loads(await gateway.envoy_page("/clusters?format=json"))
    (cluster,) = (each for each in page["cluster_statuses"] if each["name"] == "default/pool:v1")
    return {host["address"]["socket_address"]["address"] for host in cluster["host_statuses"]}


async def test_endpoints_that_come_and_go_all_the_time(tmp_path: Path) -> None:
    chance = random.Random(7)
    async with many_servers() as port:
        gateway = StandaloneGateway([inference_pool("pool"), inference_model("model", pool="pool")])
        slices = Slices(gateway.folder / "manifests", port)
        present = set(range(STAYING))
        for number in present:
            slices.add(number)
        async with gateway:
            clusters = await gateway.envoy_stat("cluster_manager.active_clusters")
            files = sorted(path.name for path in gateway.folder.glob("**/*.json"))
            assert (await gateway.chat("model")).status == 200
            before = {name: memory_mib(gateway.pid(name)) for name in ("picker", "envoy")}
            statuses: list[int] = []
            over = asyncio.Event()

            async def ask() -> None:
                while not over.is_set():
                    statuses.append((await gateway.chat("model")).status)
                    await asyncio.sleep(0.01)

            edits = 0
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(ask())
                began = time.monotonic()
                while time.monotonic() < began + SECONDS:
                    number = chance.randrange(STAYING, ENDPOINTS)
                    (slices.remove if number in present else slices.add)(number)
                    present ^= {number}
                    edits += 1
                    await asyncio.sleep(max(0.0, began + edits / EDITS_PER_SECOND - time.monotonic()))
                over.set()
            assert edits > SECONDS
            assert len(statuses) > 20
            assert set(statuses) == {200}

            wanted = {address(number) for number in present}

            async def as_they_are() -> bool:
                state = await gateway.debug_state()
                assert state["configuration"]["error"] == ""
                known = {endpoint["address"].partition(":")[0] for endpoint in state["pools"][0]["endpoints"]}
                return known == wanted == await hosts(gateway)

            await eventually(as_they_are, seconds=20, what="endpoints are missing or were left behind")
            assert await gateway.envoy_stat("cluster_manager.active_clusters") == clusters
            assert sorted(path.name for path in gateway.folder.glob("**/*.json")) == files
            for name, mib in before.items():
                assert memory_mib(gateway.pid(name)) - mib < MEMORY_MIB, name
            assert await gateway.metric("inference_gateway_config_rejected_total") == 0
            await gateway.settled()
