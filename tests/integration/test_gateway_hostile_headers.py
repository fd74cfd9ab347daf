"""Headers of a client steer nothing, leave no mark on what servers see, and bring nothing internal back."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from integration.hostile_site import CHAT, Site, hostile_site
from integration.wire import Received, WireServer, field_lines, request

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

STEERING = (
    "x-gateway-destination-endpoint",
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-gateway-route",
    "x-gateway-cluster",
    "x-gateway-model-name",
    "x-gateway-base-model-name",
    "x-gateway-model-name-rewrite",
    "x-llm-d-destination-endpoint",
    "x-llm-d-model-name",
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
    "x-envoy-original-dst-host",
    "x-envoy-original-path",
    "x-envoy-max-retries",
    "x-envoy-retry-on",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-decorator-operation",
    "x-envoy-ip-tags",
    "x-envoy-internal",
    "x-envoy-force-trace",
    "x-envoy-external-address",
    "x-envoy-peer-metadata",
    "x-inference-gateway-profile",
)
HINTS = ("x-gateway-inference-objective", "x-gateway-inference-fairness-id", "x-llm-d-inference-objective")
PATHS = {"named": "/v1/chat/completions", "anything": "/any/x", "fails_open": "/open/x", "web": "/web/x"}
ARRIVING = frozenset(
    {"host", "content-type", "content-length", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-mark"}
)
RETURNING = frozenset({"content-length", "date", "x-request-id", "x-gateway-model-name", "server", "connection"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with hostile_site() as running:
        yield running


def spellings(names: Sequence[str]) -> list[str]:
    """*names* in capitals, with underscores, mixed and doubled separators."""
    return [
        spelled
        for name in names
        for spelled in (
            name,
            name.title(),
            name.upper(),
            name.replace("-", "_"),
            name.replace("-", "_", 1),
            "_".join(name.rsplit("-", 1)),
            name.replace("-", "--"),
            name.replace("-", "-_"),
        )
    ]


def post(path: str, lines: Sequence[bytes]) -> bytes:
    return request(f"POST {path} HTTP/1.1".encode(), *lines, body=CHAT)


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("hints", [False, True], ids=["steering", "hints"])
async def test_forged_headers_choose_nothing_and_reach_nobody(site: Site, kind: str, hints: bool) -> None:
    server: WireServer = getattr(site, kind)
    ports = (site.excluded.port, site.outside.port, site.anything.port)
    addresses = ", ".join(f"127.0.0.1:{port}" for port in ports) + ",default/anything:v1"
    names = spellings(HINTS if hints else STEERING)
    for number, start in enumerate(range(0, len(names), 120)):
        mark = f"{kind}-{hints}-{number}"
        before = site.received
        lines = [*field_lines(names[start : start + 120], addresses), f"x-mark: {mark}".encode()]
        answer = await site.send(post(PATHS[kind], lines))
        assert answer.status == 200, answer
        assert set(server.only(mark).headers) - ARRIVING <= ({*HINTS} if kind == "web" and hints else set())
        assert site.received == before + 1  # tried once, and nobody else
    assert (site.outside.received, site.excluded.received) == ([], [])


@pytest.mark.parametrize("kind", PATHS)
async def test_an_answer_tells_nothing_of_what_is_behind_the_gateway(site: Site, kind: str) -> None:
    answer = await site.send(post(PATHS[kind], []))
    assert set(answer.headers) <= RETURNING
    assert ("server" in answer.headers) == (kind == "web")
    named = None if kind == "web" else "model"
    assert answer.headers.get("x-gateway-model-name") == named
    assert "10.0.0.1" not in str(answer)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"connection: x-gateway-cluster, x-gateway-route, x-request-id, content-length"], id="nominated"),
        pytest.param([b"connection: close, te", b"te: gzip, trailers;q=1"], id="te"),
        pytest.param([b"proxy-connection: keep-alive", b"keep-alive: 500", b"upgrade-insecure-requests: 1"], id="hops"),
        pytest.param([b"x-folded: one\r\n\tx-gateway-cluster: two"], id="folded"),
        pytest.param([b"x-bytes: \xff\xfe\x80", b"user-agent: \xe9\xa0", b"referer: \x80"], id="high-bytes"),
        pytest.param([b"x-empty:", b"x-blank: \t "], id="empty"),
        pytest.param([b"x-many: %d" % n for n in range(100)], id="a-hundred-of-one"),
    ],
)
async def test_odd_headers_are_passed_or_refused_but_decided_like_all(site: Site, lines: list[bytes]) -> None:
    before = site.received
    answer = await site.send(post(PATHS["named"], lines))
    assert answer.status in {200, 400}
    assert site.received == before + (answer.status == 200)
    if answer.status == 200:
        arrived: Received = site.named.received[-1]
        assert b'"served"' in arrived.body
        assert not {"x-gateway-cluster", "x-gateway-route", "keep-alive", "proxy-connection"} & set(arrived.headers)
    else:
        assert answer.error["code"] == "bad_request"
    await site.gateway.settled()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"x-a: a\0b", id="nul"),
        pytest.param(b"x-a: a\x1b[31m", id="escape"),
        pytest.param(b"x-a\x80: b", id="high-byte-in-name"),
        pytest.param(b"x-a b: c", id="blank-in-name"),
        pytest.param(b"x-gateway-cluster : c", id="blank-before-colon"),
        pytest.param(b": c", id="no-name"),
        pytest.param(b"nothing", id="no-colon"),
        pytest.param(b":path: /any/x", id="pseudo-path"),
        pytest.param(b":authority: host.example", id="pseudo-authority"),
    ],
)
async def test_a_line_that_is_no_header_is_refused(site: Site, line: bytes) -> None:
    before = site.received
    answer = await site.send(post(PATHS["named"], [line]))
    assert (answer.status, answer.error["code"]) == (400, "bad_request")
    assert site.received == before


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param([b"x-a: " + b"a" * 1_000_000], 431, id="a-megabyte"),
        pytest.param([b"x-%d: a" % n for n in range(3000)], 431, id="thousands"),
        pytest.param([b"x-%d: a" % n for n in range(190)], 431, id="more-than-we-can-add-to"),
        pytest.param([b"x-%d: a" % n for n in range(150)], 200, id="many"),
        pytest.param([b"x-a: " + b"a" * 40_000], 200, id="large"),
        pytest.param([b"x-%s: a" % (b"a" * 30_000)], 200, id="large-name"),
    ],
)
async def test_large_heads_are_refused_by_their_name(site: Site, lines: list[bytes], status: int) -> None:
    before = site.received
    answer = await site.send(post(PATHS["named"], lines))
    assert answer.status == status
    if status == 431:
        assert answer.error["code"] == "headers_too_large"
    assert site.received == before + (status == 200)
    await site.still_serves()


@pytest.mark.parametrize("kind", ["named", "fails_open", "web"])
async def test_a_client_drives_no_retries(site: Site, kind: str) -> None:
    server: WireServer = getattr(site, kind)
    names = ("max-retries", "retry-on", "retriable-status-codes", "retry-grpc-on")
    values = ("9", "5xx,connect-failure", "503", "internal")
    wishes = [f"x-envoy-{name}: {value}".encode() for name, value in zip(names, values, strict=True)]
    before = len(server.received)
    server.status = 503
    try:
        answer = await site.send(post(PATHS[kind], wishes))
    finally:
        server.status = 200
    assert answer.status == 503
    assert len(server.received) == before + 1


@pytest.mark.parametrize("kind", ["named", "fails_open", "web"])
async def test_a_client_sets_no_time_limit(site: Site, kind: str) -> None:
    server: WireServer = getattr(site, kind)
    names = ("upstream-rq-timeout-ms", "upstream-rq-per-try-timeout-ms", "expected-rq-timeout-ms", "stream-duration-ms")
    server.delay_seconds = 0.2
    try:
        answer = await site.send(post(PATHS[kind], [f"x-envoy-{name}: 1".encode() for name in names]))
    finally:
        server.delay_seconds = 0.0
    assert answer.status == 200


async def test_headers_and_paths_lead_nowhere_else_while_the_picker_is_away(site: Site) -> None:
    before = site.received
    addresses = f"127.0.0.1:{site.outside.port}"
    forged = [
        *field_lines(["x-gateway-destination-endpoint", "x-gateway-model-name"], addresses),
        b"x-gateway-cluster: default/anything:v1",
        b"x-gateway-route: httproute/default/any/0",
        b"x-envoy-max-retries: 9",
    ]
    site.gateway.kill_picker()
    try:
        async with asyncio.TaskGroup() as group:
            sent = {
                kind: group.create_task(site.send(post(path, [*forged, f"x-mark: away-{kind}".encode()])))
                for kind, path in {**PATHS, "control": "/open/sleep"}.items()
            }
    finally:
        await site.gateway.start_picker()
    statuses = {kind: task.result().status for kind, task in sent.items()}
    assert statuses == {"named": 503, "anything": 503, "fails_open": 200, "web": 200, "control": 503}
    assert site.received == before + 2
    for kind in ("fails_open", "web"):
        server: WireServer = getattr(site, kind)
        assert set(server.only(f"away-{kind}").headers) <= ARRIVING
