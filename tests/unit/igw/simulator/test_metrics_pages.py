"""Each page parses, and carries the names and labels a picker reads with the values of the engine."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from igw.simulator.engine import Engine
from igw.simulator.engine_settings import EngineSettings
from igw.simulator.metrics_pages import PageSource, metrics_page
from igw.simulator.sequence import SequenceRequest
from igw.simulator.settings import ServerKind
from igw.simulator.statistics import Histogram, ServerStatistics
from igw.simulator.timing import PRESETS

MODEL = 'a "quoted"\\model\n'


def source(*, lora: bool = True) -> PageSource:
    engine = Engine(EngineSettings(num_blocks=101, block_size=16, max_num_seqs=2), PRESETS["fast"].timing)
    for number in range(5):
        engine.submit(SequenceRequest(number, 320, 8, adapter="a" if lora else None))
    engine.step()
    statistics = ServerStatistics(rejected=3)
    for value in (0.002, 0.3, 5000.0):
        statistics.first_token.observe(value)
    statistics.see_adapters(["a"], ["a", "b"], 1000.0)
    statistics.see_adapters(["b"], [], 2000.0)
    return PageSource(MODEL, engine, statistics, 500.0, lora)


def samples(kind: ServerKind, page_source: PageSource) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics_page(kind, page_source)):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param(
            ServerKind.VLLM,
            {
                "vllm:num_requests_running": 2.0,
                "vllm:num_requests_waiting": 3.0,
                "vllm:kv_cache_usage_perc": 0.4,
                "vllm:num_preemptions_total": 0.0,
            },
            id="vllm",
        ),
        pytest.param(
            ServerKind.SGLANG,
            {
                "sglang:num_running_reqs": 2.0,
                "sglang:num_queue_reqs": 3.0,
                "sglang:token_usage": 0.4,
                "sglang:page_size": 16.0,
                "sglang:num_pages": 100.0,
                "sglang:max_total_num_tokens": 1600.0,
            },
            id="sglang",
        ),
        pytest.param(
            ServerKind.TGI,
            {"tgi_batch_current_size": 2.0, "tgi_queue_size": 3.0, "tgi_batch_current_max_tokens": 640.0},
            id="tgi",
        ),
    ],
)
def test_gauges(kind: ServerKind, expected: dict[str, float]) -> None:
    found = samples(kind, source())
    assert {name: found[name][0][1] for name in expected} == expected
    model_labels = {labels.get("model_name") for name in expected for labels, _value in found[name]}
    assert model_labels == ({None} if kind is ServerKind.TGI else {MODEL})


def test_vllm_tells_its_cache_in_labels() -> None:
    [(labels, value)] = samples(ServerKind.VLLM, source())["vllm:cache_config_info"]
    assert (labels["block_size"], labels["num_gpu_blocks"], value) == ("16", "101", 1.0)


def test_vllm_keeps_every_combination_of_adapters_and_the_newest_has_the_largest_value() -> None:
    series = samples(ServerKind.VLLM, source())["vllm:lora_requests_info"]
    newest, _value = max(series, key=lambda one: one[1])
    assert len(series) == 2
    assert newest == {"max_lora": "4", "running_lora_adapters": "b", "waiting_lora_adapters": ""}


def test_without_adapters_the_family_is_absent() -> None:
    assert "vllm:lora_requests_info" not in samples(ServerKind.VLLM, source(lora=False))


def test_histograms_are_cumulative() -> None:
    found = samples(ServerKind.VLLM, source())
    buckets = {labels["le"]: value for labels, value in found["vllm:time_to_first_token_seconds_bucket"]}
    assert (buckets["0.001"], buckets["0.005"], buckets["0.5"], buckets["+Inf"]) == (0.0, 1.0, 2.0, 3.0)
    assert found["vllm:time_to_first_token_seconds_count"][0][1] == 3.0
    assert found["vllm:time_to_first_token_seconds_sum"][0][1] == pytest.approx(5000.302)


def test_tgi_writes_whole_numbers_and_blank_lines() -> None:
    page = metrics_page(ServerKind.TGI, source())
    assert "tgi_queue_size 3\n\n" in page
    assert "# HELP" in page


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.number, histogram.total) == ([1, 2, 1], 4, 7.5)


def test_adapter_series_are_bounded() -> None:
    statistics = ServerStatistics()
    for number in range(5000):
        statistics.see_adapters([f"adapter-{number}"], [], float(number))
    assert len(statistics.adapter_series) == 4096
    assert ("adapter-4999", "") in statistics.adapter_series
