"""A metrics page gives the facts it holds; what it lacks or garbles is unknown, never zero, and never an exception."""

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.datalayer.metrics_page import MAX_RANKS, MAX_SERIES, read_page, tells_load
from endpoint_picker.domain.endpoint import EndpointMetrics

PAGES = Path(__file__).parents[3] / "data" / "metrics"
EXPECTED = json.loads((PAGES / "expected.json").read_text())
CAPTURED = {path.name: path.read_bytes() for path in PAGES.glob("*.prom")}


def read(page: bytes | str, engine: str = "") -> EndpointMetrics:
    data = page.encode() if isinstance(page, str) else page
    return read_page(data, engine=engine, read_at=7.5, in_flight_when_read=3)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "edge_cases.prom"])
def test_page_is_read_as_recorded(name: str) -> None:
    expected = EXPECTED[name]
    metrics = read(CAPTURED[name])

    assert metrics.engine == expected["engine"]
    assert metrics.waiting_queue_size == expected.get("queue", expected.get("queue_sum"))
    assert metrics.running_requests == expected.get("running", expected.get("running_sum"))
    usage = expected.get("kv_usage", expected.get("kv_usage_max"))
    assert metrics.kv_cache_utilization == (None if usage is None else pytest.approx(usage))
    assert metrics.kv_block_size == expected.get("block_size")
    assert metrics.kv_blocks == expected.get("num_blocks", expected.get("num_blocks_per_rank"))
    assert metrics.max_loras == expected.get("max_loras")
    assert metrics.running_loras == set(expected.get("running_loras", ()))
    assert metrics.waiting_loras == set(expected.get("waiting_loras", ()))
    if "model" in expected:
        assert metrics.model == expected["model"]
    if "preemptions" in expected:
        assert metrics.preemptions == expected["preemptions"]
    assert (metrics.read_at, metrics.in_flight_when_read) == (7.5, 3)
    assert tells_load(metrics)


def test_edge_cases_are_read_where_they_can_be() -> None:
    metrics = read(CAPTURED["edge_cases.prom"])
    assert (metrics.waiting_queue_size, metrics.running_requests) == (3, 12)
    assert metrics.kv_cache_utilization is None
    assert metrics.model == 'org/we"ird\\name, with=comma}brace'


@pytest.mark.parametrize("name", sorted(CAPTURED))
def test_line_ends_and_a_missing_last_one_make_no_difference(name: str) -> None:
    page = CAPTURED[name]
    assert read(page.replace(b"\n", b"\r\n")) == read(page)
    assert read(page.rstrip(b"\n")) == read(page)


@pytest.mark.parametrize(
    ("line", "waiting"),
    [
        pytest.param("vllm:num_requests_waiting 4", 4, id="first-line-without-labels-or-end"),
        pytest.param("vllm:num_requests_waiting\t4", 4, id="tab"),
        pytest.param("vllm:num_requests_waiting{} 4", 4, id="no-labels-in-braces"),
        pytest.param('vllm:num_requests_waiting{a="b"}4', 4, id="no-space-after-brace"),
        pytest.param('vllm:num_requests_waiting { a = "b" , } 4 1763120402771', 4, id="spaces-and-timestamp"),
        pytest.param('vllm:num_requests_waiting{a="}"} 4 1763120402.5', 4, id="brace-in-value-float-timestamp"),
        pytest.param('vllm:num_requests_waiting{a="b"} 4 # {trace_id="x"} 1 2', 4, id="exemplar"),
        pytest.param('vllm:num_requests_waiting{a="\\"} 9"} 4', 4, id="escaped-quote"),
        pytest.param("vllm:num_requests_waiting +4.0e0", 4, id="exponent-and-sign"),
        pytest.param("vllm:num_requests_waiting .4e1", 4, id="no-leading-digit"),
        pytest.param("vllm:num_requests_waiting 4\n# EOF", 4, id="open-metrics-end"),
        pytest.param("vllm:num_requests_waiting -1", None, id="negative-means-no-data"),
        pytest.param("vllm:num_requests_waiting NaN", None, id="nan"),
        pytest.param("vllm:num_requests_waiting +Inf", None, id="infinite"),
        pytest.param("vllm:num_requests_waiting 1e400", None, id="overflow"),
        pytest.param("vllm:num_requests_waiting 1e30", None, id="too-large-to-count"),
        pytest.param("vllm:num_requests_waiting 0x10", None, id="hexadecimal"),
        pytest.param("vllm:num_requests_waiting 1_0", None, id="underscore"),
        pytest.param("vllm:num_requests_waiting", None, id="no-value"),
        pytest.param('vllm:num_requests_waiting{a="b} 4', None, id="unclosed-quote"),
        pytest.param('vllm:num_requests_waiting{a="b" 4', None, id="unclosed-brace"),
        pytest.param("vllm:num_requests_waiting 4 5 6", None, id="trailing-word"),
        pytest.param('vllm:num_requests_waiting_by_reason{reason="x"} 4', None, id="longer-name"),
        pytest.param("my_vllm:num_requests_waiting 4\nvllm:x 1", None, id="longer-prefix"),
        pytest.param("# vllm:num_requests_waiting 4\nvllm:x 1", None, id="comment"),
    ],
)
def test_line(line: str, waiting: int | None) -> None:
    assert read(line, "vllm").waiting_queue_size == waiting


def test_malformed_line_costs_itself_only() -> None:
    page = (
        'vllm:num_requests_waiting{engine="0 3\nvllm:num_requests_waiting{engine="1"} 2\nvllm:num_requests_running 5\n'
    )
    metrics = read(page)
    assert (metrics.waiting_queue_size, metrics.running_requests) == (2, 5)


def test_an_unknown_rank_makes_a_sum_unknown_but_not_the_fullest() -> None:
    metrics = read(
        'vllm:num_requests_waiting{engine="0"} 3\nvllm:num_requests_waiting{engine="1"} NaN\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} NaN\n'
    )
    assert metrics.waiting_queue_size is None
    assert metrics.kv_cache_utilization == 0.25


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param("0.0", 0.0, id="empty"),
        pytest.param("1.0000001", 1.0, id="rounding"),
        pytest.param("37.5", None, id="percent"),
        pytest.param("-0.1", None, id="negative"),
    ],
)
def test_utilization(usage: str, expected: float | None) -> None:
    assert read(f"sglang:token_usage {usage}\n").kv_cache_utilization == expected


def test_newest_adapter_state_wins_wherever_it_stands() -> None:
    line = 'vllm:lora_requests_info{max_lora="%s",running_lora_adapters="%s",waiting_lora_adapters="%s"} %s\n'
    states = [("4", "a", "b", "10.5"), ("4", "b , c,,", "a", "1.2e1"), ("4", "x", "", "11"), ("4", "z", "", "NaN")]
    for order in (states, states[::-1]):
        metrics = read("".join(line % state for state in order))
        assert (metrics.max_loras, metrics.running_loras, metrics.waiting_loras) == (4, {"b", "c"}, {"a"})


def test_idle_server_with_adapters_has_slots_and_no_adapters() -> None:
    metrics = read('vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} 1\n')
    assert (metrics.max_loras, metrics.running_loras, metrics.waiting_loras) == (2, set(), set())


def test_capacity_label_without_a_number_is_unknown() -> None:
    metrics = read('vllm:cache_config_info{note="x, block_size=",block_size="None",num_gpu_blocks="0"} 1.0\n')
    assert (metrics.kv_block_size, metrics.kv_blocks) == (None, None)


def test_older_triton_is_read_by_difference_and_ratio() -> None:
    page = CAPTURED["triton_trtllm.prom"]
    older = b"\n".join(
        line for line in page.split(b"\n") if b'request_type="waiting"' not in line and b'type="fraction"' not in line
    )
    metrics = read(older)
    assert metrics.waiting_queue_size == 47 - 41
    assert metrics.kv_cache_utilization == pytest.approx(3350 / 6239)


def test_older_sglang_has_its_capacity_in_labels() -> None:
    metrics = read('sglang:cache_config_info{page_size="16",num_pages="100"} 1\n')
    assert (metrics.kv_block_size, metrics.kv_blocks) == (16, 100)


def test_tensor_parallel_copies_count_once_and_data_parallel_ranks_each() -> None:
    line = 'sglang:num_queue_reqs{dp_rank="%d",tp_rank="%d"} %d\n'
    page = "".join(line % values for values in [(0, 0, 5), (0, 1, 5), (1, 0, 2), (1, 1, 2)])
    assert read(page).waiting_queue_size == 7


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'[{"gpuMemUsage": 1, "iter": 3}, {"numActiveRequests": 2}]', id="json"),
        pytest.param(b"<html>vllm:num_requests_waiting 3</html>", id="html"),
        pytest.param(b"python_info 1\nprocess_cpu_seconds_total 3\n", id="another-exporter"),
    ],
)
def test_page_of_no_known_engine_says_so(page: bytes) -> None:
    metrics = read(page)
    assert metrics.engine == ""
    assert not tells_load(metrics)


def test_renamed_metrics_are_told_from_an_idle_server() -> None:
    metrics = read('vllm:requests_in_queue{engine="0"} 0\nvllm:lora_requests_info{max_lora="2"} 1\n')
    assert metrics.engine == "vllm"
    assert metrics.waiting_queue_size is None
    assert not tells_load(metrics)


def test_named_engine_is_read_though_another_comes_first() -> None:
    page = "vllm:num_requests_waiting 3\nsglang:num_queue_reqs 5\n"
    assert read(page).waiting_queue_size == 3
    assert read(page, "sglang").waiting_queue_size == 5


def test_page_of_another_engine_than_named_is_not_recognised() -> None:
    assert read(CAPTURED["vllm.prom"], "tgi").engine == ""


def test_too_many_series_are_unknown_rather_than_a_part() -> None:
    line = 'vllm:num_requests_waiting{engine="%d"} 1\n'
    assert read("".join(line % rank for rank in range(MAX_RANKS))).waiting_queue_size == MAX_RANKS
    assert read("".join(line % rank for rank in range(MAX_RANKS + 1))).waiting_queue_size is None
    states = 'vllm:lora_requests_info{max_lora="2",running_lora_adapters="a"} 1\n' * (MAX_SERIES + 1)
    assert read(states).max_loras is None


def test_large_page_is_read_in_bounded_time() -> None:
    page = CAPTURED["vllm_dp.prom"] + b'vllm:request_latency_bucket{engine="0",le="0.5"} 17.0\n' * 1000
    before = time.process_time()
    for _ in range(5):
        read(page)
    assert (time.process_time() - before) / 5 < 0.02


HOSTILE_BYTES = 200_000


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("vllm:num_requests_waiting " + "1" * HOSTILE_BYTES + "x", id="digits-that-end-in-a-letter"),
        pytest.param('vllm:cache_config_info{block_size="' + "1" * HOSTILE_BYTES + 'x"} 1', id="digits-in-a-label"),
        pytest.param(("vllm:num_requests_waiting{" + "a" * 60_000 + "} 1\n") * 4, id="names-without-values"),
        pytest.param("vllm:num_requests_waiting{" + "a= " * HOSTILE_BYTES + "} 1", id="names-with-half-a-value"),
        pytest.param("vllm:num_requests_waiting{" + '""' * HOSTILE_BYTES + "} 1", id="quotes"),
        pytest.param("vllm:num_requests_waiting{" + 'a="' * HOSTILE_BYTES, id="quotes-that-never-end"),
        pytest.param("vllm:num_requests_waiting " + " " * HOSTILE_BYTES + "x y z", id="spaces"),
        pytest.param("vllm:num_requests_waiting 1 " + "1" * HOSTILE_BYTES + "x", id="a-timestamp-of-digits"),
        pytest.param("\n" * HOSTILE_BYTES + "vllm:", id="line-ends"),
    ],
)
def test_no_page_takes_time_out_of_proportion_to_its_size(line: str) -> None:
    before = time.process_time()
    for engine in ("", "vllm"):
        read(line, engine)
    assert time.process_time() - before < 2  # milliseconds, unless time grows with the square of the size


def plausible(metrics: EndpointMetrics) -> bool:
    counts = (metrics.waiting_queue_size, metrics.running_requests, metrics.kv_block_size, metrics.kv_blocks)
    usage = metrics.kv_cache_utilization
    return all(count is None or count >= 0 for count in counts) and (
        usage is None or (math.isfinite(usage) and 0 <= usage <= 1)
    )


@given(st.binary(max_size=400), st.sampled_from(["", "vllm", "sglang", "nonsense"]))
def test_any_bytes_are_read_without_raising(page: bytes, engine: str) -> None:
    assert plausible(read(page, engine))


SAMPLE_TEXT = st.text(alphabet='{}"\\,= \t\r\n#0123456789.eE+-NaIinfxyz', max_size=40)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "vllm:num_requests_waiting",
                    "vllm:kv_cache_usage_perc",
                    "vllm:cache_config_info",
                    "vllm:lora_requests_info",
                    "sglang:num_queue_reqs",
                    "nv_trt_llm_request_metrics",
                ]
            ),
            SAMPLE_TEXT,
        ),
        max_size=8,
    )
)
def test_garbled_lines_are_read_without_raising(lines: list[tuple[str, str]]) -> None:
    assert plausible(read("".join(f"{name}{rest}\n" for name, rest in lines)))


@given(st.sampled_from(sorted(CAPTURED)), st.data())
def test_mutated_pages_are_read_without_raising(name: str, data: st.DataObject) -> None:
    needed = [line for line in CAPTURED[name].split(b"\n") if b"_bucket" not in line and not line.startswith(b"#")]
    page = bytearray(b"\n".join(needed))
    for _ in range(data.draw(st.integers(1, 12))):
        page[data.draw(st.integers(0, len(page) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(page)))
    assert plausible(read(bytes(page[:cut])))
