"""Step times agree with published measurements: GPU operator profiles and the steps of Dynamo's mock engine."""

import pytest

from igw.simulator.timing import PRESETS, LinearTiming, PolynomialTiming, StepLoad


def prefill(tokens: int, context: int = 0) -> StepLoad:
    return StepLoad(tokens, context, 0, 0, 1, 0.0)


def decode(sequences: int, context: int, kv_fraction: float = 0.0) -> StepLoad:
    return StepLoad(0, 0, sequences, context, sequences, kv_fraction)


@pytest.mark.parametrize(("tokens", "milliseconds"), [(1024, 32.5), (8192, 169.1)])
def test_dynamo_prefill(tokens: int, milliseconds: float) -> None:
    assert PolynomialTiming().seconds(prefill(tokens)) * 1000 == pytest.approx(milliseconds, abs=0.1)


@pytest.mark.parametrize(("kv_fraction", "milliseconds"), [(0.15, 13.3), (0.31, 20.0), (0.61, 29.1)])
def test_dynamo_decode(kv_fraction: float, milliseconds: float) -> None:
    assert PolynomialTiming().seconds(decode(8, 8000, kv_fraction)) * 1000 == pytest.approx(milliseconds, abs=0.15)


def test_dynamo_speedups_divide() -> None:
    load = StepLoad(1024, 0, 8, 8000, 9, 0.15)
    plain, fast = PolynomialTiming(), PolynomialTiming(speedup=2.0, decode_speedup=3.0)
    prefill_part = plain.seconds(prefill(1024))
    decode_part = plain.seconds(decode(8, 8000, 0.15))
    assert plain.seconds(load) == pytest.approx(prefill_part + decode_part)
    assert fast.seconds(load) == pytest.approx((prefill_part + decode_part / 3) / 2)


def test_speedups_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        PolynomialTiming(speedup=0.0)


# Sum of the linear operators of Llama-3-8B on an A100, per step.
@pytest.mark.parametrize(
    ("tokens", "milliseconds"),
    [(1, 9.76), (64, 11.33), (128, 13.28), (256, 19.6), (512, 34.9), (1024, 75.6), (2048, 146.0), (8192, 549.0)],
)
def test_an_a100_is_within_30_percent_of_its_operator_profile(tokens: int, milliseconds: float) -> None:
    assert PRESETS["a100-8b"].timing.seconds(prefill(tokens)) * 1000 == pytest.approx(milliseconds, rel=0.3)


def test_an_h100_prefills_about_thirty_thousand_tokens_a_second() -> None:
    timing = PRESETS["h100-8b"].timing
    per_token = (timing.seconds(prefill(8192)) - timing.seconds(prefill(4096))) / 4096
    assert 1 / per_token == pytest.approx(29_700, rel=0.05)


def test_an_h100_decodes_a_moderate_batch_within_ten_to_fifteen_milliseconds() -> None:
    assert 0.0095 <= PRESETS["h100-8b"].timing.seconds(decode(32, 32 * 1500)) <= 0.015


def test_small_batches_ride_along() -> None:
    timing = LinearTiming(0.01, 1e-3, 0.0, 0.0, 0.0)
    assert timing.seconds(prefill(1)) == timing.seconds(prefill(150)) == pytest.approx(0.01)
    assert timing.seconds(prefill(151)) == pytest.approx(0.011)


@pytest.mark.parametrize("name", PRESETS)
def test_more_of_anything_never_takes_less_time(name: str) -> None:
    timing = PRESETS[name].timing
    base = StepLoad(512, 4096, 16, 16_000, 17, 0.2)
    more = StepLoad(1024, 8192, 32, 32_000, 33, 0.4)
    assert 0 < timing.seconds(base) < timing.seconds(more)
