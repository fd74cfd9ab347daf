"""The fast model server's page is a real one on which the KV-cache gauge tells when it was made."""

from pathlib import Path

import pytest
from benchmarks.fast_server import MetricsPage, clock_gauge, page_age

from endpoint_picker.datalayer.metrics_page import read_page

SOURCE = (Path(__file__).parents[2] / "data" / "metrics" / "vllm_real.prom").read_bytes()


@pytest.mark.parametrize("now", [0.0, 12.345678, 999.99, 1000.01, 123456.789])
def test_the_age_of_a_page_is_read_off_its_gauge(now: float) -> None:
    gauge = clock_gauge(now)
    assert 0.2 <= gauge < 0.3
    assert page_age(gauge, now + 0.75) == pytest.approx(0.75, abs=1e-6)


def test_a_page_is_as_long_as_the_real_one_and_says_what_changes() -> None:
    page = MetricsPage(SOURCE).render(running=3, now=5000.5)
    metrics = read_page(page, engine="", read_at=0.0, in_flight_when_read=0)
    assert abs(len(page) - len(SOURCE)) < 100
    assert metrics.running_requests == 3
    assert metrics.waiting_queue_size == 0
    assert metrics.kv_cache_utilization == pytest.approx(clock_gauge(5000.5), abs=1e-9)


def test_two_readings_differ() -> None:
    page = MetricsPage(SOURCE)
    assert page.render(0, 1.0) != page.render(0, 2.0)
