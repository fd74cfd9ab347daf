"""A body is decoded strictly and once; what cannot be read is refused by name, what a model server judges passes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.errors import EncodedBody, EndpointPickerError, InvalidRequest, RequestTooLarge
from endpoint_picker.requestcontrol.body.kinds import BodyKind, kind_of, takes_form
from endpoint_picker.requestcontrol.body.parsed import BodyFormat, BodyLimits, ParsedBody
from endpoint_picker.requestcontrol.body.reading import read_body

CHAT = "/v1/chat/completions"
MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
LIMITS = BodyLimits()
PATHS = [
    CHAT,
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/rerank",
    "/score",
    "/tokenize",
    "/generate",
    "/v1/images/edits",
    "/v1/audio/speech",
    "/anything",
]


def read(body: bytes, path: str = CHAT, limits: BodyLimits = LIMITS, encoding: str = "") -> ParsedBody:
    return read_body(body, path=path, content_type="application/json", content_encoding=encoding, limits=limits)


def chat(extra: bytes = b"") -> bytes:
    return b'{"model":"m",' + MESSAGES + extra + b"}"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        pytest.param("/v1/chat/completions", BodyKind.CHAT, id="chat"),
        pytest.param("/team/a/v1/chat/completions?x=/v1/embeddings", BodyKind.CHAT, id="prefix-and-query"),
        pytest.param("/v1/completions", BodyKind.COMPLETIONS, id="completions"),
        pytest.param("/v1/messages/count_tokens", BodyKind.MESSAGES, id="count-tokens"),
        pytest.param("/v2/rerank", BodyKind.RERANK, id="rerank-v2"),
        pytest.param("/detokenize", BodyKind.TOKENIZE, id="detokenize"),
        pytest.param("/inference/v1/generate", BodyKind.GENERATE, id="vllm-generate"),
        pytest.param("/generate", BodyKind.GENERATE, id="sglang-generate"),
        pytest.param("/v1/images/edits", BodyKind.IMAGES, id="image-edits"),
        pytest.param("/v1/audio/speech", BodyKind.AUDIO, id="speech"),
        pytest.param("/v1/responses/resp_1", BodyKind.OTHER, id="sub-resource"),
        pytest.param("/xv1/chat", BodyKind.OTHER, id="unknown"),
        pytest.param("", BodyKind.OTHER, id="empty"),
    ],
)
def test_kind_follows_the_longest_suffix(path: str, kind: BodyKind) -> None:
    assert kind_of(path) is kind


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/v1/chat/completions/", id="slash-at-the-end"),
        pytest.param("/v1//chat/completions", id="two-slashes"),
        pytest.param("/v1/chat%2Fcompletions", id="escaped-slash"),
        pytest.param("/v1/chat%2fcompletions%2f?x=1", id="escaped-slashes-and-query"),
        pytest.param("/v1/chat/%63ompletions", id="escaped-letter"),
        pytest.param("/v1/chat%5ccompletions", id="escaped-backslash"),
        pytest.param("/v1/chat\\completions", id="backslash"),
        pytest.param("/v1/chat/x/..%2fcompletions", id="escaped-dots"),
        pytest.param("/v1/chat/x/..;a/completions", id="dots-with-parameter"),
        pytest.param("/v1/chat;v=1/completions;a=b", id="parameters"),
        pytest.param("/v1/chat/completions%3Fx=1", id="escaped-query"),
        pytest.param("/v1/chat/completions%23x", id="escaped-fragment"),
        pytest.param("/v1/chat/completions%20", id="blank"),
        pytest.param("/v1/chat/completions.", id="dot"),
        pytest.param("/V1/Chat/Completions", id="capitals"),
    ],
)
def test_a_disguised_path_counts_as_what_a_server_might_take_it_for(path: str) -> None:
    assert kind_of(path) is BodyKind.CHAT


def test_a_disguised_form_is_one() -> None:
    assert takes_form("/v1/images%2FEdits/;a")
    assert not takes_form("/v1/images/generations?x=/v1/images/edits")


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        pytest.param(b"", "", "is empty", id="empty"),
        pytest.param(b" \n", "", "is empty", id="blank"),
        pytest.param(b'{"model":', "", "not valid JSON", id="cut-off"),
        pytest.param(b'{"model":"m",\n "a":x}', "", "line 2 column 6", id="position"),
        pytest.param(b"\xef\xbb\xbf{}", "", "byte order mark", id="bom"),
        pytest.param(b'{"model":"\xff"}', "", "not valid UTF-8", id="not-utf-8"),
        pytest.param(chat().decode().encode("utf-16"), "", "not valid JSON", id="utf-16"),
        pytest.param(chat(b',"a":NaN'), "", "not valid JSON", id="nan"),
        pytest.param(chat(b',"a":-Infinity'), "", "not valid JSON", id="infinity"),
        pytest.param(chat(b',"a":"\\ud800"'), "", "not valid JSON", id="lone-surrogate"),
        pytest.param(chat() + b"{}", "", "trailing", id="trailing"),
        pytest.param(b'["model"]', "", "must be a JSON object", id="not-an-object"),
        pytest.param(chat(b',"model":"n"'), "model", "`model` twice", id="duplicate-model"),
        pytest.param(chat(b',"mod\\u0065l":"n"'), "model", "`model` twice", id="duplicate-escaped"),
        pytest.param(chat(b',"a":[{"b":1,"b":2}]'), "b", "`b` twice", id="duplicate-nested"),
        pytest.param(b"{" + MESSAGES + b"}", "model", "you must provide a model parameter", id="no-model"),
        pytest.param(b'{"model":null}', "model", "you must provide a model parameter", id="null-model"),
        pytest.param(b'{"model":""}', "model", "you must provide a model parameter", id="empty-model"),
        pytest.param(b'{"model":7}', "model", "must be a string", id="numeric-model"),
        pytest.param(b'{"model":false}', "model", "must be a string", id="boolean-model"),
        pytest.param(b'{"model":"a\\r\\nb"}', "model", "control characters", id="model-with-line-break"),
        pytest.param(b'{"model":"a\\u0000"}', "model", "control characters", id="model-with-nul"),
        pytest.param(b'{"model":"' + b"m" * 513 + b'"}', "model", "longer than", id="long-model"),
        pytest.param(chat(b',"stream":"true"'), "stream", "true or false", id="stream-string"),
        pytest.param(chat(b',"stream":1'), "stream", "true or false", id="stream-number"),
        pytest.param(b'{"model":"m"}', "messages", "`messages`", id="no-messages"),
        pytest.param(b'{"model":"m","messages":{}}', "messages", "must be a list", id="messages-object"),
        pytest.param(b'{"model":"m","messages":[]}', "messages", "at least one", id="messages-empty"),
        pytest.param(b"[" * 100_000, "", "too deep", id="bottomless"),
        pytest.param(chat(b',"a":' + b"[" * 120 + b"]" * 120), "", "deeper than 100", id="deeper-than-the-limit"),
        pytest.param(chat(b',"a":' + b"9" * 5000), "", "out of range", id="more-digits-than-an-int-may-have"),
    ],
)
def test_unreadable_chat_is_refused_with_a_reason(body: bytes, param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert caught.value.param == param
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        pytest.param("/v1/completions", b'{"model":"m"}', "prompt", id="completions"),
        pytest.param("/v1/completions", b'{"model":"m","prompt":null}', "prompt", id="completions-null"),
        pytest.param("/v1/embeddings", b'{"model":"m"}', "input", id="embeddings"),
        pytest.param("/v1/responses", b'{"model":"m"}', "input", id="responses"),
        pytest.param("/v1/messages", b'{"model":"m"}', "messages", id="anthropic"),
        pytest.param("/rerank", b'{"query":"q"}', "model", id="rerank-model"),
        pytest.param("/tokenize", b'{"model":3}', "model", id="tokenize-model-type"),
    ],
)
def test_each_api_has_its_needs(path: str, body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(body, path)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(CHAT, chat(b',"stream":null,"temperature":"hot","n":-1,"stream_options":[]'), id="odd-types"),
        pytest.param(CHAT, chat(b',"a":1' + b"0" * 400), id="huge-integer"),
        pytest.param(CHAT, chat(b',"a":1e99999,"b":0.' + b"1" * 10_000), id="huge-exponent-and-fraction"),
        pytest.param(CHAT, chat(b',"a":"\\u0000\\ud83d\\ude00"'), id="nul-and-surrogate-pair"),
        pytest.param(CHAT, chat(b',"a":"' + b"[" * 1000 + b'"'), id="brackets-in-a-string-are-no-depth"),
        pytest.param(
            CHAT, b'{"model":"m","messages":[3,null,"x",{"role":[],"content":{"a":1}},{}]}', id="odd-messages"
        ),
        pytest.param("/v1/completions", b'{"model":"m","prompt_embeds":"aaaa"}', id="prompt-embeds"),
        pytest.param("/v1/completions", b'{"model":"m","prompt":7}', id="prompt-number"),
        pytest.param("/v1/embeddings", b'{"model":"m","messages":[]}', id="chat-embeddings"),
        pytest.param("/tokenize", b'{"prompt":"x"}', id="tokenize-without-model"),
        pytest.param("/generate", b'{"inputs":"x"}', id="generate-without-model"),
    ],
)
def test_what_a_model_server_judges_passes(path: str, body: bytes) -> None:
    assert read(body, path).format is BodyFormat.JSON


@pytest.mark.parametrize(
    ("body", "model"),
    [
        pytest.param(b'{"model":"m"}', "m", id="object-with-model"),
        pytest.param(b' {"a":{"model":"n"}}', "", id="nested-model-does-not-count"),
        pytest.param(b'{"model":7}', "", id="model-is-no-string"),
        pytest.param(b'{"model":"a\\nb"}', "", id="model-unfit-for-a-header"),
        pytest.param(b'{"model":"a","model":"b"}', "", id="two-models-are-none"),
        pytest.param(b'{"model":', "", id="invalid-json"),
        pytest.param(b"\x00\xff\x1f", "", id="binary"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b'{"model":"' + b"m" * 2000 + b'"}', "", id="larger-than-the-limit"),
    ],
)
def test_unknown_paths_are_never_refused(body: bytes, model: str) -> None:
    parsed = read(body, "/anything", BodyLimits(max_bytes=1000))
    assert (parsed.kind, parsed.model) == (BodyKind.OTHER, model)
    assert (parsed.format is BodyFormat.JSON) == bool(model)


@pytest.mark.parametrize(
    ("body", "unreadable"),
    [
        pytest.param(b'{"model":"m"}', False, id="read"),
        pytest.param(b'{"a":1}', False, id="no-model"),
        pytest.param(b"model=m", False, id="no-object"),
        pytest.param(b'{"model":"a","model":"b"}', True, id="two-models"),
        pytest.param(b'{"model":"a\nb"}', True, id="no-name"),
        pytest.param(b'{"model":"a",}', True, id="lenient-json"),
        pytest.param(b'\xef\xbb\xbf{"model":"a"}', True, id="byte-order-mark"),
        pytest.param('{"model":"a"}'.encode("utf-16"), True, id="utf-16"),
        pytest.param('{"model":"a"}'.encode("utf-16-be"), True, id="utf-16-without-mark"),
        pytest.param('{"model":"a"}'.encode("utf-32-le"), True, id="utf-32"),
        pytest.param(b'{"model":"' + b"m" * 2000 + b'"}', True, id="too-large"),
    ],
)
def test_a_body_in_which_others_might_find_a_model_is_told_from_one_without(body: bytes, unreadable: bool) -> None:
    assert bool(read(body, "/anything", BodyLimits(max_bytes=1000)).unreadable) == unreadable


@pytest.mark.parametrize("encoding", ["gzip", "deflate, br", "zstd", "identity, gzip", "unheard-of"])
def test_an_encoded_body_is_not_read(encoding: str) -> None:
    with pytest.raises(EncodedBody):
        read(chat(), encoding=encoding)
    assert read(chat(), "/anything", encoding=encoding).unreadable
    assert not read(chat(), "/anything", encoding=encoding).model


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_identity_is_no_encoding(encoding: str) -> None:
    assert read(chat(), encoding=encoding).model == "m"


@pytest.mark.parametrize("character", ["\x00", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029"])
def test_a_model_name_moves_no_cursor(character: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(json.dumps({"model": f"a{character}b", "messages": [{"role": "user", "content": "x"}]}).encode())
    assert caught.value.param == "model"


def test_size_is_limited() -> None:
    assert read(chat(), limits=BodyLimits(max_bytes=len(chat()))).model == "m"
    with pytest.raises(RequestTooLarge) as caught:
        read(chat(), limits=BodyLimits(max_bytes=len(chat()) - 1))
    assert caught.value.limit_bytes == len(chat()) - 1


@pytest.mark.parametrize("depth", [1, 2, 5, 150, 200])
def test_depth_is_limited_exactly(depth: int) -> None:
    """The body's own object is one level."""
    limits = BodyLimits(max_depth=depth)
    deep = b'{"prompt":' + b"[" * (depth - 1) + (b"]" * (depth - 1) or b"1")
    assert read(deep + b"}", "/tokenize", limits).kind is BodyKind.TOKENIZE
    deeper = b'{"prompt":' + b"[" * depth + b"]" * depth
    with pytest.raises(InvalidRequest, match="deep"):
        read(deeper + b"}", "/tokenize", limits)


def test_number_of_values_is_limited_outside_strings() -> None:
    limits = BodyLimits(max_values=100)
    assert read(chat(b',"a":"' + b"[{," * 100 + b'"'), limits=limits).model == "m"
    with pytest.raises(InvalidRequest, match="more than 100 JSON values and keys"):
        read(chat(b',"a":[' + b"0," * 150 + b"0]"), limits=limits)


@pytest.mark.parametrize("max_depth", [0, 201])
def test_depth_limits_that_cannot_hold_are_refused(max_depth: int) -> None:
    with pytest.raises(ValueError, match="max_depth"):
        BodyLimits(max_depth=max_depth)


def test_negative_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        BodyLimits(max_bytes=-1)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        pytest.param(b"", None, id="none"),
        pytest.param(b',"max_tokens":5', 5, id="max-tokens"),
        pytest.param(b',"max_tokens":5,"max_completion_tokens":7', 7, id="newer-name-first"),
        pytest.param(b',"max_output_tokens":8.0', 8, id="integral-float"),
        pytest.param(b',"max_tokens":0', 0, id="zero"),
        pytest.param(b',"max_tokens":-1', None, id="negative"),
        pytest.param(b',"max_tokens":true', None, id="boolean"),
        pytest.param(b',"max_tokens":1e400', None, id="infinite"),
        pytest.param(b',"max_tokens":1' + b"0" * 400, 2**31 - 1, id="huge"),
        pytest.param(b',"sampling_params":{"max_new_tokens":9}', 9, id="sampling-parameters"),
    ],
)
def test_output_limit(extra: bytes, expected: int | None) -> None:
    assert read(chat(extra)).max_output_tokens == expected


@pytest.mark.parametrize(
    ("extra", "streaming", "wants_usage", "has_options"),
    [
        pytest.param(b"", False, False, False, id="neither"),
        pytest.param(b',"stream":true', True, False, False, id="stream"),
        pytest.param(b',"stream":true,"stream_options":null', True, False, True, id="null-options"),
        pytest.param(b',"stream":true,"stream_options":{"include_usage":true}', True, True, True, id="usage"),
        pytest.param(b',"stream":true,"stream_options":{"include_usage":1}', True, False, True, id="no-boolean"),
    ],
)
def test_streaming_and_usage(extra: bytes, streaming: bool, wants_usage: bool, has_options: bool) -> None:
    parsed = read(chat(extra))
    assert (parsed.streaming, parsed.wants_usage, parsed.has_stream_options) == (streaming, wants_usage, has_options)


def test_prompt_is_not_shown() -> None:
    assert "secret" not in repr(read(b'{"model":"m","messages":[{"role":"user","content":"secret"}]}'))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ["model", "messages", "prompt", "input", "tools", "stream", "stream_options", "system", "query", "cache_salt"]
documents = st.dictionaries(st.sampled_from(FIELDS), values)


@given(
    st.binary() | st.text().map(str.encode) | documents.map(lambda d: json.dumps(d).encode()), st.sampled_from(PATHS)
)
def test_nothing_but_domain_errors(body: bytes, path: str) -> None:
    try:
        parsed = read(body, path, BodyLimits(max_prompt_bytes=64))
    except EndpointPickerError:
        return
    assert len(parsed.prompt) <= 64
    assert parsed.prompt_tokens >= 0
