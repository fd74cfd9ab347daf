"""Faults strike within their count and probability, the same way for the same seed; mistakes are named."""

import json

import pytest

from igw.simulator.faults import Fault, FaultDraw, FaultKind, FaultPlan, parse_fault, parse_plan


def strikes(fault: Fault, seed: int = 0, number: int = 200) -> list[bool]:
    draw = FaultDraw(FaultPlan((fault,), seed))
    return [draw.draw(fault.kind) is not None for _ in range(number)]


def test_a_count_is_never_exceeded() -> None:
    assert sum(strikes(Fault(FaultKind.STATUS, count=3))) == 3
    assert sum(strikes(Fault(FaultKind.STATUS, count=0))) == 0


def test_a_probability_is_about_kept() -> None:
    assert 60 <= sum(strikes(Fault(FaultKind.STATUS, probability=0.4))) <= 100


def test_the_same_seed_draws_the_same() -> None:
    fault = Fault(FaultKind.STATUS, probability=0.5)
    assert strikes(fault, seed=1) == strikes(fault, seed=1)
    assert strikes(fault, seed=1) != strikes(fault, seed=2)


def test_only_the_kind_that_is_asked_for_strikes() -> None:
    draw = FaultDraw(FaultPlan((Fault(FaultKind.STATUS),)))
    assert draw.draw(FaultKind.CUT_STREAM) is None
    assert set(draw.draw_all(FaultKind)) == {FaultKind.STATUS}


def test_a_second_fault_of_a_kind_follows_the_first() -> None:
    draw = FaultDraw(FaultPlan((Fault(FaultKind.STATUS, code=500, count=1), Fault(FaultKind.STATUS, code=429))))
    codes = [fault.code for _ in range(3) if (fault := draw.draw(FaultKind.STATUS))]
    assert codes == [500, 429, 429]


def test_a_description_counts_and_is_json() -> None:
    draw = FaultDraw(FaultPlan((Fault(FaultKind.CUT_STREAM, tokens=5),), seed=7))
    draw.draw(FaultKind.CUT_STREAM)
    described = json.loads(json.dumps(draw.describe()))
    assert described["seed"] == 7
    assert described["faults"][0]["kind"] == "cut-stream"
    assert (described["faults"][0]["tokens"], described["faults"][0]["struck"]) == (5, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("refuse", Fault(FaultKind.REFUSE), id="bare"),
        pytest.param(
            "status,code=429,probability=0.1,count=3",
            Fault(FaultKind.STATUS, code=429, probability=0.1, count=3),
            id="with-values",
        ),
        pytest.param(" late-end , seconds=0.5", Fault(FaultKind.LATE_END, seconds=0.5), id="with-spaces"),
    ],
)
def test_parse_fault(text: str, expected: Fault) -> None:
    assert parse_fault(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        pytest.param("explode", "kind", id="unknown-kind"),
        pytest.param("status,503", "name=value", id="no-equals"),
        pytest.param("status,colour=red", "colour", id="unknown-value"),
        pytest.param("status,probability=2", "between 0 and 1", id="probability"),
        pytest.param("status,code=200", "error status", id="no-error"),
        pytest.param("status,count=-1", "count", id="negative-count"),
        pytest.param("late-end,seconds=-1", "seconds", id="negative-seconds"),
        pytest.param("cut-stream,tokens=-1", "tokens", id="negative-tokens"),
    ],
)
def test_mistakes_are_named(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_fault(text)


def test_a_plan_is_parsed_as_a_whole() -> None:
    plan = parse_plan(b'{"faults": [{"kind": "stall-prefill", "count": 2}], "seed": 4}')
    assert plan == FaultPlan((Fault(FaultKind.STALL_PREFILL, count=2),), 4)
    with pytest.raises(ValueError, match="fault"):
        parse_plan(b'{"fault": []}')
    with pytest.raises(ValueError, match="JSON"):
        parse_plan(b"{")


@pytest.mark.parametrize(
    ("fault", "seconds", "amount"),
    [
        pytest.param(Fault(FaultKind.LATE_END), 0.02, 0, id="late-end"),
        pytest.param(Fault(FaultKind.LATE_END, seconds=0.0), 0.0, 0, id="no-delay"),
        pytest.param(Fault(FaultKind.MANY_HEADERS), 0.0, 10_000, id="many-headers"),
        pytest.param(Fault(FaultKind.METRICS_HUGE, size=10), 0.0, 10, id="given"),
    ],
)
def test_defaults(fault: Fault, seconds: float, amount: int) -> None:
    assert (fault.delay_seconds, fault.amount) == (seconds, amount)
