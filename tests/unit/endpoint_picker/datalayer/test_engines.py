"""The table of engines: every name carries its engine's prefix, and labels override what is found on a page."""

import pytest

from endpoint_picker.datalayer.engines import DEFAULT_PATHS, ENGINES, Engine, engine_of_labels, metrics_paths


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_metric_name_carries_the_prefix_of_its_engine(engine: Engine) -> None:
    assert engine.metric_names
    assert all(name.startswith(engine.prefix) for name in engine.metric_names)


@pytest.mark.parametrize(
    ("labels", "engine"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"inferencegateway.dev/engine-type": "sglang"}, "sglang", id="ours"),
        pytest.param({"llm-d.ai/engine-type": " TGI "}, "tgi", id="untidy"),
        pytest.param(
            {"inference.networking.k8s.io/engine-type": "triton-tensorrt-llm"}, "triton-trtllm", id="reference"
        ),
        pytest.param(
            {"inferencegateway.dev/engine-type": "vllm", "llm-d.ai/engine-type": "tgi"}, "vllm", id="ours-goes-first"
        ),
        pytest.param(
            {"inferencegateway.dev/engine-type": "abacus", "llm-d.ai/engine-type": "tgi"},
            "tgi",
            id="unknown-is-skipped",
        ),
    ],
)
def test_engine_of_labels(labels: dict[str, str], engine: str) -> None:
    assert engine_of_labels(labels) == engine


@pytest.mark.parametrize(
    ("engine", "path", "expected"),
    [
        pytest.param("vllm", "", ("/metrics",), id="by-engine"),
        pytest.param("trtllm-serve", "", ("/prometheus/metrics", "/metrics"), id="two-candidates"),
        pytest.param("", "", DEFAULT_PATHS, id="unknown-engine"),
        pytest.param("vllm", "/stats", ("/stats",), id="given"),
    ],
)
def test_metrics_paths(engine: str, path: str, expected: tuple[str, ...]) -> None:
    assert metrics_paths(engine, path=path) == expected
