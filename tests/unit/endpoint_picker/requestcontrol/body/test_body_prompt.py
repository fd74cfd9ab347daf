"""Canonical prompt bytes: equal prompts are equal bytes however JSON spells them, a next turn continues the last."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.requestcontrol.body.parsed import BodyLimits, ParsedBody
from endpoint_picker.requestcontrol.body.prompt import MAX_PIECES
from endpoint_picker.requestcontrol.body.reading import read_body
from endpoint_picker.requestcontrol.body.tokens import IMAGE_TOKENS, MESSAGE_TOKENS, estimate_tokens

CHAT = "/v1/chat/completions"


def read(path: str = CHAT, limit: int = 65536, **document: Any) -> ParsedBody:
    body = json.dumps({"model": "m", **document}).encode()
    return read_body(body, path=path, content_type="", limits=BodyLimits(max_prompt_bytes=limit))


def prompt(path: str = CHAT, **document: Any) -> bytes:
    return read(path, **document).prompt


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


SYSTEM = {"role": "system", "content": "be kind"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"a": 1, "b": 2}}}


def test_spelling_does_not_matter() -> None:
    plain = b'{"model":"m","messages":[{"role":"user","content":"h\xc3\xa9"}],"tools":[{"a":1,"b":[2]}]}'
    other = b'{"tools": [ {"b":[2], "a" : 1}],"messages":[{"content":"h\\u00e9" , "rol\\u0065":"user"}],"model":"m"}'
    first, second = (read_body(b, path=CHAT, content_type="", limits=BodyLimits()) for b in (plain, other))
    assert first.prompt == second.prompt
    assert first.prompt_tokens == second.prompt_tokens


def test_order_is_salt_system_tools_messages() -> None:
    written = prompt(messages=[SYSTEM, user("hello")], tools=[TOOL], documents=["doc"], cache_salt="pepper")
    places = [written.index(word) for word in (b"pepper", b"be kind", b'"name":"f"', b"doc", b"hello")]
    assert places == sorted(places)
    assert written.startswith(b"\x01pepper")


def test_later_system_messages_stay_where_they_are() -> None:
    turn = [SYSTEM, user("hello")]
    assert prompt(messages=[*turn, {"role": "system", "content": "now"}]).startswith(prompt(messages=turn))


texts = st.text(st.characters(codec="utf-8"), max_size=20)
messages = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), min_size=1, max_size=6)


@given(messages, messages, st.booleans())
def test_a_continued_conversation_continues_the_bytes(
    earlier: list[tuple[str, str]], later: list[tuple[str, str]], with_tools: bool
) -> None:
    head = [{"role": role, "content": content} for role, content in [*earlier, ("user", "q")]]
    tail = [{"role": role, "content": content} for role, content in later]
    tools = {"tools": [TOOL]} if with_tools else {}
    assert prompt(messages=[*head, *tail], **tools).startswith(prompt(messages=head, **tools))


@given(messages, st.integers(min_value=0, max_value=80))
def test_the_limit_cuts_the_bytes_and_not_the_count(conversation: list[tuple[str, str]], limit: int) -> None:
    whole = read(messages=[{"role": role, "content": content} for role, content in conversation])
    cut = read(messages=[{"role": role, "content": content} for role, content in conversation], limit=limit)
    assert cut.prompt == whole.prompt[:limit]
    assert cut.prompt_tokens == whole.prompt_tokens


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"messages": [user("ab")]}, {"messages": [user("a"), user("b")]}, id="message-borders"),
        pytest.param({"messages": [user("a")]}, {"messages": [{"role": "assistant", "content": "a"}]}, id="role"),
        pytest.param({"messages": [user("a")]}, {"messages": [user("a")], "cache_salt": "s"}, id="salt"),
        pytest.param({"messages": [user("a")]}, {"messages": [user("a", tool_calls=[{"id": "1"}])]}, id="tool-calls"),
        pytest.param(
            {"messages": [user([{"type": "image_url", "image_url": {"url": "http://a/1"}}])]},
            {"messages": [user([{"type": "image_url", "image_url": {"url": "http://a/2"}}])]},
            id="image",
        ),
        pytest.param(
            {"messages": [user([{"type": "image", "source": {"type": "base64", "data": "AA"}}])]},
            {"messages": [user([{"type": "image", "source": {"type": "base64", "data": "BB"}}])]},
            id="image-data",
        ),
    ],
)
def test_different_prompts_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert prompt(**one) != prompt(**other)


def test_moving_cache_marks_change_nothing() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    block = {"type": "text", "text": "long"}
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [block]}
    plain = prompt("/v1/messages", system=[block], messages=[user([block, use, result])], tools=[TOOL])
    marked = prompt(
        "/v1/messages",
        system=[block | mark],
        messages=[user([block | mark, use | mark, {**result, "content": [block | mark]} | mark])],
        tools=[TOOL | mark],
    )
    assert plain == marked


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        pytest.param("/v1/completions", {"prompt": "abc"}, b"abc\x1f", id="text"),
        pytest.param("/v1/completions", {"prompt": ["ab", "c"]}, b"ab\x1fc\x1f", id="texts"),
        pytest.param("/v1/completions", {"prompt": [1, 258]}, b"\x1d\x01\0\0\0\x02\x01\0\0", id="token-ids"),
        pytest.param("/v1/completions", {"prompt": [[1], [2]]}, b"\x1d\x01\0\0\0\x1f\x1d\x02\0\0\0\x1f", id="id-lists"),
        pytest.param("/v1/completions", {"prompt": [-1, 2**40]}, b"\x1d[-1,1099511627776]", id="odd-ids"),
        pytest.param("/v1/completions", {"prompt": []}, b"", id="empty-list"),
        pytest.param("/v1/embeddings", {"input": "abc"}, b"abc\x1f", id="embeddings"),
        pytest.param("/v1/embeddings", {"messages": [user("a")]}, b"\x1euser\x1fa", id="chat-embeddings"),
        pytest.param("/v1/responses", {"input": "a", "instructions": "s"}, b"\x02s\x1euser\x1fa", id="responses"),
        pytest.param("/v1/responses", {"input": [user("a")]}, b"\x1euser\x1fa", id="response-items"),
        pytest.param("/v1/responses", {"input": [{"b": 1, "a": 2}]}, b'\x1e\x1f{"a":2,"b":1}', id="other-items"),
        pytest.param("/v1/responses", {"prompt": "x"}, b"\x04x", id="response-template"),
        pytest.param(
            CHAT, {"messages": [{"role": "assistant", "content": None}]}, b"\x1eassistant\x1f", id="no-content"
        ),
        pytest.param("/rerank", {"query": "q", "documents": ["a"]}, b"q\x1fa\x1f", id="rerank"),
        pytest.param("/score", {"text_1": "q", "text_2": ["a"]}, b"q\x1fa\x1f", id="score"),
        pytest.param("/generate", {"input_ids": [7]}, b"\x1d\x07\0\0\0", id="generate-ids"),
        pytest.param("/generate", {"inputs": "x"}, b"x\x1f", id="generate-text"),
        pytest.param("/tokenize", {"messages": [user("a")]}, b"\x1euser\x1fa", id="tokenize-chat"),
        pytest.param("/v1/audio/speech", {"input": "x"}, b"x\x1f", id="speech"),
        pytest.param("/v1/images/generations", {"prompt": "x"}, b"x\x1f", id="image"),
    ],
)
def test_each_api_names_its_prompt(path: str, document: dict[str, Any], expected: bytes) -> None:
    assert prompt(path, **document) == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param({"messages": [user("12345678")]}, 2 + MESSAGE_TOKENS, id="text"),
        pytest.param({"messages": [user("日本語文")]}, 3 + MESSAGE_TOKENS, id="counts-utf-8-bytes"),
        pytest.param(
            {"messages": [user([{"type": "image_url", "image_url": "x" * 9999}])]},
            IMAGE_TOKENS + MESSAGE_TOKENS,
            id="image",
        ),
    ],
)
def test_prompt_tokens(document: dict[str, Any], expected: int) -> None:
    assert read(**document).prompt_tokens == expected


TEXT = {"type": "text", "text": "tail"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            {"messages": [user("a")] * MAX_PIECES},
            {"messages": [user("a")] * MAX_PIECES + [user("tail")]},
            id="messages",
        ),
        pytest.param(
            {"messages": [user([{"text": "a"}] * MAX_PIECES)]},
            {"messages": [user([{"text": "a"}] * MAX_PIECES + [TEXT])]},
            id="parts",
        ),
        pytest.param(
            {"messages": [user("a")], "tools": ["a"] * MAX_PIECES},
            {"messages": [user("a")], "tools": ["a"] * MAX_PIECES + ["tail"]},
            id="tools",
        ),
    ],
)
def test_pieces_beyond_the_bound_count_and_are_not_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    """They cost one encoding, whatever their number."""
    shorter, longer = read(limit=10**7, **one), read(limit=10**7, **other)
    assert longer.prompt == shorter.prompt
    assert longer.prompt_tokens > shorter.prompt_tokens


def test_token_ids_count_as_they_are() -> None:
    assert read("/v1/completions", prompt=list(range(1000)), limit=8).prompt_tokens == 1000


@given(*[st.integers(min_value=0, max_value=10**9)] * 4)
def test_estimate_grows_with_the_prompt(text_bytes: int, token_ids: int, messages: int, media_tokens: int) -> None:
    estimate = estimate_tokens(text_bytes=text_bytes, token_ids=token_ids, messages=messages, media_tokens=media_tokens)
    assert estimate >= token_ids + messages + media_tokens + text_bytes / 4
    assert (estimate == 0) == (text_bytes == token_ids == messages == media_tokens == 0)
