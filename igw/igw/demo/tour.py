"""The course of the demo: load, a server that is killed and comes back, and a look at what came of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from igw import terminal
from igw.child import Child
from igw.demo import checks
from igw.demo.live_table import LiveTable
from igw.demo.load import Load, list_models
from igw.demo.outcomes import summarise
from igw.demo.servers import DemoServer, server_process
from igw.errors import CommandFailed
from igw.picker_state import PickerState, read_page, read_state
from igw.supervisor import Supervisor

API_KEY: Final = "demo"
_RETURN_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Timeline:
    """How long each part of the load lasts, in seconds: before the kill, while the server is dead, after its return."""

    before_kill: float
    dead: float
    after_return: float


BRIEF: Final = Timeline(before_kill=3.0, dead=2.5, after_return=3.0)
UNHURRIED: Final = Timeline(before_kill=8.0, dead=6.0, after_return=8.0)


class Tour:
    """One run of the demo against a gateway that is ready.

    Args:
        supervisor: Owns the servers.
        servers: The servers and their processes, the first one being the one to kill.
        base_url: The gateway's address for clients, with ``/v1``.
        admin_url: The picker's admin pages.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        servers: Sequence[tuple[DemoServer, Child]],
        *,
        base_url: str,
        admin_url: str,
    ) -> None:
        self._supervisor = supervisor
        self._servers = [server for server, _ in servers]
        self._victim, self._victim_process = servers[0]
        self._base_url = base_url
        self._admin_url = admin_url
        self._models = list(dict.fromkeys(server.client_model for server in self._servers))
        self._load = Load(base_url, api_key=API_KEY, models=self._models)
        self._table = LiveTable(admin_url, self._servers, self._load.tally)

    async def run(self, timeline: Timeline) -> list[str]:
        """Go through the whole course; return what was wrong, empty if nothing was."""
        wrong = checks.check_models(await list_models(self._base_url, API_KEY), self._models)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._table.show(over))
            async with asyncio.TaskGroup() as load:
                load.create_task(self._load.run())
                wrong += await self._kill_and_revive(timeline)
                self._load.finish()
            state = await self._settled_state()
            over.set()
        terminal.OUT.print(summarise(self._load.tally))
        wrong += checks.check_requests(self._load.tally, self._models)
        wrong += checks.check_endpoints(state, self._servers)
        page = await read_page(self._admin_url, "/metrics")
        return wrong + checks.check_usage(page.decode(errors="replace"), self._models)

    async def _kill_and_revive(self, timeline: Timeline) -> list[str]:
        victim = self._victim
        await asyncio.sleep(timeline.before_kill)
        terminal.print_event(f"killing server {victim.name} ({victim.at}) under load")
        self._table.down = frozenset({victim.name})
        self._load.server_killed()
        await self._supervisor.kill(self._victim_process)
        await asyncio.sleep(timeline.dead)
        try:
            self._victim_process = await self._supervisor.start(
                server_process(victim), in_place_of=self._victim_process
            )
        except CommandFailed as failure:
            return [f"server {victim.name} could not be revived: {failure}"]
        self._table.down = frozenset()
        served = await self._served_by_victim()
        terminal.print_event(f"server {victim.name} is back")
        wrong = []
        if not await self._victim_serves_again(served):
            wrong.append(f"server {victim.name} ({victim.at}) got no request in {_RETURN_SECONDS:g} s after its return")
        await asyncio.sleep(timeline.after_return)
        return wrong

    async def _victim_serves_again(self, served: int) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RETURN_SECONDS
        while loop.time() < deadline:
            if await self._served_by_victim() > served:
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    async def _served_by_victim(self) -> int:
        state = await read_state(self._admin_url)
        return sum(e.requests_total for e in state.endpoints if e.address == str(self._victim.at))

    async def _settled_state(self) -> PickerState:
        """Return the state once nothing is in flight any more, or after a while."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SETTLE_SECONDS
        while True:
            state = await read_state(self._admin_url)
            if loop.time() > deadline or not any(endpoint.in_flight for endpoint in state.endpoints):
                return state
            await asyncio.sleep(_POLL_SECONDS)
