"""``igw status --watch``: the state of a running gateway, again and again, until Ctrl-C.

On a terminal it is redrawn in place; elsewhere each look is printed below the one before, as JSON one in a line. A
gateway that does not answer is waited for: what was last known of it stays in sight, with how old that is.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from igw import terminal
from igw.admin_token import token_in
from igw.errors import CommandFailed
from igw.picker_state import PickerState, parse_state, read_page
from igw.status import StatusFormat, circuit_lines, endpoint_table, summary_fields
from igw.stop_signals import StopSignals, run_until

_LOST: Final = "bold red"


@dataclass(slots=True)
class Watch:
    """What was seen of a gateway so far.

    Attributes:
        state: The last answer; None before the first.
        page: The same as it came; empty when the last look had no answer.
        problem: Why there was none; empty when there was.
        seen: When the last answer came, by a monotonic clock.
        rates: Requests a second by endpoint address, between the last two answers.
    """

    state: PickerState | None = None
    page: bytes = b""
    problem: str = ""
    seen: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)

    def answered(self, page: bytes, state: PickerState, now: float) -> None:
        """Take an answer."""
        before, self.rates = self.state, {}
        # a picker that was started again counts from zero
        if before is not None and now > self.seen and state.uptime_seconds >= before.uptime_seconds:
            counts = {endpoint.address: endpoint.requests_total for endpoint in before.endpoints}
            self.rates = {
                endpoint.address: max(0, endpoint.requests_total - counts[endpoint.address]) / (now - self.seen)
                for endpoint in state.endpoints
                if endpoint.address in counts
            }
        self.state, self.page, self.problem, self.seen = state, page, "", now

    def missed(self, problem: str) -> None:
        """Note that there was no answer."""
        self.page, self.problem = b"", problem

    def frame(self, now: float, *, wide: bool) -> RenderableType:
        """Return what is to be seen at *now*."""
        state = self.state
        if state is None:
            return Text(f"waiting: {self.problem}", style=_LOST)
        parts: list[RenderableType] = []
        if self.problem:
            parts.append(Text(f"no answer for {now - self.seen:.0f} s: {self.problem}", style=_LOST))
        parts += terminal.field_lines(f"Inference Gateway {state.version}", summary_fields(state))
        for pool in state.pools:
            parts += ["", f"pool {pool.name} ({pool.failure_mode or 'FailClose'})"]
            if not pool.endpoints:
                parts.append("  no endpoints")
                continue
            parts.append(endpoint_table(pool.endpoints, wide=wide, rates=self.rates))
            parts += circuit_lines(pool.endpoints)
        return Group(*parts)


async def watch_status(
    admin_url: str, form: StatusFormat, *, interval_seconds: float, token_file: Path | None = None
) -> None:
    """Show the state every *interval_seconds* until Ctrl-C.

    Raises:
        BadInput: There is no token in *token_file*.
    """
    with StopSignals() as signals:
        await run_until(signals.stop, _show(admin_url, form, interval_seconds, token_file))


async def _show(admin_url: str, form: StatusFormat, interval_seconds: float, token_file: Path | None) -> None:
    try:
        await _show_while_read(admin_url, form, interval_seconds, token_file)
    except SystemExit:
        return  # the console's word for a reader that has gone away, such as `head`


async def _show_while_read(
    admin_url: str, form: StatusFormat, interval_seconds: float, token_file: Path | None
) -> None:
    # drawn by hand: a thread that redraws by itself would draw old numbers
    redraws = terminal.OUT.is_terminal and form is not StatusFormat.JSON
    with Live(console=terminal.OUT, auto_refresh=False) if redraws else nullcontext() as live:
        async for watch in _looks(admin_url, interval_seconds, token_file):
            if form is StatusFormat.JSON:
                _print_json(watch)
                continue
            frame = watch.frame(time.monotonic(), wide=form is StatusFormat.WIDE)
            if live is not None:
                live.update(frame, refresh=True)
            else:
                terminal.OUT.print(frame)
                terminal.OUT.print()


async def _looks(admin_url: str, interval_seconds: float, token_file: Path | None) -> AsyncIterator[Watch]:
    """Look at the gateway again and again; yield what was seen so far after each look."""
    watch = Watch()
    token_in(token_file)
    while True:
        try:
            # the token may have been replaced
            page = await read_page(admin_url, "/debug/state", token=token_in(token_file))
            watch.answered(page, parse_state(page), time.monotonic())
        except CommandFailed as failure:
            watch.missed(str(failure))
        yield watch
        await asyncio.sleep(interval_seconds)


def _print_json(watch: Watch) -> None:
    """Print a look as one line: the page, or why there is none. In ASCII: clients chose some of the text."""
    document = json.loads(watch.page) if watch.page else {"error": watch.problem}
    terminal.OUT.print(json.dumps(document, separators=(",", ":")), soft_wrap=True)
