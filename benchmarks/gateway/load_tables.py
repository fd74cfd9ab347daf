"""What passes of requests say, as ratios and tables."""

from collections.abc import Mapping, Sequence

from benchmarks.gateway.arms import ALONE, CLIENT, CONSTANT, ENVOY, GATEWAY, OWN_SERVER, PICKER, Use
from benchmarks.gateway.background import Background
from benchmarks.gateway.loads import Load, LoadFigures
from benchmarks.gateway.tables import Table
from benchmarks.intervals import Estimate, ratios


def floor_ratio(load: Load, background: Mapping[str, Background], floor: str = CONSTANT) -> Estimate:
    """Return the gateway's picker by the constant one of the arm *floor*, net CPU per request."""
    return Estimate.of(ratios(load.net(GATEWAY, PICKER, background), load.net(floor, PICKER, background)))


def net_ratio(above: Load, below: Load, arm: str, background: Mapping[str, Background]) -> Estimate:
    """Return what one load costs the picker of *arm* by what another does, net CPU per request."""
    return Estimate.of(ratios(above.net(arm, PICKER, background), below.net(arm, PICKER, background)))


def _ms(samples: Sequence[float]) -> str:
    return Estimate.of(samples).text(2, 1000.0)


def cpu_table(figures: LoadFigures) -> Table:
    """Return CPU time per request."""
    background = figures.background
    heads = (
        "load",
        "requests/pass",
        "picker gross",
        "picker net",
        "constant picker",
        "net by it",
        "constant, own server",
        "net by it",
        "Envoy",
        "Envoy, constant picker",
        "Envoy alone",
    )
    rows = [
        (
            load.name,
            str(load.requests),
            _ms(load.gross(GATEWAY, PICKER)),
            _ms(load.net(GATEWAY, PICKER, background)),
            *(
                text
                for floor in (CONSTANT, OWN_SERVER)
                for text in (_ms(load.net(floor, PICKER, background)), floor_ratio(load, background, floor).text())
            ),
            *(_ms(load.net(arm, ENVOY, background)) for arm in (GATEWAY, CONSTANT, ALONE)),
        )
        for load in figures.loads
    ]
    return Table("CPU time per request, ms", heads, rows)


def latency_table(figures: LoadFigures) -> Table:
    """Return times to the first byte."""
    heads = (
        "load",
        "alone p50",
        "alone p99",
        "+p50",
        "+p99",
        "requests/s",
        "alone requests/s",
        "cores used with the gateway",
    )
    rows = [
        (
            load.name,
            _ms([one.ttfb.p50 for one in load.passes[ALONE]]),
            _ms([one.ttfb.p99 for one in load.passes[ALONE]]),
            _ms(load.added("p50")),
            _ms(load.added("p99")),
            f"{Estimate.of(load.rates(GATEWAY)).median:.0f}",
            f"{Estimate.of(load.rates(ALONE)).median:.0f}",
            _cores([one.use for one in load.passes[GATEWAY]]),
        )
        for load in figures.loads
    ]
    return Table("Time to the first byte, ms: Envoy alone, and what the gateway adds", heads, rows)


def _cores(uses: Sequence[Use]) -> str:
    """Return the medians of what each process used, as shares of a core."""

    def share(name: str) -> float:
        return Estimate.of([use.cpu_seconds[name] / use.seconds for use in uses]).median

    return ", ".join(f"{name} {share(name):.2f}" for name in (PICKER, ENVOY, CLIENT))


def background_table(figures: LoadFigures) -> Table:
    """Return what is used without requests."""
    background = figures.background

    def cores(arm: str, process: str, *, busy: bool) -> str:
        windows = [w.uses[arm] for w in figures.windows if w.busy is busy]
        return Estimate.of([use.cpu_seconds[process] / use.seconds for use in windows]).text(4)

    def pages(*, busy: bool) -> str:
        uses = [w.uses[GATEWAY] for w in figures.windows if w.busy is busy]
        return Estimate.of([use.pages / use.seconds for use in uses]).text(1)

    columns = ((GATEWAY, PICKER), (CONSTANT, PICKER), (GATEWAY, ENVOY), (ALONE, ENVOY))
    rows = [
        (name, pages(busy=busy), *(cores(arm, process, busy=busy) for arm, process in columns))
        for name, busy in (("idle", False), ("a quiet stream at every endpoint", True))
    ]
    own = background[GATEWAY]
    note = (
        f"Taken off for net figures: {own.picker_per_page * 1000:.2f} ms of the picker per page and "
        f"{own.picker_per_second * 1000:.2f} ms per second;\n"
        f"{background[CONSTANT].picker_per_second * 1000:.2f} ms of the constant picker per second; "
        f"{own.envoy_per_second * 1000:.2f} ms of the gateway's Envoy per second."
    )
    heads = ("", "pages/s", "picker", "constant picker", "Envoy", "Envoy alone")
    return Table("What is used without requests, cores", heads, rows, note)
