"""Bodies, events and errors have the fields of answers captured from vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from igw.simulator.answers import AnswerWriter
from igw.simulator.api_bodies import ApiError, ChatBody, CompletionBody, parse
from igw.simulator.plan import plan_choices

CAPTURED = Path(__file__).parents[3] / "data" / "vllm_http"


def captured_body(name: str) -> str:
    return (CAPTURED / f"{name}.http").read_bytes().decode().partition("\r\n\r\n")[2]


def events(text: str) -> list[Any]:
    payloads = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    assert payloads.pop() == "[DONE]"
    return [json.loads(payload) for payload in payloads]


def shape(value: Any) -> Any:
    """Return the keys and kinds of a JSON value, in order; null stands for anything."""
    match value:
        case dict():
            return [(key, shape(one)) for key, one in value.items()]
        case list():
            return [shape(one) for one in value]
        case int() | float():
            return "number"
        case _:
            return type(value).__name__


def writer(body: ChatBody | CompletionBody, **options: bool) -> AnswerWriter:
    choices = plan_choices(body, context_tokens=2048, answer_tokens=64)
    chat = isinstance(body, ChatBody)
    return AnswerWriter(chat=chat, model="tiny-llama", choices=choices, prompt_tokens=7, **options)


def chat(**rest: object) -> ChatBody:
    return ChatBody.model_validate({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **rest})


def completion(**rest: object) -> CompletionBody:
    return CompletionBody.model_validate({"prompt": "hello", "max_tokens": 5, **rest})


def test_a_chat_looks_like_vllms() -> None:
    ours = json.loads(writer(chat()).body())
    assert shape(ours) == shape(json.loads(captured_body("chat_nonstream")))


def test_a_completion_looks_like_vllms() -> None:
    ours, theirs = json.loads(writer(completion()).body()), json.loads(captured_body("completions_orca_json"))
    # vLLM counts created cache tokens for chats only.
    for body in (ours, theirs):
        del body["usage"]["prompt_tokens_details"]["created_cache_tokens"]
    assert shape(ours) == shape(theirs)


def test_a_chat_stream_with_usage_looks_like_vllms() -> None:
    ours = writer(chat(), include_usage=True)
    text = "".join(ours.events(0, fresh) for fresh in (1, 2, 2)) + ours.final_events().decode()
    assert [shape(event) for event in events(text)] == [shape(e) for e in events(captured_body("chat_stream_usage"))]
    assert events(text)[-1]["usage"]["completion_tokens"] == 5


def test_a_completion_stream_without_usage_looks_like_vllms() -> None:
    ours = writer(completion())
    text = ours.events(0, 5) + ours.final_events().decode()
    assert [shape(event) for event in events(text)] == [shape(e) for e in events(captured_body("completions_stream"))]


@pytest.mark.parametrize("split", [[1] * 7, [7], [3, 4], [6, 1]])
def test_any_grouping_of_tokens_gives_the_same_events(split: list[int]) -> None:
    one = writer(chat(max_tokens=7), continuous_usage=True)
    text = "".join(one.events(0, fresh) for fresh in split) + one.final_events().decode()
    deltas = [event["choices"][0]["delta"]["content"] for event in events(text)]
    assert len(deltas) == 8
    assert "".join(deltas) == one.choices[0].text
    assert [event["usage"]["completion_tokens"] for event in events(text)] == list(range(8))


def test_stream_and_body_say_the_same() -> None:
    whole = json.loads(writer(chat(n=3)).body())
    streamed = writer(chat(n=3))
    text = "".join(streamed.events(index, 5) for index in (2, 0, 1)) + streamed.final_events().decode()
    for index in range(3):
        spoken = [
            choice["delta"]["content"]
            for event in events(text)
            for choice in event["choices"]
            if choice["index"] == index
        ]
        assert "".join(spoken) == whole["choices"][index]["message"]["content"]
    assert whole["usage"]["completion_tokens"] == streamed.usage.completion_tokens == 15


def test_echo_precedes_the_answer() -> None:
    whole = json.loads(writer(completion(echo=True)).body())["choices"][0]["text"]
    streamed = writer(completion(echo=True))
    text = streamed.events(0, 5) + streamed.final_events().decode()
    assert whole.startswith("hello ")
    assert "".join(event["choices"][0]["text"] for event in events(text)) == whole


@pytest.mark.parametrize(
    ("name", "kind", "raw"),
    [
        pytest.param("error_bad_json", CompletionBody, b'{"model":', id="bad-json"),
        pytest.param("error_missing_messages", ChatBody, b'{"model": "tiny-llama"}', id="missing-messages"),
    ],
)
def test_a_bad_body_is_refused_in_vllms_words(name: str, kind: type[ChatBody], raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse(kind, raw)
    theirs = json.loads(captured_body(name))
    ours = caught.value.body()
    if name == "error_missing_messages":
        theirs["error"]["message"] = theirs["error"]["message"].replace("dict of 2", "dict of 1")
    assert ours == theirs


def test_a_long_prompt_is_refused_in_vllms_words() -> None:
    with pytest.raises(ApiError) as caught:
        plan_choices(completion(prompt="x" * 25_000), context_tokens=2048, answer_tokens=64)
    assert caught.value.body() == json.loads(captured_body("error_too_long"))


@pytest.mark.parametrize(
    ("rest", "param"),
    [
        pytest.param({"prompt": "x" * 8192}, "input_tokens", id="prompt-fills-the-context"),
        pytest.param({"max_tokens": 2048}, "input_tokens", id="answer-does-not-fit"),
        pytest.param({"max_tokens": 0}, "max_tokens", id="no-tokens"),
        pytest.param({"prompt": ""}, "prompt", id="empty-prompt"),
        pytest.param({"prompt": [1 << 40]}, "prompt", id="no-token-id"),
    ],
)
def test_lengths_that_make_no_sense_are_refused(rest: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        plan_choices(completion(**rest), context_tokens=2048, answer_tokens=64)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"\xff", id="no-utf8"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"prompt": 1' + b"0" * 5000 + b"}", id="huge-number"),
        pytest.param(b'{"prompt": "x", "n": 1000000}', id="many-choices"),
    ],
)
def test_hostile_bodies_are_refused(raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse(CompletionBody, raw)
    assert caught.value.status == 400


class TestPlan:
    def test_without_eos_an_answer_has_its_full_length(self) -> None:
        [choice] = plan_choices(completion(max_tokens=900, ignore_eos=True), context_tokens=2048, answer_tokens=64)
        assert (choice.output_tokens, choice.finish_reason) == (900, "length")

    def test_an_answer_ends_by_itself(self) -> None:
        [choice] = plan_choices(completion(max_tokens=900), context_tokens=2048, answer_tokens=64)
        assert 32 <= choice.output_tokens <= 96
        assert choice.finish_reason == "stop"

    def test_a_stop_string_ends_it_and_is_not_part_of_it(self) -> None:
        [plain] = plan_choices(completion(max_tokens=20), context_tokens=2048, answer_tokens=64)
        stop = plain.text[9:14]
        [choice] = plan_choices(
            completion(max_tokens=20, stop=["nowhere", stop]), context_tokens=2048, answer_tokens=64
        )
        at = plain.text.find(stop)
        assert choice.text == plain.text[:at]
        assert (choice.finish_reason, choice.stop_reason) == ("stop", stop)
        assert choice.output_tokens == -(-(at + len(stop)) // 4)

    def test_max_completion_tokens_wins(self) -> None:
        [choice] = plan_choices(chat(max_completion_tokens=3), context_tokens=2048, answer_tokens=64)
        assert choice.output_tokens == 3

    def test_each_prompt_has_its_choices(self) -> None:
        choices = plan_choices(completion(prompt=["one", "two"], n=2), context_tokens=2048, answer_tokens=64)
        assert [choice.prompt for choice in choices] == [b"one\0", b"one\0", b"two\0", b"two\0"]
        assert len({choice.text for choice in choices}) == 4

    def test_content_parts_tools_and_calls_cost_tokens(self) -> None:
        plain = chat().prompt()
        parts = ChatBody.model_validate(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}
        )
        tools = chat(tools=[{"type": "function", "function": {"name": "f"}}])
        assert parts.prompt() == plain
        assert len(tools.prompt()) > len(plain)
        assert tools.prompt().endswith(plain)
