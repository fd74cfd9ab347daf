"""Over HTTP/2 as well: what breaks the rules ends its stream or connection, and nothing passes the picker by."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integration.hostile_site import CHAT, Site, hostile_site
from integration.wire_http2 import Fields, fields, frames, send_frames, upload

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

LENGTH = str(len(CHAT))
HOST = ("host", "host.example")
MALFORMED = {
    "two-methods": [(":method", "GET"), *fields()],
    "two-paths": [(":path", "/any/x"), *fields()],
    "path-behind-headers": [*fields(), (":path", "/any/x")],
    "two-authorities": [(":authority", "host.example"), *fields()],
    "no-method": fields(method=None),
    "no-path": fields(path=None),
    "no-scheme": fields(scheme=None),
    "no-authority": fields(authority=None),
    "empty-path": fields(""),
    "relative-path": fields("any/x"),
    "absolute-path": fields("http://host.example/any/x"),
    "broken-scheme": fields(scheme="ht tp"),
    "host-before-authority": [HOST, *fields()],
    "user-at-authority": fields(authority="u@host.example"),
    "line-end-in-authority": fields(authority="x\r\ny: z"),
    "line-end-in-path": fields("/any/x HTTP/1.1\r\ny: z"),
    "blank-in-path": fields("/any/x y"),
    "nul-in-path": fields("/any/x\0"),
    "line-end-in-method": fields(method="POST /any/x HTTP/1.1\r\ny:"),
    "unknown-pseudo-header": [(":unheard", "of"), *fields()],
    "pseudo-header-of-answers": [(":status", "200"), *fields()],
    "protocol": [(":protocol", "websocket"), *fields()],
    "extended-connect": [(":protocol", "websocket"), *fields(method="CONNECT")],
    "capitals": fields("/any/x", ("X-Gateway-Cluster", "a")),
    "line-end-in-value": fields("/any/x", ("x-a", "a\r\nx-gateway-cluster: b")),
    "lf-in-value": fields("/any/x", ("x-a", "a\nb")),
    "nul-in-value": fields("/any/x", ("x-a", "a\0b")),
    "line-end-in-name": fields("/any/x", ("x-a: b\r\nx-c", "d")),
    "blank-in-name": fields("/any/x", ("x a", "b")),
    "colon-in-name": fields("/any/x", ("x:a", "b")),
    "connection": fields("/any/x", ("connection", "x-gateway-cluster")),
    "proxy-connection": fields("/any/x", ("proxy-connection", "keep-alive")),
    "transfer-encoding": fields("/any/x", ("transfer-encoding", "chunked")),
    "upgrade": fields("/any/x", ("upgrade", "h2c")),
    "te": fields("/any/x", ("te", "gzip")),
    "length-too-small": fields("/any/x", ("content-length", "5")),
    "length-too-large": fields("/any/x", ("content-length", "500")),
    "two-lengths": fields("/any/x", ("content-length", LENGTH), ("content-length", "5")),
    "negative-length": fields("/any/x", ("content-length", "-1")),
    "plus": fields("/any/x", ("content-length", f"+{LENGTH}")),
    "a-thousand-headers": fields("/any/x", *((f"x-{n}", "a") for n in range(1000))),
    "absurd-length": fields("/any/x", ("content-length", "9223372036854775807")),
}
"""Header blocks that break a rule of HTTP/2, by what is wrong with them."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with hostile_site() as running:
        yield running


async def test_a_malformed_request_is_ended_and_reaches_nobody(site: Site) -> None:
    before = site.received
    async with asyncio.TaskGroup() as group:  # at once, because Envoy takes a second to close a connection
        sent = {
            name: group.create_task(send_frames(site.gateway.port, frames(block, CHAT)))
            for name, block in MALFORMED.items()
        }
    assert {name: task.result().status for name, task in sent.items()} == dict.fromkeys(MALFORMED, 0)
    assert site.received == before
    await site.still_serves()


@pytest.mark.parametrize(
    ("block", "status"),
    [
        pytest.param(fields("*", method="OPTIONS"), 404, id="asterisk"),
        pytest.param(fields("/any/x#/v1"), 400, id="fragment"),
        pytest.param(fields(authority="x,host.example"), 400, id="list-of-authorities"),
        pytest.param(fields("/any/x", method="TRACE"), 405, id="trace"),
        pytest.param([(":method", "CONNECT"), (":authority", "127.0.0.1:22")], 403, id="connect"),
        pytest.param(fields("/any/x", *((f"x-{n}", "a") for n in range(180))), 431, id="many-headers"),
    ],
)
async def test_a_request_that_nobody_serves_is_refused_in_the_form_of_the_api(
    site: Site, block: Fields, status: int
) -> None:
    before = site.received
    answer = await send_frames(site.gateway.port, frames(block))
    assert (answer.status, bool(answer.error)) == (status, True)
    assert site.received == before


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/any/x", "/open/x"])
async def test_trailers_instead_of_a_body_pass_nobody_by(site: Site, path: str) -> None:
    before = site.received
    answer = await send_frames(site.gateway.port, frames(fields(path), trailers=[("x-a", "b")]))
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert site.received == before


async def test_trailers_steer_nothing(site: Site) -> None:
    before = site.received
    names = ("x-gateway-cluster", "x-gateway-destination-endpoint", "x-gateway-route", "x-envoy-max-retries")
    forged = [(name, f"127.0.0.1:{site.outside.port}") for name in names]
    answer = await send_frames(site.gateway.port, frames(fields(), CHAT, trailers=forged))
    assert (answer.status, site.received) == (200, before + 1)
    assert not {name for name, _ in forged} & set(site.named.received[-1].headers)
    assert json.loads(site.named.received[-1].body)["model"] == "served"
    await site.gateway.settled()


async def test_the_authority_is_the_host(site: Site) -> None:
    answer = await send_frames(site.gateway.port, frames([*fields(), HOST], CHAT))
    assert answer.status == 200
    assert site.named.received[-1].headers["host"] == "x"


async def test_a_large_body_is_as_welcome_as_over_http_1(site: Site) -> None:
    body = CHAT.replace(b"Say something.", b"x" * 5_000_000)
    answer = await upload(site.gateway.port, body)
    assert answer.status == 200
    assert len(site.named.received[-1].body) == len(body) + 1  # the target's name is one byte longer
