"""The simulated model servers of the demo: which there are, how each is started, and the slices that name them."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import yaml

from igw.child import ChildSpec
from igw.listen_address import ListenAddress, claim_address

_READY_SECONDS: Final = 2.0
_LABEL: Final = "app"


@dataclass(frozen=True, slots=True)
class DemoServer:
    """One simulated model server.

    Attributes:
        name: What messages call it.
        pool: Pool it belongs to.
        client_model: Name clients use.
        served_model: Name it serves.
        engine: Whose metrics it shows.
        at: Where it listens.
    """

    name: str
    pool: str
    client_model: str
    served_model: str
    engine: str
    at: ListenAddress


def plan_servers() -> tuple[DemoServer, ...]:
    """Return the demo's servers, each on a free port of this machine."""
    wanted = (
        ("llama", "llama-3.1-8b", "llama-3.1-8b", "vllm"),
        ("llama", "llama-3.1-8b", "llama-3.1-8b", "vllm"),
        ("qwen", "qwen", "qwen-2.5-7b-instruct", "sglang"),
        ("qwen", "qwen", "qwen-2.5-7b-instruct", "tgi"),
    )
    return tuple(
        DemoServer(f"{pool}-{index}", pool, client, served, engine, _free_address())
        for index, (pool, client, served, engine) in enumerate(wanted)
    )


def server_process(server: DemoServer) -> ChildSpec:
    """Return how *server* is run; it is not restarted, for the demo kills and revives it itself."""

    async def is_ready() -> str:
        try:
            async with (
                asyncio.timeout(_READY_SECONDS),
                aiohttp.ClientSession() as session,
                session.get(f"{server.at.url}/v1/models") as response,
            ):
                return "" if response.status == 200 else f"it answers {response.status}"
        except (aiohttp.ClientError, OSError, TimeoutError):
            return "it does not answer"

    return ChildSpec(
        name=f"server {server.name}",
        command=(
            *(sys.executable, "-m", "igw", "simulate", "--host", server.at.ip, "--port", str(server.at.port)),
            *("--model", server.served_model, "--engine", server.engine, "--timing", "h100-8b"),
        ),
        is_ready=is_ready,
        ready_timeout_seconds=60.0,
        stop_timeout_seconds=0.0,
        restart=False,
    )


def endpoint_slices(servers: Sequence[DemoServer]) -> str:
    """Return one endpoint slice per server, because each has a port of its own."""
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": server.name, "namespace": "demo", "labels": {_LABEL: server.pool}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": server.at.port}],
            "endpoints": [{"addresses": [server.at.ip]}],
        }
        for server in servers
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _free_address() -> ListenAddress:
    return claim_address("127.0.0.1", 0, option="--port")
