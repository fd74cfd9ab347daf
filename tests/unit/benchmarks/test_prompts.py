"""A prompt has exactly the trace's tokens as the simulated server counts them, and shares what its block ids say."""

import json

import pytest
from benchmarks.prompts import BLOCK_TOKENS, TOKEN_BYTES, chat_body, prompt_text
from benchmarks.saturation import block_hashes, saturation_rate
from benchmarks.trace_files import TraceRequest
from hypothesis import given
from hypothesis import strategies as st

from igw.simulator import tokens

BLOCK = BLOCK_TOKENS * TOKEN_BYTES
LENGTHS = st.integers(min_value=4, max_value=3000)


def served_tokens(text: str) -> int:
    return tokens.count(tokens.encode_messages([("user", text)]))


@given(LENGTHS, st.integers(min_value=0, max_value=100_000), st.lists(st.integers(0, 200_000), max_size=4))
def test_the_simulated_server_counts_the_tokens_of_the_trace(length: int, number: int, ids: list[int]) -> None:
    request = TraceRequest(0.0, length, 1, tuple(ids))
    assert served_tokens(prompt_text(request, number, seed=1)) == length


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_prompt_below_the_markers_still_has_text(length: int) -> None:
    assert prompt_text(TraceRequest(0.0, length, 1), 5, seed=1)


def test_prompts_without_ids_share_no_beginning() -> None:
    request = TraceRequest(0.0, 1000, 1)
    beginnings = {prompt_text(request, number, seed=1)[:16] for number in range(2000)}
    assert len(beginnings) == 2000


def test_equal_ids_are_equal_text_and_the_first_other_id_ends_it() -> None:
    one = prompt_text(TraceRequest(0.0, 3 * BLOCK_TOKENS, 1, (1, 2, 3)), 0, seed=1)
    other = prompt_text(TraceRequest(0.0, 3 * BLOCK_TOKENS, 1, (1, 2, 9)), 1, seed=1)
    assert one[: 2 * BLOCK] == other[: 2 * BLOCK]
    assert one[2 * BLOCK : 2 * BLOCK + 8] != other[2 * BLOCK : 2 * BLOCK + 8]


def test_text_follows_from_number_and_seed_alone() -> None:
    request = TraceRequest(0.0, 500, 1)
    assert prompt_text(request, 3, seed=1) == prompt_text(request, 3, seed=1)
    assert prompt_text(request, 3, seed=1) != prompt_text(request, 3, seed=2)


def test_the_body_asks_for_exactly_the_output_of_the_trace() -> None:
    body = json.loads(chat_body(TraceRequest(0.0, 40, 77), 0, seed=1))
    assert (body["max_tokens"], body["ignore_eos"], body["stream"]) == (77, True, True)


def test_engine_blocks_are_equal_where_trace_blocks_are() -> None:
    one = block_hashes(TraceRequest(0.0, 1024, 1, (4, 5)))
    other = block_hashes(TraceRequest(0.0, 1000, 1, (4, 6)))
    assert one[:32] == other[:32]
    assert not set(one[32:]) & set(other[32:])
    assert (len(one), len(other)) == (64, 62)


def test_twice_the_servers_or_the_speed_complete_twice_as_much() -> None:
    requests = [TraceRequest(0.0, 60, 20) for _ in range(200)]
    base = saturation_rate(requests, servers=1, timing="dynamo", time_scale=1.0)
    assert saturation_rate(requests, servers=1, timing="dynamo", time_scale=2.0) == pytest.approx(2 * base)


def test_too_few_requests_tell_nothing_of_saturation() -> None:
    with pytest.raises(ValueError, match="too few"):
        saturation_rate([TraceRequest(0.0, 60, 20)], servers=1, timing="dynamo", time_scale=1.0)
