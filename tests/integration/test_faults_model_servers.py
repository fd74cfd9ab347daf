"""A model server that breaks the protocol is replaced until its answer has begun; after that the client is told.

Each fault has a server of its own, and requests find it as the one that has their adapter loaded; a sound server has
room for any, so it comes next. Where a request asks to be alone, the list of endpoints ends with the faulty one.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import openai
import pytest
import pytest_asyncio

from integration.faulty_servers import (
    LAST_CHUNK,
    STREAM_HEAD,
    FaultyServer,
    Script,
    adapter_page,
    answers,
    chunk,
    faulty_server,
    hangs_after,
    head,
    in_turn,
    json_head,
    plays,
    repeats,
    resets_after,
)
from integration.model_servers import DONE, chat_event, usage_event
from integration.resources import Document, http_route, pool_with, rule, to_pool
from integration.standalone import Reply, StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

SCHEDULING = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: lora-affinity-scorer
- {type: max-score-picker, name: two, parameters: {maxNumOfEndpoints: 2}}
- {type: max-score-picker, name: one, parameters: {maxNumOfEndpoints: 1}}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: lora-affinity-scorer}, {pluginRef: two}]
- name: alone
  plugins: [{pluginRef: lora-affinity-scorer}, {pluginRef: one}]
"""
CHATS = "v1/chat/completions"

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
    }
).encode()
WHOLE = json_head(len(ANSWER)) + ANSWER
ZIPPED = gzip.compress(ANSWER)
CHUNKED_JSON = head("content-type: application/json", "transfer-encoding: chunked")
FIRST, SECOND = chat_event("one"), chat_event("two")
BEGUN = (STREAM_HEAD, chunk(FIRST), chunk(SECOND))
ENDED = (chunk(usage_event(prompt=11, completion=2)), chunk(DONE) + LAST_CHUNK)

WAYS = ("sync", "async")
UNAVAILABLE, UNREADABLE, SILENT = (503, "service_unavailable"), (502, "bad_gateway"), (504, "gateway_timeout")

BEFORE_IT_BEGAN: Mapping[str, tuple[Script, tuple[int, str]]] = {
    "resets": (resets_after(), UNAVAILABLE),
    "closes": (plays(), UNAVAILABLE),
    "closes-in-its-head": (plays(b"HTTP/1.1 200 OK\r\ncontent-ty"), UNREADABLE),
    "closes-after-its-head": (plays(json_head(100), pause=0.02), UNREADABLE),
    "hangs": (hangs_after(), SILENT),
    "hangs-in-its-head": (hangs_after(b"HTTP/1.1 200 OK\r\ncontent-ty"), SILENT),
    "hangs-after-its-head": (hangs_after(json_head(100)), SILENT),
    "ssh": (plays(b"SSH-2.0-OpenSSH_9.6\r\n"), UNREADABLE),
    "noise": (plays(bytes(range(256)) * 100), UNREADABLE),
    "header-without-colon": (plays(head("no colon here", "content-length: 2") + b"{}"), UNREADABLE),
    "header-with-nul": (plays(head("x: a\0b", "content-length: 2") + b"{}"), UNREADABLE),
    "two-lengths": (plays(head("content-length: 2", "content-length: 5") + b"{}   "), UNREADABLE),
    "length-and-chunks": (
        plays(head("content-length: 2", "transfer-encoding: chunked") + chunk(b"{}") + LAST_CHUNK),
        UNREADABLE,
    ),
    "chunk-without-size": (plays(CHUNKED_JSON + b"zz\r\n{}"), UNREADABLE),
    "10000-headers": (plays(head(*(f"x-{i}: 1" for i in range(10_000)), "content-length: 2") + b"{}"), UNREADABLE),
    "1-mb-of-headers": (plays(head("x: " + "a" * 1_000_000, "content-length: 2") + b"{}"), UNREADABLE),
    "head-without-end": (repeats(b"HTTP/1.1 200 OK\r\nx: ", b"a" * 65_536), UNREADABLE),
}
"""What comes back instead of an answer, and what a client sees where no other server is left."""

AFTER_IT_BEGAN: Mapping[str, Script] = {
    "closes": plays(*BEGUN, pause=0.02),
    "closes-in-an-event": plays(*BEGUN, chunk(SECOND[:20]), pause=0.02),
    "closes-in-a-chunk": plays(*BEGUN, chunk(SECOND)[:20], pause=0.02),
    "resets": resets_after(*BEGUN),
    "hangs": hangs_after(*BEGUN),
    "chunk-without-size": plays(*BEGUN, b"zz\r\n{}", pause=0.02),
    "shorter-than-its-length": plays(
        head("content-type: text/event-stream", "content-length: 9999"), FIRST, SECOND, pause=0.02
    ),
    "trailers-without-end": repeats(b"".join(BEGUN) + b"0\r\n", b"x-trailer: " + b"a" * 500 + b"\r\n"),
}
"""How streams break after two events."""

CUT_ANSWERS: Mapping[str, Script] = {
    "shorter-than-its-length": plays(json_head(len(ANSWER) + 9) + ANSWER),
    "no-last-chunk": plays(CHUNKED_JSON + chunk(ANSWER)),
    "reset": resets_after(json_head(len(ANSWER) + 9) + ANSWER),
    "hangs": hangs_after(json_head(len(ANSWER) + 9) + ANSWER),
}
"""Whole answers of which the end is missing."""

PASSED_ON: Mapping[str, Script] = {
    "no-json": plays(json_head(9) + b'{"choices'),
    "nothing": plays(json_head(0)),
    "html": plays(head("content-type: text/html", "content-length: 18") + b"<h1>It works!</h1>"),
    "longer-than-its-length": plays(json_head(len(ANSWER) - 9) + ANSWER),
    "no-length-and-closed-early": plays(head("content-type: application/json") + ANSWER[:-9]),
    "redirect": plays(head("location: http://127.0.0.1:1/", "content-length: 0", status="307 Temporary Redirect")),
    "early-hints": plays(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 5 + WHOLE),
    "gzip": plays(json_head(len(ZIPPED), "content-encoding: gzip") + ZIPPED),
}
"""Wrong answers that a proxy cannot tell from right ones."""

ENDLESS: Mapping[str, Script] = {
    "json": repeats(CHUNKED_JSON + chunk(b'{"usage": {"a":"'), chunk(b"x" * 65_536)),
    "event": repeats(b"".join(BEGUN) + chunk(b"data: {"), chunk(b"x" * 65_536)),
    "events": repeats(b"".join(BEGUN), chunk(chat_event("x" * 4000) * 16)),
    "bytes": repeats(head("content-type: application/octet-stream"), b"x" * 65_536),
}
"""Answers without end."""

OTHERS: Mapping[str, Script] = {
    "interim-answers": repeats(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.001),
    "recovers/500": in_turn(*[plays(json_head(2, status="500 Internal Server Error") + b"{}")] * 2, answers(WHOLE)),
    "recovers/503": in_turn(*[plays(json_head(2, status="503 Service Unavailable") + b"{}")] * 2, answers(WHOLE)),
    "recovers/429": in_turn(
        *[plays(json_head(2, "retry-after-ms: 50", status="429 Too Many Requests") + b"{}")] * 2, answers(WHOLE)
    ),
    "recovers/resets": in_turn(resets_after(), resets_after(), answers(WHOLE)),
    "one-answer-too-many": hangs_after(WHOLE + head("content-length: 6") + b"poison"),
    "one-answer-too-many-later": hangs_after(WHOLE, head("content-length: 6") + b"poison"),
    "error-in-the-stream": plays(*BEGUN, chunk(b'data: {"error":{"message":"engine died","code":500}}\n\n'), *ENDED),
}


def _scripts() -> Mapping[str, Script]:
    return {
        **{f"before/{name}": script for name, (script, _) in BEFORE_IT_BEGAN.items()},
        **{f"after/{name}": script for name, script in AFTER_IT_BEGAN.items()},
        **{f"cut/{name}": script for name, script in CUT_ANSWERS.items()},
        **{f"passed/{name}": script for name, script in PASSED_ON.items()},
        **{f"endless/{name}": script for name, script in ENDLESS.items()},
        **OTHERS,
    }


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    servers: Mapping[str, FaultyServer]
    sound: FaultyServer

    async def ask(self, fault: str, pool: str = "alone", *, request_id: str = "") -> Reply:
        """A chat with the server that has *fault*."""
        headers = {"x-request-id": request_id} if request_id else None
        return await self.gateway.post(f"/{pool}/{CHATS}", chat(fault), headers=headers)

    def asked(self, group: str) -> dict[str, int]:
        """How many requests reached each server whose fault is in *group*."""
        return {name: len(server.bodies) for name, server in self.servers.items() if name.startswith(f"{group}/")}


def _pool(name: str, ports: Sequence[int]) -> list[Document]:
    own = "inferencegateway.dev"
    annotations = {
        f"{own}/first-token-timeout": "1s",
        f"{own}/answer-timeout": "1s",
        f"{own}/scheduling-profile": name,
    }
    rewrite = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
    filters = [{"type": "URLRewrite", "urlRewrite": {"path": rewrite}}]
    return [
        *pool_with(name, ports, annotations=annotations),
        http_route(name, rule(f"/{name}", to_pool(name), filters=filters)),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        sound = await stack.enter_async_context(faulty_server(answers(WHOLE), metrics=adapter_page()))
        servers = {
            name: await stack.enter_async_context(faulty_server(script, metrics=adapter_page(name)))
            for name, script in _scripts().items()
        }
        ports = [server.port for server in servers.values()]
        # a reading that grows stale on a slow machine would lead requests elsewhere
        seldom = ("--scrape-idle-seconds", "2", "--scrape-busy-seconds", "2")
        gateway = StandaloneGateway([*_pool("alone", ports), *_pool("beside", [*ports, sound.port])], *seldom)
        (gateway.folder / "scheduling.yaml").write_text(SCHEDULING)
        gateway.add_arguments("--scheduling-config", str(gateway.folder / "scheduling.yaml"))
        await stack.enter_async_context(gateway)

        async def all_pages_are_read() -> bool:
            pools = (await gateway.debug_state())["pools"]
            return all(endpoint["metrics"] for pool in pools for endpoint in pool["endpoints"])

        await eventually(all_pages_are_read)
        yield Site(gateway, servers, sound)


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    """The gateway; whatever a test did, nothing may be left of it."""
    yield running
    await running.gateway.quiet()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Site) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official SDK as it comes: it tries again twice."""
    async with openai.AsyncOpenAI(base_url=f"{running.gateway.base_url}/beside/v1", api_key="-") as client:
        yield client


@pytest.fixture(scope="module")
def sync_client(running: Site) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.gateway.base_url}/beside/v1", api_key="-") as client:
        yield client


@pytest.mark.parametrize("name", BEFORE_IT_BEGAN)
async def test_a_fault_before_the_answer_begins_is_not_seen_while_another_server_is_left(site: Site, name: str) -> None:
    fault = f"before/{name}"
    async with asyncio.TaskGroup() as group:
        alone = group.create_task(site.ask(fault))
        beside = group.create_task(site.ask(fault, "beside"))
    assert (beside.result().status, beside.result().body) == (200, ANSWER)
    assert len(site.servers[fault].bodies) == 2, "the faulty server was not tried first"
    assert site.sound.bodies[-1] in site.servers[fault].bodies

    status, code = BEFORE_IT_BEGAN[name][1]
    reply = alone.result()
    assert reply.status == status
    assert (reply.error["type"], reply.error["code"]) == ("server_error", code)
    assert ("Retry-After" in reply.headers) == (status == 503)


async def test_a_stream_that_breaks_raises_in_the_sdk_and_is_not_repeated(
    site: Site, client: openai.AsyncOpenAI, sync_client: openai.OpenAI
) -> None:
    outcomes: dict[str, list[str]] = {}

    def read_sync(name: str) -> None:
        said = outcomes[f"{name}, sync"] = []
        try:
            parts = sync_client.chat.completions.create(**chat(f"after/{name}", stream=True))
            said.extend(part.choices[0].delta.content for part in parts)
        except openai.APIConnectionError:
            said.append("raised")

    async def read_async(name: str) -> None:
        said = outcomes[f"{name}, async"] = []
        try:
            async for part in await client.chat.completions.create(**chat(f"after/{name}", stream=True)):
                said.append(part.choices[0].delta.content)  # noqa: PERF401 - what came before the break is wanted
        except openai.APIConnectionError:
            said.append("raised")

    async with asyncio.TaskGroup() as group:
        for name in AFTER_IT_BEGAN:
            group.create_task(read_async(name))
            group.create_task(asyncio.to_thread(read_sync, name))
    assert outcomes == {f"{name}, {way}": ["one", "two", "raised"] for name in AFTER_IT_BEGAN for way in WAYS}
    assert set(site.asked("after").values()) == {len(WAYS)}


async def test_a_whole_answer_without_its_end_raises_in_the_sdk(
    site: Site, client: openai.AsyncOpenAI, sync_client: openai.OpenAI
) -> None:
    raised: set[str] = set()

    def ask_sync(name: str) -> None:
        with pytest.raises(openai.APIConnectionError):
            sync_client.with_options(max_retries=0).chat.completions.create(**chat(f"cut/{name}"))
        raised.add(f"{name}, sync")

    async def ask_async(name: str) -> None:
        with pytest.raises(openai.APIConnectionError):
            await client.with_options(max_retries=0).chat.completions.create(**chat(f"cut/{name}"))
        raised.add(f"{name}, async")

    async with asyncio.TaskGroup() as group:
        for name in CUT_ANSWERS:
            group.create_task(ask_async(name))
            group.create_task(asyncio.to_thread(ask_sync, name))
    assert raised == {f"{name}, {way}" for name in CUT_ANSWERS for way in WAYS}
    assert set(site.asked("cut").values()) == {len(WAYS)}


@pytest.mark.parametrize(
    ("name", "status", "body", "tokens"),
    [
        pytest.param("no-json", 200, b'{"choices', None, id="no-json"),
        pytest.param("nothing", 200, b"", None, id="nothing"),
        pytest.param("html", 200, b"<h1>It works!</h1>", None, id="html"),
        pytest.param("longer-than-its-length", 200, ANSWER[:-9], None, id="longer-than-its-length"),
        pytest.param("no-length-and-closed-early", 200, ANSWER[:-9], None, id="no-length-and-closed-early"),
        pytest.param("redirect", 307, b"", None, id="redirect-is-not-followed"),
        pytest.param("early-hints", 200, ANSWER, 2, id="early-hints"),
        pytest.param("gzip", 200, ANSWER, None, id="gzip-nobody-asked-for"),
    ],
)
async def test_what_looks_like_an_answer_passes_as_it_is(
    site: Site, name: str, status: int, body: bytes, tokens: int | None
) -> None:
    fault = f"passed/{name}"
    reply = await site.ask(fault, "beside", request_id=name)
    assert (reply.status, reply.body) == (status, body)
    entry = await site.gateway.completed(name)
    assert entry["attempts"] == 1
    assert entry.get("completion_tokens") == tokens
    assert len(site.servers[fault].bodies) == 1


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_answer_without_end_costs_no_memory_and_ends_with_its_client(site: Site, name: str) -> None:
    server, before, received = site.servers[f"endless/{name}"], site.gateway.resident_bytes("envoy"), 0
    url = f"{site.gateway.base_url}/alone/{CHATS}"
    async with site.gateway.session.post(url, json=chat(f"endless/{name}", stream="event" in name)) as response:
        assert response.status == 200
        async for piece in response.content.iter_any():
            received += len(piece)
            if received > 16_000_000:
                break
    assert site.gateway.resident_bytes("envoy") - before < 12_000_000

    async def told() -> bool:
        return server.open == 0

    await eventually(told, what="the model server was not told that the client is gone")


async def test_the_sdk_recovers_what_a_lone_server_refuses_twice(site: Site, client: openai.AsyncOpenAI) -> None:
    faults = [name for name in OTHERS if name.startswith("recovers/")]
    alone = client.with_options(base_url=f"{site.gateway.base_url}/alone/v1")
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(alone.chat.completions.create(**chat(fault))) for fault in faults]
    assert {task.result().choices[0].message.content for task in asked} == {"whole"}
    assert set(site.asked("recovers").values()) == {3}


async def test_interim_answers_without_end_meet_the_time_limit(site: Site) -> None:
    reply = await site.ask("interim-answers", "beside")
    assert (reply.status, reply.error["code"]) == SILENT


@pytest.mark.parametrize("fault", ["one-answer-too-many", "one-answer-too-many-later"])
async def test_an_answer_that_nobody_asked_for_reaches_nobody(site: Site, fault: str) -> None:
    for number in range(1, 6):
        reply = await site.ask(fault)
        assert (reply.status, reply.body) == (200, ANSWER)
        assert len(site.servers[fault].bodies) == number


async def test_an_error_inside_a_stream_raises_in_the_sdk(site: Site, client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(**chat("error-in-the-stream", stream=True))
    with pytest.raises(openai.APIError, match="engine died"):
        _ = [part async for part in stream]
