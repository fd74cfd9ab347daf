"""The arms that take turns: Envoy alone, Envoy with one of two constant pickers, the whole gateway."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.cpu_clock import CpuMeter
from benchmarks.lean_client import LeanClient
from benchmarks.processes import Gateway, ModelServers, Stage
from igw.picker_state import PickerState, read_page, read_state

ALONE: Final = "envoy-alone"
CONSTANT: Final = "constant-picker"
OWN_SERVER: Final = "constant-picker-own-server"
GATEWAY: Final = "gateway"
RARE_PAGES: Final = "gateway-rare-pages"
"""The gateway with metrics pages read as seldom as it can be told to."""
ARMS: Final = (ALONE, CONSTANT, OWN_SERVER, GATEWAY)

_RARELY: Final = ("--scrape-busy-seconds", "5", "--scrape-idle-seconds", "5")

PICKER: Final = "picker"
ENVOY: Final = "envoy"
CLIENT: Final = "client"
SERVER: Final = "server"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to the model servers.

    Attributes:
        name: For tables.
        gateway: Its processes.
        client: Connections to it.
    """

    name: str
    gateway: Gateway
    client: LeanClient

    async def state(self) -> PickerState:
        """Return what the real picker says of itself."""
        assert self.gateway.admin is not None
        return await read_state(self.gateway.admin.url)


@dataclass(frozen=True, slots=True)
class Arms:
    """All arms with the model servers they share."""

    servers: ModelServers
    by_name: Mapping[str, Arm]

    async def counts(self) -> Mapping[str, int]:
        """Return how often the model servers were asked for what."""
        counts: Mapping[str, int] = json.loads(await read_page(self.servers.addresses[0].url, "/counts"))
        return counts

    async def release(self) -> None:
        """Let all quiet streams end."""
        await read_page(self.servers.addresses[0].url, "/release")


@asynccontextmanager
async def open_arms(
    stage: Stage, endpoints: int, *, gap_ms: float = 2.0, names: tuple[str, ...] = ARMS
) -> AsyncIterator[Arms]:
    """Start model servers and the arms of *names* before them."""
    servers = await stage.fast_servers(endpoints, gap_ms=gap_ms)
    async with AsyncExitStack() as stack:
        arms = {}
        for name in names:
            if name == ALONE:
                gateway = await stage.plain_envoy(servers, "round-robin")
            elif name == GATEWAY:
                gateway = await stage.gateway(servers)
            elif name == RARE_PAGES:
                gateway = await stage.gateway(servers, arguments=_RARELY)
            else:
                gateway = await stage.constant_gateway(servers, own_server=name == OWN_SERVER)
            client = await stack.enter_async_context(LeanClient(gateway.listen))
            arms[name] = Arm(name, gateway, client)
        yield Arms(servers, arms)


@dataclass(frozen=True, slots=True)
class Use:
    """What was used over some time.

    Attributes:
        seconds: How long it was.
        cpu_seconds: CPU time by process.
        pages: Metrics pages that were read from the model servers.
    """

    seconds: float
    cpu_seconds: Mapping[str, float]
    pages: int


class UseMeter:
    """Measures one arm, the client (this process) and the model servers from `begin` on."""

    def __init__(self, arms: Arms, name: str) -> None:
        self._arms = arms
        self._pids = {**arms.by_name[name].gateway.pids, SERVER: arms.servers.pids[0]}
        self._pages = 0

    async def begin(self) -> None:
        """Begin to measure."""
        self._pages = (await self._arms.counts())["pages"]
        self._own = time.process_time()
        self._began = time.perf_counter()
        self._meter = CpuMeter(self._pids)

    async def use(self) -> Use:
        """Return what was used since."""
        cpu = self._meter.seconds()
        seconds = time.perf_counter() - self._began
        cpu[CLIENT] = time.process_time() - self._own
        return Use(seconds, cpu, (await self._arms.counts())["pages"] - self._pages)
