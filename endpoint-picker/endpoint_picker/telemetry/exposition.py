"""The metrics page in the two forms that Prometheus reads: text, and OpenMetrics, which has exemplars."""

from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as text_page
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics_page

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Page(NamedTuple):
    """A page and its media type."""

    body: bytes
    content_type: str


def expose(registry: CollectorRegistry, accept: str = "") -> Page:
    """Return the page of *registry* in a form that *accept*, an ``Accept`` header, asks for; else as text."""
    if _wants_open_metrics(accept):
        return Page(open_metrics_page(registry), OPEN_METRICS)  # type: ignore[no-untyped-call]
    return Page(text_page(registry), TEXT)


def _wants_open_metrics(accept: str) -> bool:
    """Return whether OpenMetrics is named and no less welcome than text."""
    weights = dict(_weights(accept))
    ours = weights.get("application/openmetrics-text", 0.0)
    return ours > 0 and ours >= weights.get("text/plain", 0.0)


def _weights(accept: str) -> list[tuple[str, float]]:
    found = []
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            found.append((kind, float(weight)))
        except ValueError:
            continue
    return found
