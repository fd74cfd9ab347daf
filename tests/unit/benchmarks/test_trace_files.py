"""Azure's and Mooncake's traces become the same requests, in order and from second 0; a bad line is named."""

import gzip
from pathlib import Path

import pytest
from benchmarks.trace_files import TraceRequest, TraceUnreadableError, read_trace, shape_trace
from benchmarks.trace_replay import Arm, parse_arms, slices

from igw.errors import BadInput

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109"
)
MOONCAKE = (
    '{"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}\n'
    '{"timestamp": 1000, "input_length": 512, "output_length": 0, "hash_ids": [0]}\n'
)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_azure(tmp_path: Path, name: str) -> None:
    first, second = read_trace(written(tmp_path, name, AZURE))
    assert first == TraceRequest(0.0, 374, 44)
    assert (second.prompt_tokens, second.output_tokens) == (396, 109)
    assert second.seconds == pytest.approx(4.314579, abs=1e-5)


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_mooncake_is_sorted_and_has_at_least_one_output_token(tmp_path: Path, name: str) -> None:
    assert read_trace(written(tmp_path, name, MOONCAKE)) == [
        TraceRequest(0.0, 512, 1, (0,)),
        TraceRequest(2.0, 600, 5, (0, 7)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        pytest.param("a.csv", "time,in,out\n1,2,3\n", "request 1: the first line", id="foreign-head"),
        pytest.param("a.csv", f"{AZURE}\n2023-11-16 18:16:00.0000000,x,1", "request 3", id="no-number"),
        pytest.param("a.csv", f"{AZURE}\n1,2", "request 3", id="too-few-columns"),
        pytest.param("a.csv", AZURE.splitlines()[0], "no request", id="empty"),
        pytest.param("a.jsonl", '{"timestamp": 1}\n', "request 1", id="member-missing"),
        pytest.param("a.jsonl", "{\n", "request 1", id="no-json"),
        pytest.param("a.txt", AZURE, "expected a name", id="unknown-kind"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    with pytest.raises(TraceUnreadableError, match=reason):
        read_trace(written(tmp_path, name, text))


def test_a_missing_file_is_an_error_of_the_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceUnreadableError, match=r"absent\.csv"):
        read_trace(tmp_path / "absent.csv")


def test_speed_compresses_arrivals_before_the_minutes_are_counted() -> None:
    trace = [TraceRequest(float(second), 10, 10) for second in range(240)]
    shaped = shape_trace(trace, minutes=1, speed=2, max_prompt_tokens=100, max_output_tokens=100)
    assert len(shaped) == 120
    assert shaped[3].seconds == 1.5


def test_lengths_are_cut_to_the_bounds() -> None:
    shaped = shape_trace([TraceRequest(0.0, 10, 30)], minutes=1, speed=1, max_prompt_tokens=4, max_output_tokens=20)
    assert shaped == [TraceRequest(0.0, 4, 20)]


def test_slices_count_from_their_own_beginning_and_keep_every_request() -> None:
    trace = [TraceRequest(second, 1, 1) for second in (0.0, 4.0, 5.0, 9.5, 10.0)]
    first, second = slices(trace, 2, 10.0)
    assert [r.seconds for r in first.requests] == [0.0, 4.0]
    assert [r.seconds for r in second.requests] == [0.0, 4.5, 5.0]
    assert second.first_number == 2


def test_a_slice_without_requests_is_left_out() -> None:
    assert [part.first_number for part in slices([TraceRequest(9.0, 1, 1)], 3, 9.0)] == [0]


def test_arms_are_policies_the_gateway_and_the_gateway_with_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, "profile.yaml", "")
    assert parse_arms(f"gateway,random,mine={file}") == [
        Arm("gateway"),
        Arm("random", policy="random"),
        Arm("mine", scheduling=file),
    ]


@pytest.mark.parametrize("text", ["sorcery", "gateway,gateway", "", "mine=/absent/profile.yaml"])
def test_other_arms_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_arms(text)
