"""What a panel of the dashboard is, and the forms of PromQL that most of them use."""

from dataclasses import dataclass
from typing import Final

ONE: Final = 'job=~"$job"'
MODEL: Final = f'{ONE},model_name=~"$model"'
POOL: Final = f'{ONE},pool=~"$pool"'
NAMED_POOL: Final = f'{ONE},name=~"$pool"'
ENVOY: Final = 'envoy_http_conn_manager_prefix="gateway"'
RATE: Final = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel: PromQL and how its series are called; *exemplars* are the traces behind a histogram."""

    expression: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: What it shows.
        description: How to read it.
        unit: Of Grafana.
        queries: In the order of their legends.
        kind: ``timeseries``, ``stat``, ``heatmap`` or ``state-timeline``.
        stacked: Whether series are stacked.
        most: Upper end of the scale; None: as the data has it.
        warn: Value from which on it is coloured as a warning; None: never.
        bad: The same for bad.
        width: Of 24.
        signed: Whether values below zero are of interest.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    stacked: bool = False
    most: float | None = None
    warn: float | None = None
    bad: float | None = None
    width: int = 8
    signed: bool = False


def quantiles(family: str, selector: str, by: str) -> tuple[Query, ...]:
    """Return three quantiles of a histogram, one series for each value of the label *by*."""

    def of(share: float) -> str:
        return f"histogram_quantile({share}, sum by ({by}, le) (rate({family}_bucket{{{selector}}}{RATE})))"

    return tuple(Query(of(q), f"p{q * 100:g} {{{{{by}}}}}", exemplars=q == 0.5) for q in (0.5, 0.95, 0.99))


def rate(family: str, selector: str, by: str = "") -> str:
    """Return how fast a counter grows a second, summed up, or by the labels *by*."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({family}{{{selector}}}{RATE}))"
