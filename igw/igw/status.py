"""``igw status``: what a running gateway serves and how its endpoints are."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from rich.table import Table

from igw import terminal
from igw.admin_token import token_in
from igw.picker_state import EndpointState, PickerState, parse_state, read_page

_WIDE: Final = 200
_REASONS: Final[Mapping[str, str]] = {
    "failures": "several attempts in a row failed",
    "error-share": "too many of the recent attempts failed",
    "silent": "nothing came from it in the time an attempt has",
    "unreachable": "it cannot be reached",
    "overloaded": "it has too much to do",
}


class StatusFormat(StrEnum):
    """How the state is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


async def show_status(admin_url: str, form: StatusFormat, *, token_file: Path | None = None) -> None:
    """Print the state of the gateway whose admin pages are at *admin_url*; *token_file* holds their token.

    Raises:
        BadInput: There is no token in *token_file*.
        CommandFailed: None answers there.
    """
    page = await read_page(admin_url, "/debug/state", token=token_in(token_file))
    state = parse_state(page)
    if form is StatusFormat.JSON:
        # As it came: scripts see fields that this version does not know. In ASCII: clients chose some of the text.
        terminal.OUT.print(json.dumps(json.loads(page), indent=2), soft_wrap=True)
        return
    terminal.print_fields(f"Inference Gateway {state.version}", summary_fields(state))
    for pool in state.pools:
        terminal.OUT.print(f"\npool {pool.name} ({pool.failure_mode or 'FailClose'})", soft_wrap=True)
        if not pool.endpoints:
            terminal.OUT.print("  no endpoints")
            continue
        wide = form is StatusFormat.WIDE
        # Wide means what it says: lines may be longer than the terminal.
        width = _WIDE if wide else None
        terminal.OUT.print(endpoint_table(pool.endpoints, wide=wide), width=width, soft_wrap=wide)
        for line in circuit_lines(pool.endpoints):
            terminal.OUT.print(line, soft_wrap=True)


def endpoint_table(
    endpoints: tuple[EndpointState, ...], *, wide: bool, rates: Mapping[str, float] | None = None
) -> Table:
    """Return a table of *endpoints* that fits 80 columns unless *wide*; unknown values show as a dash.

    With *rates*, requests a second by address, it shows these instead of all requests so far.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("endpoint", overflow="fold")
    table.add_column("state")
    for title in ("reqs" if rates is None else "req/s", "active", "queue", "KV %", "TTFT p50", "p90", "tok/s"):
        table.add_column(title, justify="right")
    if wide:
        for title in ("name", "engine", "running", "metrics age"):
            table.add_column(title, overflow="fold")
    for endpoint in endpoints:
        metrics = endpoint.metrics
        cells = [
            endpoint.address,
            _state(endpoint),
            str(endpoint.requests_total) if rates is None else rate(rates.get(endpoint.address)),
            str(endpoint.in_flight),
            number(metrics.waiting_queue_size if metrics else None),
            percent(metrics.kv_cache_utilization if metrics else None),
            seconds(endpoint.ttft_p50_seconds),
            seconds(endpoint.ttft_p90_seconds),
            number(endpoint.tokens_per_second),
        ]
        if wide:
            cells += [
                endpoint.name or "-",
                (metrics.engine if metrics else "") or "-",
                number(metrics.running_requests if metrics else None),
                seconds(metrics.age_seconds if metrics else None),
            ]
        table.add_row(*cells)
    return table


def circuit_lines(endpoints: tuple[EndpointState, ...]) -> Iterator[str]:
    """Yield one line about each endpoint whose circuit is not closed."""
    for endpoint in endpoints:
        circuit = endpoint.circuit
        if circuit is None or circuit.state == "closed":
            continue
        until = "" if circuit.until_seconds is None else f" for {circuit.until_seconds:.0f} s more"
        reason = circuit.reason or "-"
        yield f"  {endpoint.address} is {circuit.state}{until}: {_REASONS.get(reason, reason)}"


def _state(endpoint: EndpointState) -> str:
    if endpoint.circuit is not None and endpoint.circuit.state != "closed":
        return "probing" if endpoint.circuit.state == "half-open" else endpoint.circuit.state
    return "healthy" if endpoint.healthy else "ejected"


def number(value: float | None) -> str:
    """Return *value* as a whole number, a dash where it is unknown."""
    return "-" if value is None else f"{value:.0f}"


def rate(value: float | None) -> str:
    """Return how often something happens in a second, a dash where it is unknown."""
    return "-" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def percent(fraction: float | None) -> str:
    """Return a fraction as per cent, a dash where it is unknown."""
    return "-" if fraction is None else f"{fraction * 100:.0f}"


def seconds(value: float | None) -> str:
    """Return a duration in ms below one second and in s above, a dash where it is unknown."""
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def summary_fields(state: PickerState) -> list[tuple[str, str]]:
    """Return what is to be said of the gateway as a whole, with the names of it."""
    configuration = state.configuration
    models = [
        f"{model.name} → {model.pool_name}"
        + (f" as {', '.join(model.targets)}" if set(model.targets) - {model.name} else "")
        for model in state.models
    ]
    fields = [
        ("up", f"{state.uptime_seconds:.0f} s{'' if state.synced else ', not yet synced'}"),
        ("manifests", "accepted" if configuration.accepted else f"last edit refused: {configuration.error}"),
        ("models", terminal.joined(models) or "none: any model name is passed on"),
    ]
    return fields + [("problem", problem) for problem in state.problems]
