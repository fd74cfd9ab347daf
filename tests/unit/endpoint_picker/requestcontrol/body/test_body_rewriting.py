"""A rewrite changes the model's value and stream_options.include_usage; every other byte stays."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.errors import InternalFailure
from endpoint_picker.requestcontrol.body.members import _is_value_of, locate_member
from endpoint_picker.requestcontrol.body.parsed import BodyLimits
from endpoint_picker.requestcontrol.body.reading import read_body
from endpoint_picker.requestcontrol.body.rewriting import rewrite

CHAT = "/v1/chat/completions"


def rewritten(body: bytes, model: str | None, usage: bool = False, path: str = CHAT) -> bytes:
    parsed = read_body(body, path=path, content_type="", limits=BodyLimits())
    return rewrite(body, parsed, model=model, add_include_usage=usage)


DECOYS = b'{"model" : "x"},' * 5
M = b'"messages":[{"role":"user","content":"\\"model\\":\\"m\\""}]'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b'{"model":"m",' + M + b"}", b'{"model":"new",' + M + b"}", id="first"),
        pytest.param(b"{" + M + b',"model":"m"}', b"{" + M + b',"model":"new"}', id="last"),
        pytest.param(b' { "model"\n:\t"m" ,' + M + b"} ", b' { "model"\n:\t"new" ,' + M + b"} ", id="whitespace"),
        pytest.param(
            b'{"mod\\u0065l":"\\u006d",' + M + b"}", b'{"mod\\u0065l":"new",' + M + b"}", id="escaped-key-and-value"
        ),
        pytest.param(
            b'{"tools":[' + DECOYS + b"1]," + M + b',"model":"m"}',
            b'{"tools":[' + DECOYS + b"1]," + M + b',"model":"new"}',
            id="nested-models-first",
        ),
        pytest.param(
            b'{"a":{"model":"m"},' + M + b',"\\u006dodel":"m","z":{"model":"m"}}',
            b'{"a":{"model":"m"},' + M + b',"\\u006dodel":"new","z":{"model":"m"}}',
            id="escaped-key-among-plain-decoys",
        ),
        pytest.param(
            b'{"user":"model","x":"\\\\","model":"m",' + M + b"}",
            b'{"user":"model","x":"\\\\","model":"new",' + M + b"}",
            id="value-that-spells-the-key",
        ),
        pytest.param(
            b'{"x":[' + b'"model",' * 70 + b'"model"],"model":"m",' + M + b"}",
            b'{"x":[' + b'"model",' * 70 + b'"model"],"model":"new",' + M + b"}",
            id="many-values-that-spell-the-key",
        ),
        pytest.param(
            b'{"\\\\\\"model":"a","n":1' + b"0" * 400 + b',"model":"m",' + M + b"}",
            b'{"\\\\\\"model":"a","n":1' + b"0" * 400 + b',"model":"new",' + M + b"}",
            id="key-that-ends-like-it-and-huge-number",
        ),
    ],
)
def test_only_the_model_changes(before: bytes, after: bytes) -> None:
    assert rewritten(before, "new") == after


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "ünï/日本:語", "a b", "new\u2028line"])
def test_model_names_are_escaped(name: str) -> None:
    result = rewritten(b'{"model":"m",' + M + b"}", name)
    assert json.loads(result)["model"] == name
    assert result.endswith(b"," + M + b"}")


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("model", [None, "m"])
def test_nothing_to_do_gives_the_same_bytes(model: str | None, usage: bool) -> None:
    body = b'{"model":"m",' + M + b',"stream":true,"stream_options":{"include_usage":true}}'
    assert rewritten(body, model, usage) is body


S = b'{"model":"m",' + M + b',"stream":true'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"}", b',"stream_options":{"include_usage":true}}', id="absent"),
        pytest.param(b" }\n", b' ,"stream_options":{"include_usage":true}}\n', id="absent-whitespace"),
        pytest.param(b',"stream_options":null}', b',"stream_options":{"include_usage":true}}', id="null"),
        pytest.param(b',"stream_options":{ }}', b',"stream_options":{ "include_usage":true}}', id="empty"),
        pytest.param(
            b',"stream_options":{"x":{"include_usage":0}},"y":1}',
            b',"stream_options":{"x":{"include_usage":0},"include_usage":true},"y":1}',
            id="other-options",
        ),
        pytest.param(
            b',"stream_options": {"include_usage" : false, "x":1}}',
            b',"stream_options": {"include_usage" : true, "x":1}}',
            id="false",
        ),
        pytest.param(
            b',"stream_options":{"include_us\\u0061ge":null}}',
            b',"stream_options":{"include_us\\u0061ge":true}}',
            id="escaped",
        ),
        pytest.param(b',"stream_options":"x"}', b',"stream_options":"x"}', id="neither-object-nor-null-stays"),
    ],
)
def test_usage_is_asked_for(before: bytes, after: bytes) -> None:
    assert rewritten(S + before, None, usage=True) == S + after
    both = rewritten(S + before, "new", usage=True)
    assert both == S.replace(b'"model":"m",', b'"model":"new",') + after


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(CHAT, b'{"model":"m",' + M + b"}", id="no-stream"),
        pytest.param("/v1/messages", S + b"}", id="anthropic"),
        pytest.param("/v1/responses", b'{"model":"m","input":"x","stream":true}', id="responses"),
    ],
)
def test_usage_is_not_asked_for_where_there_is_no_such_option(path: str, body: bytes) -> None:
    assert rewritten(body, None, usage=True, path=path) == body


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/tokenize", b'{"prompt":"x"}', id="no-model"),
        pytest.param("/tokenize", b'{"model":null,"prompt":"x"}', id="null-model"),
        pytest.param("/anything", b"\xff{", id="opaque"),
    ],
)
def test_a_body_without_model_gets_none(path: str, body: bytes) -> None:
    assert rewritten(body, "new", path=path) == body


def test_unknown_paths_are_rewritten_when_they_name_a_model() -> None:
    assert rewritten(b'{"model":"m"}', "new", path="/anything") == b'{"model":"new"}'


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(b'{"model":"n"}', id="another-model"),
        pytest.param(b'{"a":{"model":"m"}}', id="no-model"),
        pytest.param(b'"model":"m"', id="no-object"),
        pytest.param(b'{"model":{', id="cut-off"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_another_body_than_the_one_read_is_a_defect(other: bytes) -> None:
    parsed = read_body(S + b"}", path=CHAT, content_type="", limits=BodyLimits())
    with pytest.raises(InternalFailure):
        rewrite(other, parsed, model="new", add_include_usage=False)


@pytest.mark.parametrize("cut", [b"]", b" "])
def test_an_object_without_end_is_a_defect(cut: bytes) -> None:
    parsed = read_body(S + b"}", path=CHAT, content_type="", limits=BodyLimits())
    with pytest.raises(InternalFailure):
        rewrite(S + cut, parsed, model=None, add_include_usage=True)


def test_a_name_that_no_json_can_carry_is_a_defect() -> None:
    with pytest.raises(InternalFailure):
        rewritten(S + b"}", "\ud800")


def test_the_proof_holds_at_the_value_and_nowhere_else() -> None:
    body = b'{"a":{"model":1},"model":"x","b":["model",{"c":"\\"model\\":2"}],"d":null}'
    proven = [start for start in range(len(body)) if _is_value_of(body, start, "model")]
    assert proven == [body.index(b'"x"')]


keys = st.sampled_from(["model", "stream_options", "a", 'q"', "\\", "include_usage"]) | st.text(
    st.characters(codec="utf-8"), max_size=4
)
scalars = st.none() | st.booleans() | st.integers() | st.sampled_from(["model", '"model":', "{[", "\\", "é\U0001f600"])
values = st.recursive(
    scalars | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)
blanks = st.text(" \t\r\n", max_size=2)


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """Spell *value* as JSON with random white space and escapes."""
    blank = draw(blanks)
    if isinstance(value, dict):
        members = [
            f"{draw(blanks)}{draw(spelled(k))}{draw(blanks)}:{draw(blanks)}{draw(spelled(v))}{draw(blanks)}"
            for k, v in value.items()
        ]
        return "{" + (",".join(members) or blank) + "}"
    if isinstance(value, list):
        return "[" + (",".join(f"{blank}{draw(spelled(v))}" for v in value) or blank) + "]"
    if isinstance(value, str):
        plain = json.dumps(value, ensure_ascii=draw(st.booleans()))
        first = ord(value[0]) if value else 0
        if value and 0x20 < first < 0xD800 and first not in (0x22, 0x5C) and draw(st.booleans()):
            return f'"\\u{first:04x}' + json.dumps(value[1:])[1:]
        return plain
    return json.dumps(value)


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    document = draw(st.dictionaries(keys, values, max_size=4))
    document |= {"model": draw(st.sampled_from(["m", 'a"b', "é"])), "messages": [draw(values)], "stream": True}
    if draw(st.booleans()):
        document["stream_options"] = draw(st.none() | st.dictionaries(keys, values, max_size=3))
    else:
        document.pop("stream_options", None)
    items = draw(st.permutations(list(document.items())))
    text = draw(blanks) + draw(spelled(dict(items))) + draw(blanks)
    return document, text.encode()


@given(requests(), st.sampled_from(["new", 'n"\\', "日本"]), st.booleans())
def test_rewriting_means_what_was_asked_and_nothing_else(
    request_: tuple[dict[str, Any], bytes], model: str, usage: bool
) -> None:
    document, body = request_
    result = rewritten(body, model, usage)
    expected = {**document, "model": model}
    if usage:
        expected["stream_options"] = {**(document.get("stream_options") or {}), "include_usage": True}
    assert json.loads(result) == expected

    edited = ["model"] if not usage else ["model", "stream_options"]
    assert _without(result, edited) == _without(body, [name for name in edited if name in document])


def _without(body: bytes, names: list[str]) -> bytes:
    """Return *body* without the values of *names*, and without the options that are put at the end."""
    for name in names:
        span = locate_member(body, name)
        body = body[: span.start] + b"0" + body[span.end :]
    return body.replace(b',"stream_options":0}', b"}")
