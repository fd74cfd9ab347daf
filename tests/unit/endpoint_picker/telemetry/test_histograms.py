"""Our histograms expose what the library's own would, for the same observations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as LibraryHistogram
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from endpoint_picker.telemetry.histograms import Histogram

BOUNDS = (0.0, 0.1, 0.5, 2.0)


def pages(observations: list[tuple[str, float]]) -> tuple[str, str]:
    """Return the page of our histogram and that of the library's."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("h", "Text.", ("model",), buckets=BOUNDS, registry=ours)
    library = LibraryHistogram("h", "Text.", ("model",), buckets=BOUNDS, registry=theirs)
    for model, value in observations:
        mine.labels(model).observe(value)
        library.labels(model).observe(value)
    created = "_created"
    lines = [line for line in generate_latest(theirs).decode().splitlines() if created not in line]
    return generate_latest(ours).decode(), "\n".join(lines) + "\n"


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([*BOUNDS, 0.05, 0.3, 7.0])), max_size=20))
def test_the_page_is_that_of_the_library(observations: list[tuple[str, float]]) -> None:
    ours, theirs = pages(observations)
    assert ours == theirs


def test_the_latest_exemplar_of_a_bucket_is_shown() -> None:
    registry = CollectorRegistry()
    series = Histogram("h", "Text.", buckets=BOUNDS, registry=registry).labels()
    series.observe(0.3, {"trace_id": "old"})
    series.observe(0.4, {"trace_id": "new"})
    series.observe(1.0)
    page = generate_open_metrics(registry).decode()
    [line] = [line for line in page.splitlines() if 'le="0.5"' in line]
    assert '# {trace_id="new"} 0.4' in line
    assert "old" not in page


def test_a_removed_series_is_gone() -> None:
    registry = CollectorRegistry()
    family = Histogram("h", "Text.", ("model",), buckets=BOUNDS, registry=registry)
    family.labels("a").observe(1)
    family.remove("a")
    assert "model" not in generate_latest(registry).decode()


def test_a_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Histogram("h", "Text.", ("model",), buckets=BOUNDS, registry=CollectorRegistry()).labels("a", "b")


def test_two_families_of_one_name_are_refused() -> None:
    registry = CollectorRegistry()
    Histogram("h", "Text.", buckets=BOUNDS, registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("h", "Text.", buckets=BOUNDS, registry=registry)
