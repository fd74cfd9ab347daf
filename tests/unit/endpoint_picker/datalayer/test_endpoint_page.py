"""Where an endpoint's pages are follows from its pool; back-off and staleness follow from the interval."""

import pytest

from endpoint_picker.datalayer.endpoint_page import PageTarget, metrics_target, models_target
from endpoint_picker.datalayer.scraper import ScrapeIntervals
from inference_resolution.resolved import ModelServerTls, PoolKey, ResolvedEndpoint, ResolvedPool

KEY = PoolKey("ns", "pool", "v1")
POD = ResolvedEndpoint(name="pod", namespace="ns", ip="10.0.0.7", port=8000)


def test_plain_pool_is_asked_on_its_own_port() -> None:
    target = metrics_target(ResolvedPool(KEY), POD)
    assert target == PageTarget("10.0.0.7:8000", "http://10.0.0.7:8000", ("/metrics", "/prometheus/metrics"))


def test_ipv6_origin_has_brackets() -> None:
    endpoint = ResolvedEndpoint(name="pod", namespace="ns", ip="fd00::7", port=8000)
    assert metrics_target(ResolvedPool(KEY), endpoint).origin == "http://[fd00::7]:8000"


def test_pool_overrides_reach_the_target() -> None:
    tls = ModelServerTls(verify=True, server_name="models.example")
    pool = ResolvedPool(KEY, tls=tls, api_key="secret", metrics_path="/stats", metrics_port=8002)
    endpoint = ResolvedEndpoint("pod", "ns", "10.0.0.7", 8000, labels={"llm-d.ai/engine-type": "tgi"})
    assert metrics_target(pool, endpoint) == PageTarget(
        "10.0.0.7:8000", "https://10.0.0.7:8002", ("/stats",), "tgi", tls, "models.example", "secret"
    )
    assert models_target(pool, endpoint).origin == "https://10.0.0.7:8000"
    assert models_target(pool, endpoint).paths == ("/v1/models",)


def test_credential_is_not_shown() -> None:
    assert "secret" not in repr(PageTarget("a:1", "http://a:1", api_key="secret"))


def test_target_without_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one path"):
        PageTarget("a:1", "http://a:1", paths=())


@pytest.mark.parametrize(
    ("interval", "failures", "expected"),
    [
        pytest.param(0.2, 1, 0.4, id="first"),
        pytest.param(0.2, 3, 1.6, id="doubles"),
        pytest.param(1.0, 3, 5.0, id="longest"),
        pytest.param(1.0, 10**6, 5.0, id="for-ever"),
    ],
)
def test_back_off(interval: float, failures: int, expected: float) -> None:
    assert ScrapeIntervals().after_failures(interval, failures) == pytest.approx(expected)


def test_timeout_stays_below_an_interval_that_allows_it() -> None:
    intervals = ScrapeIntervals()
    assert intervals.timeout_of(1.0) == pytest.approx(0.8)
    assert intervals.timeout_of(0.2) == pytest.approx(0.5)
    assert intervals.stale_after(1.0) == pytest.approx(3.8)


@pytest.mark.parametrize("values", [(0.0, 1.0, 5.0), (2.0, 1.0, 5.0), (0.2, 6.0, 5.0)])
def test_intervals_out_of_order_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        ScrapeIntervals(*values)
