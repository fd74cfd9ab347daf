"""Names that clients choose stay data: no header, log line, metric or page takes them for more."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integration.hostile_site import CHAT, Site, hostile_site
from integration.wire import Answer, request

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

ANY = b"POST /any/v1/chat/completions HTTP/1.1"
NAMED = b"POST /v1/chat/completions HTTP/1.1"
REFUSED = {
    "line-feed": "a\nx-gateway-cluster: b",
    "carriage-return": "a\r\n\r\nHTTP/1.1 200 OK",
    "nul": "a\0b",
    "terminal-escape": "a\x1b[2J\x1b]0;title\x07",
    "delete": "a\x7f",
    "terminal-escape-in-one-byte": "a\x9b31m",
    "next-line": "a\x85b",
    "line-separator": "a\u2028b",
    "too-long": "m" * 513,
    "too-long-in-bytes": "é" * 257,
    "a-megabyte": "m" * 1_000_000,
}
PASSED = {
    "quotes": "a\"b'c`d",
    "backslashes": "a\\b\\n",
    "dots": "../../etc/passwd",
    "percent": "%2e%2e%DYNAMIC_METADATA(x:y)%",
    "markup": "<script>alert(1)</script>[red]",
    "braces": "{0}{a.__class__}$(id)",
    "labels": 'm",status="200"} 1\\n',
    "right-to-left": "a\u202eb",
    "no-width": "mod\u200bel",
    "confusable": "mod\u0435l",
    "emoji": "\U0001f680",
    "high-letters": "ÿ",
    "longest": "m" * 512,
    "looks-like-metadata": "model\tx".replace("\t", " "),
}
IDS = {
    "plain": (b"client-id_1.a:b/c+d=e@f", True),
    "longest": (b"a" * 128, True),
    "too-long": (b"a" * 129, False),
    "enormous": (b"a" * 40_000, False),
    "blank": (b"a b", False),
    "quote": (b'a"', False),
    "angle": (b"<script>", False),
    "high-bytes": (b"a\xff\xfe", False),
    "utf-8": ("é\u202e".encode(), False),
    "comma": (b"a,b", False),
    "empty": (b"", False),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with hostile_site() as running:
        yield running


async def ask(site: Site, line: bytes, model: str, *fields: bytes) -> Answer:
    body = {**json.loads(CHAT), "model": model}
    return await site.send(request(line, *fields, body=json.dumps(body).encode()))


async def log_lines(site: Site, answer: Answer) -> list[str]:
    """Lines of the picker's log that name the answer's id, once there is one that tells of its end."""
    request_id = answer.headers["x-request-id"]
    await site.gateway.completed(request_id)
    text = site.gateway.log_path("picker").read_text(encoding="utf-8")
    return [line for line in text.split("\n") if request_id in line]


@pytest.mark.parametrize("name", REFUSED)
async def test_a_name_that_could_end_a_line_or_move_a_cursor_is_refused(site: Site, name: str) -> None:
    for line in (ANY, NAMED):
        before = site.received
        answer = await ask(site, line, REFUSED[name])
        assert (answer.status, answer.error["param"]) == (400, "model")
        assert site.received == before
        assert len(await log_lines(site, answer)) == 1


@pytest.mark.parametrize("name", PASSED)
async def test_any_other_name_passes_as_it_is_where_any_may(site: Site, name: str) -> None:
    model = PASSED[name]
    answer = await ask(site, ANY, model)
    assert answer.status == 200
    assert json.loads(site.anything.received[-1].body)["model"] == model
    fits = model.isascii() and len(model) <= 256
    assert answer.headers.get("x-gateway-model-name") == (model if fits else None)
    (line,) = await log_lines(site, answer)
    assert line.isascii()
    assert json.loads(line)["model"] == model
    state = await site.gateway.admin_page("/debug/state")
    assert state.body.isascii()
    assert state.json["recent_decisions"][-1]["model"] == model


@pytest.mark.parametrize("name", PASSED)
async def test_an_unknown_name_is_told_back_as_data(site: Site, name: str) -> None:
    answer = await ask(site, NAMED, PASSED[name])
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert f"`{PASSED[name]}`" in answer.error["message"]
    assert answer.body.isascii()
    assert "x-gateway-model-name" not in answer.headers


async def test_names_make_no_time_series(site: Site) -> None:
    async def series() -> set[str]:
        page = (await site.gateway.admin_page("/metrics")).body.decode()
        return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}

    for line in (ANY, NAMED):
        await ask(site, line, "warm-up")
    await site.gateway.settled()
    before = await series()
    for number in range(60):
        await ask(site, ANY if number % 2 else NAMED, f"invented-{number}")
        await ask(site, ANY, "model", b"x-request-id: invented-%d" % number, b"user-agent: invented-%d" % number)
    await site.gateway.settled()
    new = await series() - before
    assert not [line for line in new if "invented" in line]
    assert len(new) < 50


@pytest.mark.parametrize("name", IDS)
async def test_only_a_safe_request_id_is_taken_over(site: Site, name: str) -> None:
    sent, safe = IDS[name]
    answer = await ask(site, ANY, "model", b"x-request-id: " + sent)
    assert answer.status == 200
    used = answer.headers["x-request-id"]
    assert (used == sent.decode("latin-1")) == safe
    assert site.anything.received[-1].headers["x-request-id"] == used
    (line,) = await log_lines(site, answer)
    assert json.loads(line)["request_id"] == used


async def test_two_request_ids_are_none(site: Site) -> None:
    answer = await ask(site, ANY, "model", b"x-request-id: a", b"X-Request-Id: b")
    assert answer.status == 200
    assert len(answer.headers["x-request-id"]) > len("a,b")  # one of ours


async def test_one_request_id_for_many_requests_confuses_no_account(site: Site) -> None:
    for _ in range(20):
        assert (await ask(site, ANY, "model", b"x-request-id: always-the-same")).status == 200
    await site.gateway.settled()


@pytest.mark.parametrize("path", [b"/n/%0a%1b[31m", b"/n/" + b"a" * 40_000], ids=["escapes", "endless"])
async def test_a_path_is_told_back_cut_and_as_data(site: Site, path: bytes) -> None:
    answer = await site.send(request(b"DELETE " + path + b"?key=secret HTTP/1.1", host=b"unknown.example"))
    assert answer.status == 404
    assert len(answer.body) < 500
    assert b"secret" not in answer.body
    assert "secret" not in site.gateway.log_path("picker").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line", [b"POST /web/x HTTP/1.1", b"POST /any/x HTTP/1.1", b"TRACE / HTTP/1.1", b"GET /nowhere HTTP/1.1"]
)
async def test_bytes_that_are_no_text_spoil_nobodys_account(site: Site, line: bytes) -> None:
    names = (b"x-request-id", b"user-agent", b"referer", b"x-forwarded-for", b"traceparent", b"content-encoding")
    for name in names:
        await site.send(request(line, name + b": \xff\xfe", body=CHAT))
        await site.send(request(line, name + b": \xff\xfe", body=b"{"))
    answer = await ask(site, ANY, "model", b"x-request-id: behind-" + line.split()[0])
    await log_lines(site, answer)
    assert await site.gateway.metric("inference_gateway_access_log_malformed_total") == 0
    await site.gateway.settled()
