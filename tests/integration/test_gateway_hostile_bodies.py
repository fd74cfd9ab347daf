"""Bodies made to cost much, or to be read in two ways, are refused quickly and leave no memory behind."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integration.hostile_site import CHAT, Site, hostile_site
from integration.wire import Answer, request

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

LIMIT = 4 * 1024 * 1024
MIB = 1024 * 1024
CHATS = b"POST /v1/chat/completions HTTP/1.1"
SPEECH = b"POST /v1/audio/transcriptions HTTP/1.1"
OPEN = CHAT[:-1] + b',"x":'
FORM = b"content-type: multipart/form-data; boundary=b"
PLAIN = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nmodel\r\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with hostile_site("--max-body-bytes", str(LIMIT)) as running:
        yield running


def form(*parts: bytes, line: bytes = SPEECH, kind: bytes = FORM) -> bytes:
    """A form of *parts*; its content-type replaces that of JSON."""
    body = b"".join(parts)
    return request(line, body=body).replace(b"content-type: application/json", kind)


HUGE = {
    "deep": CHAT[:-1] + b',"x":' + b"[" * 3_000_000,
    "deep-objects": b'{"a":' * 700_000,
    "deep-and-closed": OPEN + b"[" * 150 + b"]" * 150 + b"}",
    "number-of-a-million-digits": OPEN + b"9" * 10**6 + b"}",
    "many-long-numbers": OPEN + b"[" + b",".join([b"9" * 4400] * 900) + b"]}",
    "empty-lists": OPEN + b"[" + b"[]," * 10**6 + b"1]}",
    "commas": b"," * LIMIT,
    "quotes": b'"' * LIMIT,
    "backslashes": OPEN + b'"' + b"\\" * (LIMIT - 200),
    "blanks": b" " * LIMIT,
    "same-key": b'{"model":"model",' + b'"x":1,' * 500_000 + b'"y":1}',
    "same-key-below": OPEN + b'{"k":1,"k":2}}',
    "same-key-escaped": CHAT[:-1] + rb',"\u006dodel":"other"}',
    "not-utf-8": OPEN + b'"' + b"\xff" * MIB,
    "overlong": OPEN + b'"\xc0\xaf"}',
    "surrogates": OPEN + rb'"\ud800"}',
    "utf-16": CHAT.decode().encode("utf-16"),
    "utf-32": CHAT.decode().encode("utf-32-be"),
    "byte-order-mark": b"\xef\xbb\xbf" + CHAT,
    "nul": CHAT + b"\0",
    "nothing-but-nul": b"\0" * LIMIT,
    "second-document": CHAT + CHAT,
    "infinity": OPEN + b"Infinity}",
    "comment": b"/*x*/" + CHAT,
    "form-encoded": b"model=model&messages=x",
    "gzip": gzip.compress(CHAT),
    "zlib": zlib.compress(CHAT),
    "name-of-a-megabyte": CHAT.replace(b'"model"', b'"model":"' + b"m" * MIB + b'","x"', 1),
}
"""Chats that cannot be read."""


async def refused(site: Site, data: bytes) -> Answer:
    before = site.received
    answer = await site.send(data)
    assert answer.error["type"] == "invalid_request_error"
    assert site.received == before
    assert len(answer.body) < 2000
    return answer


@pytest.mark.parametrize("name", HUGE)
async def test_a_chat_that_cannot_be_read_is_refused(site: Site, name: str) -> None:
    assert (await refused(site, request(CHATS, body=HUGE[name]))).status == 400


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"1e999999", id="beyond-floats"),
        pytest.param(b"-1e-999999", id="below-floats"),
        pytest.param(b"9" * 4000, id="long-number"),
        pytest.param(b"0." + b"0" * 10**6 + b"1", id="long-fraction"),
        pytest.param(b'"\\u0000"', id="nul"),
        pytest.param(b'"' + b"\\n" * 10**6 + b'"', id="escapes"),
        pytest.param(b"{" + b",".join(b'"%x":1' % n for n in range(200_000)) + b"}", id="many-keys"),
        pytest.param(b"[" * 90 + b"]" * 90, id="deep"),
    ],
)
async def test_odd_values_are_the_model_servers_to_judge_and_arrive_as_they_were(site: Site, value: bytes) -> None:
    answer = await site.send(request(CHATS, body=OPEN + value + b"}"))
    assert answer.status == 200
    arrived = site.named.received[-1].body
    assert arrived == (OPEN + value + b"}").replace(b'"model": "model"', b'"model": "served"')


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, gzip"])
@pytest.mark.parametrize("body", [CHAT, gzip.compress(bytes(20 * MIB))], ids=["plain", "bomb"])
async def test_an_encoded_body_is_refused_unopened(site: Site, encoding: str, body: bytes) -> None:
    answer = await refused(site, request(CHATS, f"content-encoding: {encoding}".encode(), body=body))
    assert (answer.status, answer.error["code"]) == (415, "unsupported_content_encoding")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(form(*[PLAIN.replace(b"model", b"m%d" % n) for n in range(10_000)], b"--b--\r\n"), id="parts"),
        pytest.param(form(b"--b" * 10**6), id="endless-boundary"),
        pytest.param(form(b"--b\r\n" * 500_000), id="boundaries"),
        pytest.param(form(PLAIN, PLAIN, b"--b--\r\n"), id="model-twice"),
        pytest.param(form(PLAIN), id="no-end"),
        pytest.param(form(PLAIN, b"--b--\r\n" + PLAIN), id="behind-the-end"),
        pytest.param(form(PLAIN.replace(b"\r\n", b"\n"), b"--b--\n"), id="bare-line-feeds"),
        pytest.param(form(PLAIN, b"--b--\r\n", kind=FORM + b"; boundary=c"), id="two-boundaries"),
        pytest.param(form(PLAIN, b"--b--\r\n", kind=FORM[:-1] + b"b" * 30_000), id="long-boundary"),
        pytest.param(form(PLAIN, b"--b--\r\n", kind=FORM + b';a="' + b"\\" * 30_000), id="open-quote"),
        pytest.param(form(PLAIN.replace(b"\r\n\r\n", b"\r\nx: " + b"a" * 10**5 + b"\r\n\r\n")), id="long-header"),
        pytest.param(form(PLAIN.replace(b"name=", b"name*=utf-8''model; name="), b"--b--\r\n"), id="two-names"),
        pytest.param(form(PLAIN.replace(b"model\r\n", b"m" * MIB + b"\r\n"), b"--b--\r\n"), id="long-model"),
        pytest.param(
            request(SPEECH, body=b"model=model").replace(b"json", b"x-www-form-urlencoded"), id="form-encoded"
        ),
    ],
)
async def test_a_form_that_can_be_read_in_two_ways_or_costs_much_is_refused(site: Site, data: bytes) -> None:
    assert (await refused(site, data)).status == 400


@pytest.mark.parametrize(
    "path",
    ["/named/v1/chat/completions/", "/named/v1/chat%2fcompletions", "/named/v1/CHAT/completions", "/named/custom"],
)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"model":"model","model":"secret","messages":[{}]}', id="two-models"),
        pytest.param(b'\xef\xbb\xbf{"model":"secret","messages":[{}]}', id="byte-order-mark"),
        pytest.param('{"model":"secret","messages":[{}]}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'{"model":"secret",}', id="lenient-json"),
        pytest.param(b'{"model":"secret\\u0000","messages":[{}]}', id="nul-in-the-name"),
    ],
)
async def test_no_disguise_asks_a_pool_for_a_model_that_it_does_not_name(site: Site, path: str, body: bytes) -> None:
    answer = await refused(site, request(f"POST {path} HTTP/1.1".encode(), body=body))
    assert answer.status in {400, 404}
    readable = request(f"POST {path} HTTP/1.1".encode(), body=b'{"model":"secret","messages":[{}]}')
    answer = await refused(site, readable)
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_bodies_leave_no_memory_behind(site: Site) -> None:
    async def all_at_once() -> tuple[int, int]:
        async with asyncio.TaskGroup() as group:
            for body in HUGE.values():
                group.create_task(site.send(request(CHATS, body=body)))
        await site.still_serves()
        return site.gateway.resident_bytes("picker"), site.gateway.resident_bytes("envoy")

    before = await all_at_once()
    after = await all_at_once()
    for was, now in zip(before, after, strict=True):
        assert now < was + 64 * MIB
