"""Whatever a client does to the framing of HTTP/1, a server sees requests that the picker judged, and no others."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integration.hostile_site import CHAT, Site, hostile_site
from integration.wire import request, send_all

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

LENGTH = b"content-length: %d" % len(CHAT)
CHUNKED = b"transfer-encoding: chunked"
IN_CHUNKS = b"%x\r\n" % len(CHAT) + CHAT + b"\r\n0\r\n\r\n"
HIDDEN = request(b"POST /any/hidden HTTP/1.1", body=CHAT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with hostile_site() as running:
        yield running


def post(*fields: bytes, host: bytes = b"x") -> bytes:
    return request(b"POST /v1/chat/completions HTTP/1.1", *fields, host=host)


def line(text: bytes) -> bytes:
    return request(text, body=CHAT)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(post(LENGTH, CHUNKED) + IN_CHUNKS, 400, id="length-and-chunked"),
        pytest.param(post(CHUNKED, b"content-length: 6") + b"0\r\n\r\nX" + HIDDEN, 400, id="chunked-and-length"),
        pytest.param(post(LENGTH, CHUNKED) + b"0\r\n\r\n" + HIDDEN, 400, id="chunked-end-within-length"),
        pytest.param(post(b"transfer-encoding: chunked, identity") + IN_CHUNKS, 501, id="chunked-then-identity"),
        pytest.param(post(b"transfer-encoding: identity, chunked") + IN_CHUNKS, 501, id="identity-then-chunked"),
        pytest.param(post(b"transfer-encoding: gzip, chunked") + IN_CHUNKS, 501, id="gzip-and-chunked"),
        pytest.param(post(b"transfer-encoding: xchunked") + IN_CHUNKS, 501, id="xchunked"),
        pytest.param(post(b"transfer-encoding: xchunked", LENGTH) + CHAT, 400, id="xchunked-and-length"),
        pytest.param(post(b"transfer-encoding: chunked;a=b") + IN_CHUNKS, 501, id="chunked-with-parameter"),
        pytest.param(post(b'transfer-encoding: "chunked"') + IN_CHUNKS, 501, id="chunked-in-quotes"),
        pytest.param(post(b"transfer-encoding: \x0bchunked") + IN_CHUNKS, 400, id="vertical-tab"),
        pytest.param(post(b"transfer-encoding: chunked\0") + IN_CHUNKS, 400, id="chunked-nul"),
        pytest.param(post(CHUNKED, CHUNKED) + IN_CHUNKS, 501, id="chunked-twice"),
        pytest.param(post(CHUNKED, b"transfer-encoding: identity") + IN_CHUNKS, 501, id="chunked-and-identity"),
        pytest.param(post(b"transfer-encoding : chunked", LENGTH) + CHAT, 400, id="blank-before-colon"),
        pytest.param(post(b"transfer-encoding:", LENGTH) + CHAT, 400, id="no-encoding"),
        pytest.param(post(b"x: y\ntransfer-encoding: chunked", LENGTH) + IN_CHUNKS, 400, id="after-a-bare-lf"),
        pytest.param(post(LENGTH, LENGTH) + CHAT, 400, id="same-length-twice"),
        pytest.param(post(LENGTH, b"content-length: 5") + CHAT, 400, id="two-lengths"),
        pytest.param(post(LENGTH + b", %d" % len(CHAT)) + CHAT, 400, id="list-of-lengths"),
        pytest.param(post(b"content-length: -1") + CHAT, 400, id="negative"),
        pytest.param(post(b"content-length: +%d" % len(CHAT)) + CHAT, 400, id="plus"),
        pytest.param(post(b"content-length: 0x10") + CHAT, 400, id="hexadecimal"),
        pytest.param(post(b"content-length: 1e2") + CHAT, 400, id="exponent"),
        pytest.param(post(b"content-length: 9 7") + CHAT, 400, id="blank-within"),
        pytest.param(post(b"content-length:") + CHAT, 400, id="no-length"),
        pytest.param(post("content-length: ٩٧".encode()) + CHAT, 400, id="arabic-digits"),
        pytest.param(post(b"content-length: " + b"9" * 30) + CHAT, 400, id="absurd-length"),
        pytest.param(post(b"content-length: 18446744073709551617") + CHAT, 400, id="beyond-64-bits"),
        pytest.param(post(b"content-length: 9223372036854775807") + CHAT, 413, id="63-bits"),
        pytest.param(post(b"content-length : %d" % len(CHAT)) + CHAT, 400, id="blank-before-the-lengths-colon"),
        pytest.param(post(CHUNKED) + b"0x" + IN_CHUNKS, 400, id="chunk-size-0x"),
        pytest.param(post(CHUNKED) + b"-" + IN_CHUNKS, 400, id="negative-chunk"),
        pytest.param(post(CHUNKED) + b"f" * 17 + b"\r\n" + CHAT, 400, id="chunk-beyond-64-bits"),
        pytest.param(post(CHUNKED) + IN_CHUNKS.replace(b"\r\n", b"\n"), 400, id="bare-lf-in-chunks"),
        pytest.param(post(CHUNKED) + IN_CHUNKS.replace(b"\r\n0", b"XX0"), 400, id="no-line-end-after-chunk"),
        pytest.param(post(CHUNKED) + IN_CHUNKS.replace(b"\r\n", b";a\nb\r\n", 1), 400, id="lf-in-chunk-extension"),
        pytest.param(post(CHUNKED) + IN_CHUNKS.replace(b"\r\n", b";a\rb\r\n", 1), 400, id="cr-in-chunk-extension"),
        pytest.param(post(CHUNKED) + b"5\r\n" + CHAT + b"\r\n0\r\n\r\n" + HIDDEN, 400, id="short-chunk"),
        pytest.param(post(CHUNKED) + IN_CHUNKS[:-2] + b"a b\r\n\r\n", 400, id="broken-trailer"),
        pytest.param(b"POST /any/x HTTP/1.1\r\n y: z\r\nhost: x\r\n\r\n" + HIDDEN, 400, id="fold-before-any-header"),
        pytest.param(b"POST /any/x HTTP/1.1\r\n" + LENGTH + b"\r\n\r\n" + CHAT, 400, id="no-host"),
        pytest.param(post(b"host: host.example", LENGTH) + CHAT, 400, id="two-hosts"),
        pytest.param(post(LENGTH, host=b"host.example, x") + CHAT, 400, id="list-of-hosts"),
        pytest.param(post(LENGTH, host=b"x@host.example") + CHAT, 400, id="user-at-host"),
        pytest.param(post(LENGTH, host=b"host.example/x") + CHAT, 400, id="path-in-host"),
        pytest.param(line(b"POST ftp://host.example/any/x HTTP/1.1"), 400, id="another-scheme"),
        pytest.param(line(b"POST https://host.example/any/x HTTP/1.1"), 403, id="https-in-plain-text"),
        pytest.param(line(b"POST host.example:80 HTTP/1.1"), 400, id="authority-form"),
        pytest.param(line(b"POST any/x HTTP/1.1"), 400, id="no-slash"),
        pytest.param(line(b"OPTIONS * HTTP/1.1"), 404, id="asterisk"),
        pytest.param(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: 127.0.0.1:22\r\n\r\n", 403, id="connect"),
        pytest.param(line(b"CONNECT /any/x HTTP/1.1"), 400, id="connect-with-path"),
        pytest.param(line(b"TRACE /any/x HTTP/1.1"), 405, id="trace"),
        pytest.param(line(b"TRACE /web/x HTTP/1.1"), 405, id="trace-to-a-service"),
        pytest.param(line(b"TRACK /any/x HTTP/1.1"), 400, id="track"),
        pytest.param(line(b"post /any/x HTTP/1.1"), 400, id="lower-case-method"),
        pytest.param(line(b"A" * 5000 + b" /any/x HTTP/1.1"), 400, id="endless-method"),
        pytest.param(line(b"POST /any/x HTTP/1.0"), 426, id="http-1.0"),
        pytest.param(line(b"POST /any/x HTTP/2.0"), 426, id="http-2.0-in-words"),
        pytest.param(b"GET /any/x\r\n", 426, id="http-0.9"),
        pytest.param(line(b"POST /any/x HTTP/1.1 x"), 400, id="four-words"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, 400, id="tls-hello"),
        pytest.param(post(LENGTH, b"connection: upgrade", b"upgrade: foo") + CHAT, 403, id="unknown-upgrade"),
        pytest.param(post(b"connection: upgrade", b"upgrade: websocket") + HIDDEN, 403, id="websocket-to-a-pool"),
        pytest.param(post(LENGTH, b"content-encoding: gzip") + CHAT, 415, id="content-encoding"),
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused_in_the_form_of_the_api(
    site: Site, data: bytes, status: int
) -> None:
    before = site.received
    answer = await site.send(data)
    assert (answer.status, answer.error["type"]) == (
        status,
        {403: "permission_error", 501: "server_error"}.get(status, "invalid_request_error"),
    )
    assert site.received == before
    await site.still_serves()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(post(CHUNKED) + IN_CHUNKS, id="chunked"),
        pytest.param(post(b"Transfer-Encoding:\tCHUNKED\t") + IN_CHUNKS, id="tabs-and-capitals"),
        pytest.param(post(b"transfer-encoding:\r\n chunked") + IN_CHUNKS, id="folded"),
        pytest.param(post(b"transfer_encoding: chunked", b"content_length: 5", LENGTH) + CHAT, id="underscores"),
        pytest.param(post(b"content-length: 000%d" % len(CHAT)) + CHAT, id="leading-zeros"),
        pytest.param(post(LENGTH).replace(b"\r\n", b"\n") + CHAT, id="bare-lf"),
        pytest.param(b"\r\n\r\n" + post(LENGTH) + CHAT, id="empty-lines-first"),
        pytest.param(post(CHUNKED) + IN_CHUNKS.replace(b"\r\n", b';a="b"\r\n', 1), id="chunk-extension"),
        pytest.param(
            post(CHUNKED) + IN_CHUNKS.replace(b"\r\n", b";" + b"a" * 10**6 + b"\r\n", 1), id="endless-extension"
        ),
        pytest.param(post(CHUNKED) + b"0" * 20 + IN_CHUNKS, id="zeros-before-the-size"),
        pytest.param(
            post(CHUNKED, b"trailer: x-gateway-cluster")
            + IN_CHUNKS[:-2]
            + b"x-gateway-cluster: default/anything:v1\r\ncontent-length: 5\r\nhost: host.example\r\n\r\n",
            id="trailers",
        ),
        pytest.param(post(LENGTH, b"expect: 100-continue") + CHAT, id="expectation"),
        pytest.param(
            post(LENGTH, b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQ")
            + CHAT,
            id="h2c",
        ),
    ],
)
async def test_what_can_be_read_in_one_way_arrives_in_plain_form(site: Site, data: bytes) -> None:
    before = site.received
    answer = await site.send(data)
    assert (answer.status, site.received) == (200, before + 1), answer
    arrived = site.named.received[-1]
    assert json.loads(arrived.body) == {**json.loads(CHAT), "model": "served"}
    assert not {"transfer_encoding", "content_length", "upgrade", "http2-settings"} & set(arrived.headers)
    assert arrived.headers["host"] == "x"
    await site.gateway.settled()


async def test_a_host_is_the_one_that_the_request_line_names(site: Site) -> None:
    answer = await site.send(line(b"POST http://host.example/v1/chat/completions HTTP/1.1"))
    assert answer.status == 200
    assert site.anything.received[-1].headers["host"] == "host.example"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(request(body=CHAT), id="post"),
        pytest.param(request(b"GET /v1/models HTTP/1.1"), id="get-without-body"),
        pytest.param(request(b"GET /v1/models HTTP/1.1", CHUNKED) + b"0\r\n\r\n", id="get-with-empty-body"),
    ],
)
async def test_a_request_behind_another_is_judged_by_itself(site: Site, first: bytes) -> None:
    refused = request(b"POST /v1/chat/completions HTTP/1.1", body=CHAT.replace(b'"model"', b'"mode"', 1))
    answers = await send_all(site.gateway.port, first + HIDDEN + refused, answers=3)
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert site.anything.received[-1].line == "POST /any/hidden HTTP/1.1"


async def test_a_body_hides_no_request(site: Site) -> None:
    before = site.received
    answer = await site.send(request(b"GET /v1/models HTTP/1.1", body=HIDDEN))
    assert (answer.status, site.received) == (200, before)
    answer = await site.send(request(b"POST /any/x HTTP/1.1", body=HIDDEN))
    assert (answer.status, site.received) == (200, before + 1)
    assert site.anything.received[-1].body == HIDDEN


async def test_nothing_of_a_websocket_that_was_not_agreed_on_is_a_request(site: Site) -> None:
    before = site.received
    upgrade = request(b"GET /web/x HTTP/1.1", b"connection: upgrade", b"upgrade: websocket")
    answer = await site.send(upgrade + HIDDEN)
    assert (answer.status, site.received) == (200, before + 1)
    assert (site.web.received[-1].line, site.web.garbage) == ("GET /web/x HTTP/1.1", [])
