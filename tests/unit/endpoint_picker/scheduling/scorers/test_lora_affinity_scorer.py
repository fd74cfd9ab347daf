"""lora-affinity-scorer: loaded 1, room 0.8, waiting 0.6, full 0; the base model is not penalised."""

from typing import Any

import pytest

from endpoint_picker.domain.request import InferenceRequest
from endpoint_picker.scheduling.interfaces import Scorer
from endpoint_picker.scheduling.scorers.lora_affinity import LoraAffinityScorer
from unit.endpoint_picker.scheduling.building import endpoint

SCORER: Scorer = LoraAffinityScorer()


def lora(running: str = "", waiting: str = "", **reading: Any) -> dict[str, Any]:
    adapters = {"running_loras": frozenset(running.split()), "waiting_loras": frozenset(waiting.split())}
    return {"max_loras": 2, "model": "base", **adapters, **reading}


@pytest.mark.parametrize(
    ("model", "readings", "expected"),
    [
        pytest.param("sql", [lora("sql chat")], [1.0], id="loaded"),
        pytest.param("sql", [lora("chat")], [0.8], id="free-slot"),
        pytest.param("sql", [lora("chat", "chat")], [0.8], id="adapter-in-both-lists-takes-one-slot"),
        pytest.param("sql", [lora("chat", "sql")], [0.6], id="full-and-waiting"),
        pytest.param("sql", [lora("chat news")], [0.0], id="full-with-others"),
        pytest.param("base", [lora("chat news"), lora()], [1.0, 1.0], id="base-model-is-neutral"),
        pytest.param("", [lora("chat news"), {"scraped": False}], [1.0, 1.0], id="no-model-is-neutral"),
        pytest.param("sql", [lora(max_loras=None), lora()], [None, 0.8], id="unknown-lora-support"),
        pytest.param("sql", [{"scraped": False}, lora("sql")], [None, 1.0], id="unscraped"),
        pytest.param("sql", [lora(model="")], [None], id="nothing-tells-that-it-is-an-adapter"),
        pytest.param("sql", [lora(model=""), lora("sql", model="")], [0.8, 1.0], id="seen-running-elsewhere"),
        pytest.param("sql", [lora(model=""), lora("a b", "sql", model="")], [0.8, 0.6], id="seen-waiting-elsewhere"),
        pytest.param("base", [lora(max_loras=None)], [1.0], id="base-model-without-lora"),
        pytest.param("base", [lora(), {"scraped": False}], [1.0, None], id="base-model-unscraped"),
        pytest.param("base", [lora(), lora(model="other")], [1.0, 0.8], id="base-model-of-some"),
        pytest.param("sql", [], [], id="no-candidates"),
    ],
)
def test_score(model: str, readings: list[dict[str, Any]], expected: list[float | None]) -> None:
    request = InferenceRequest(target_model=model)
    assert SCORER.score(request, [endpoint(**reading) for reading in readings]) == expected
