"""The demo's table: every endpoint with its traffic, redrawn in place on a terminal, printed now and then elsewhere."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from rich.live import Live
from rich.table import Table

from igw import terminal
from igw.demo.outcomes import Tally, summarise
from igw.demo.servers import DemoServer
from igw.errors import CommandError
from igw.picker_state import EndpointState, PickerState, read_state
from igw.status import number, percent, seconds
from igw.stop_signals import set_within

_REDRAW_SECONDS: Final = 0.5
_PRINT_SECONDS: Final = 4.0


def load_table(state: PickerState, servers: Sequence[DemoServer], tally: Tally, *, down: frozenset[str]) -> Table:
    """Return the table; *down* holds the names of servers that are dead at the moment."""
    endpoints: Mapping[str, EndpointState] = {endpoint.address: endpoint for endpoint in state.endpoints}
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", caption=summarise(tally))
    table.add_column("model", overflow="fold")
    table.add_column("endpoint", overflow="fold")
    for title in ("engine", "requests", "queue", "KV %", "TTFT p50", "p90", "tok/s"):
        table.add_column(title, justify="left" if title == "engine" else "right")
    for server in servers:
        endpoint = endpoints.get(str(server.at))
        metrics = endpoint.metrics if endpoint else None
        table.add_row(
            server.client_model,
            str(server.at),
            "killed" if server.name in down else server.engine,
            number(endpoint.requests_total if endpoint else None),
            number(metrics.waiting_queue_size if metrics else None),
            percent(metrics.kv_cache_utilization if metrics else None),
            seconds(endpoint.ttft_p50_seconds if endpoint else None),
            seconds(endpoint.ttft_p90_seconds if endpoint else None),
            number(endpoint.tokens_per_second if endpoint else None),
            style="dim" if server.name in down else None,
        )
    return table


class LiveTable:
    """Shows the table of a running gateway.

    Attributes:
        down: Names of servers that are dead at the moment.
    """

    def __init__(self, admin_url: str, servers: Sequence[DemoServer], tally: Tally) -> None:
        self.down: frozenset[str] = frozenset()
        self._admin_url = admin_url
        self._servers = servers
        self._tally = tally

    async def show(self, until: asyncio.Event) -> None:
        """Show it until *until* is set, and once more then."""
        if not terminal.OUT.is_terminal:
            while not await set_within(until, _PRINT_SECONDS):
                await self._print()
            await self._print()
            return
        # Drawn by hand: a thread that redraws by itself would draw old numbers.
        with Live(console=terminal.OUT, auto_refresh=False) as live:
            while True:
                table = await self._draw()
                if table is not None:
                    live.update(table, refresh=True)
                if until.is_set():
                    return
                await set_within(until, _REDRAW_SECONDS)

    async def _print(self) -> None:
        table = await self._draw()
        if table is not None:
            terminal.OUT.print(table)
            terminal.OUT.print()

    async def _draw(self) -> Table | None:
        try:
            state = await read_state(self._admin_url)
        except CommandError:
            return None
        return load_table(state, self._servers, self._tally, down=self.down)
