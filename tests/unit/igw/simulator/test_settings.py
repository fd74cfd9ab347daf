"""Settings that make no sense are refused with a sentence."""

import pytest

from igw.simulator.engine_settings import EngineSettings
from igw.simulator.settings import SimulatorSettings, engine_settings
from igw.simulator.timing import PRESETS


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        pytest.param({"timing": "warp"}, "known: h100-8b", id="timing"),
        pytest.param({"models": ()}, "model name", id="no-model"),
        pytest.param({"models": ("",)}, "model name", id="empty-model"),
        pytest.param({"time_scale": 0.0}, "time_scale", id="time-scale"),
        pytest.param({"time_scale": float("nan")}, "time_scale", id="time-scale-nan"),
        pytest.param({"answer_tokens": 0}, "answer_tokens", id="answer-tokens"),
        pytest.param({"max_model_len": 10**9}, "KV cache", id="context-beyond-the-cache"),
        pytest.param({"tls_key": "key.pem"}, "certificate", id="key-alone"),
    ],
)
def test_refused(changes: dict[str, object], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        SimulatorSettings(**changes)


def test_a_preset_brings_its_sizes_whatever_the_block_size() -> None:
    wide = engine_settings(PRESETS["a100-40-8b"], block_size=32)
    assert (wide.max_num_seqs, wide.max_num_batched_tokens, wide.num_blocks) == (256, 2048, 4450)


def test_a_small_cache_bounds_the_context() -> None:
    assert SimulatorSettings(engine=EngineSettings(num_blocks=11, block_size=16)).context_tokens == 160


def test_the_key_is_not_shown() -> None:
    assert "hunter2" not in repr(SimulatorSettings(api_key="hunter2"))
