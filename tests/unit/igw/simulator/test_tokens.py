"""Four bytes are a token; a longer conversation extends the tokens of a shorter one; answers follow from prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igw.simulator import tokens

MESSAGES = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=40)), max_size=5)


@pytest.mark.parametrize(("text", "number"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ééé", 2), ("\ud800", 1)])
def test_count(text: str, number: int) -> None:
    assert tokens.count(tokens.encode_text(text)) == number


@given(st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_ids_decode_to_the_text(text: str) -> None:
    assert tokens.decode_ids(tokens.ids(tokens.encode_text(text))) == text


def test_numbers_that_no_tokeniser_has_are_refused() -> None:
    with pytest.raises(ValueError, match="token ids"):
        tokens.encode_ids([1 << 32])
    with pytest.raises(ValueError, match="token ids"):
        tokens.encode_ids([-1])


@given(earlier=MESSAGES, later=MESSAGES, length=st.integers(min_value=1, max_value=40))
def test_the_next_turn_extends_prompt_and_answer(
    earlier: list[tuple[str, str]], later: list[tuple[str, str]], length: int
) -> None:
    prompt = tokens.encode_messages(earlier)
    answer = tokens.answer(tokens.seed_of(prompt), length)
    following = tokens.encode_messages([*earlier, ("assistant", answer), *later])
    assert following.startswith(prompt + answer.encode())


@given(seed=st.integers(min_value=0, max_value=2**64 - 1), number=st.integers(min_value=0, max_value=20_000))
def test_an_answer_has_exactly_its_tokens(seed: int, number: int) -> None:
    answer = tokens.answer(seed, number)
    assert tokens.count(tokens.encode_text(answer)) == number
    assert len(answer) == number * tokens.TOKEN_BYTES
    assert answer.startswith(tokens.answer(seed, number // 2))


def test_the_same_prompt_has_the_same_answer_and_each_choice_its_own() -> None:
    prompt = tokens.encode_text("the same")
    assert tokens.seed_of(prompt) == tokens.seed_of(tokens.encode_text("the same"))
    assert len({tokens.seed_of(prompt, choice) for choice in range(5)}) == 5


def test_block_hashes_cover_full_blocks_and_depend_on_all_before_them() -> None:
    first = tokens.block_hashes(b"a" * 64 + b"b" * 64 + b"c" * 60, 16)
    other = tokens.block_hashes(b"x" * 64 + b"b" * 64 + b"c" * 64, 16)
    longer = tokens.block_hashes(b"a" * 64 + b"b" * 64 + b"c" * 64, 16)
    assert [len(first), len(other)] == [2, 3]
    assert longer[:2] == first
    assert not set(first) & set(other)


def test_block_hashes_depend_on_the_salt() -> None:
    content = b"a" * 64
    assert tokens.block_hashes(content, 16, "one") != tokens.block_hashes(content, 16, "two")
