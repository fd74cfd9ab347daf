"""The demo's judgement: only streams cut by a kill are forgiven, and everything else that is off is named."""

import importlib.resources

import pytest

from igw.demo import checks
from igw.demo.outcomes import Outcome, Tally, summarise
from igw.demo.servers import DemoServer, endpoint_slices
from igw.listen_address import ListenAddress
from igw.picker_state import EndpointState, PickerState, PoolState
from inference_api.manifests import parse_manifests

SERVER = DemoServer("llama-0", "llama", "m", "m", "vllm", ListenAddress("127.0.0.1", 7001))


def state(**endpoint: object) -> PickerState:
    found = EndpointState.model_validate({"address": "127.0.0.1:7001", "requests_total": 5} | endpoint)
    return PickerState(pools=(PoolState(name="demo/llama:v1", endpoints=(found,)),))


@pytest.mark.parametrize(
    ("kind", "ended_at", "ok", "cut", "failed"),
    [
        pytest.param("ok", 1.0, 1, 0, 0, id="answered"),
        pytest.param("failed", 11.0, 0, 0, 1, id="failed-before-the-first-token-even-after-a-kill"),
        pytest.param("cut", 9.9, 0, 0, 1, id="cut-before-any-kill"),
        pytest.param("cut", 10.1, 0, 1, 0, id="cut-by-the-kill"),
        pytest.param("cut", 20.0, 0, 0, 1, id="cut-long-after"),
    ],
)
def test_what_counts_as_what(kind: str, ended_at: float, ok: int, cut: int, failed: int) -> None:
    tally = Tally(kills=[10.0])
    tally.add(Outcome("m", kind, ended_at, "" if kind == "ok" else "broken"))  # type: ignore[arg-type]
    assert (tally.ok.total(), tally.cut, tally.failed) == (ok, cut, failed)


def test_summary_names_cut_streams_only_if_there_are_any() -> None:
    tally = Tally(kills=[0.0])
    tally.add(Outcome("m", "ok", 1.0))
    assert summarise(tally) == "1 requests answered, 0 failed"
    tally.add(Outcome("m", "cut", 1.0, "gone"))
    assert summarise(tally) == "1 requests answered, 1 begun stream cut by the kill, 0 failed"


def test_equal_failures_are_named_once_with_their_number() -> None:
    tally = Tally()
    for _ in range(3):
        tally.add(Outcome("m", "failed", 1.0, "Boom: no"))
    assert checks.check_requests(tally, []) == ["request failed: 3 × m: Boom: no"]  # noqa: RUF001 - a count


def test_a_model_that_was_hardly_answered_is_wrong() -> None:
    assert checks.check_requests(Tally(), ["m"]) == ["only 0 requests for m were answered"]


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        pytest.param(state(), [], id="all-well"),
        pytest.param(PickerState(), ["server llama-0 (127.0.0.1:7001) is no endpoint of the gateway"], id="missing"),
        pytest.param(state(requests_total=0), ["server llama-0 (127.0.0.1:7001) got no request"], id="no-traffic"),
        pytest.param(
            state(in_flight=2),
            ["server llama-0 (127.0.0.1:7001) still counts 2 requests in flight"],
            id="work-that-never-ended",
        ),
    ],
)
def test_endpoints(found: PickerState, wrong: list[str]) -> None:
    assert checks.check_endpoints(found, [SERVER]) == wrong


def test_models_and_usage_that_are_missing_are_named() -> None:
    page = (
        "# TYPE inference_objective_output_tokens histogram\n"
        'inference_objective_output_tokens_sum{model_name="a",target_model_name="x"} 4\n'
        'inference_objective_output_tokens_sum{model_name="a",target_model_name="y"} 3\n'
        'inference_objective_output_tokens_sum{model_name="b",target_model_name="b"} 0\n'
    )
    assert checks.tokens_by_model(page) == {"a": 7.0, "b": 0.0}
    assert checks.check_usage(page, ["a", "b", "c"]) == [
        "the metrics count no tokens for b",
        "the metrics count no tokens for c",
    ]
    assert checks.check_models(["a"], ["a", "b"]) == ["model b is not listed at /v1/models"]


def test_example_manifests_and_generated_slices_are_valid() -> None:
    folder = importlib.resources.files("igw.demo") / "manifests"
    texts = {entry.name: entry.read_text() for entry in folder.iterdir()} | {"slices": endpoint_slices([SERVER])}
    assert {"llama.yaml", "qwen.yaml", "slices"} <= set(texts)
    for name, text in texts.items():
        parsed = parse_manifests(text, name)
        assert parsed.resources
        assert not parsed.problems
        assert not parsed.ignored
