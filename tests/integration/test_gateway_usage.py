"""Whoever reads usage, the record is the same and so is every byte that the client gets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from integration.model_servers import DONE, ScriptedServer, chat_event, scripted_server, usage_event
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, chat

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

RECORDED = Path(__file__).parents[1] / "data" / "vllm_http"
STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"


def recorded(name: str) -> bytes:
    """Body of a recorded answer."""
    return (RECORDED / f"{name}.http").read_bytes().partition(b"\r\n\r\n")[2]


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Counts:
    """What is to be recorded; None: nothing."""

    prompt: int | None
    completion: int | None


@dataclass(frozen=True, slots=True)
class Case:
    """One exchange; *answer* is what the model server sends, *received* what the client gets, None: the same."""

    path: str
    request: dict[str, Any]
    answer: bytes
    content_type: str
    counts: Counts
    received: bytes | None = None
    status: str = "200 OK"


ASKED = chat("model", stream=True, stream_options={"include_usage": True})
NOT_ASKED = chat("model", stream=True)
DECLINED = chat("model", stream=True, stream_options={"include_usage": False})
TEXT_ASK = {"model": "model", "prompt": "Say something.", "max_tokens": 2}
TALK = chat_event("{") + chat_event('"usage":{"choices":[]}') + chat_event("é")
USAGE = usage_event(prompt=1234, completion=3)
COMPLETION_TALK = b'data: {"id":"c","object":"text_completion","choices":[{"index":0,"text":"a"}]}\n\n'
EMBEDDING = json.dumps(
    {
        "id": "embd-1",
        "object": "list",
        "created": 1,
        "model": "model",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}],
        "usage": {"prompt_tokens": 5, "total_tokens": 5, "completion_tokens": 0, "prompt_tokens_details": None},
    }
).encode()
RESPONSES_TALK = event("response.output_text.delta", delta="a", output_index=0) + event(
    "response.completed",
    response={
        "id": "r",
        "object": "response",
        "usage": {"input_tokens": 21, "output_tokens": 4, "total_tokens": 25, "input_tokens_details": {}},
    },
)
MESSAGES_TALK = (
    event("message_start", message={"id": "m", "usage": {"input_tokens": 9, "output_tokens": 1}})
    + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
    + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 6})
    + event("message_stop")
)
MESSAGES_ASK = {"model": "model", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}

CASES = {
    "chat": Case("/v1/chat/completions", chat("model"), recorded("chat_nonstream"), JSON, Counts(17, 8)),
    "chat-stream-that-asks": Case("/v1/chat/completions", ASKED, recorded("chat_stream_usage"), STREAM, Counts(10, 5)),
    "chat-stream-that-does-not-ask": Case(
        "/v1/chat/completions", NOT_ASKED, TALK + USAGE + DONE, STREAM, Counts(1234, 3), TALK + DONE
    ),
    "chat-stream-that-declines": Case(
        "/v1/chat/completions", DECLINED, TALK + USAGE + DONE, STREAM, Counts(1234, 3), TALK + DONE
    ),
    "completion": Case("/v1/completions", TEXT_ASK, recorded("completions_orca_json"), JSON, Counts(4, 3)),
    "completion-stream-without-usage": Case(
        "/v1/completions",
        {**TEXT_ASK, "stream": True},
        recorded("completions_stream"),
        STREAM,
        Counts(None, None),
    ),
    "completion-stream-that-does-not-ask": Case(
        "/v1/completions",
        {**TEXT_ASK, "stream": True},
        COMPLETION_TALK + USAGE + DONE,
        STREAM,
        Counts(1234, 3),
        COMPLETION_TALK + DONE,
    ),
    "embedding": Case("/v1/embeddings", {"model": "model", "input": "text"}, EMBEDDING, JSON, Counts(5, 0)),
    "responses": Case(
        "/v1/responses", {"model": "model", "input": "Hi"}, recorded("responses_nonstream"), JSON, Counts(12, 5)
    ),
    "responses-stream": Case(
        "/v1/responses", {"model": "model", "input": "Hi", "stream": True}, RESPONSES_TALK, STREAM, Counts(21, 4)
    ),
    "messages": Case("/v1/messages", MESSAGES_ASK, recorded("messages_nonstream"), JSON, Counts(10, 5)),
    "messages-stream": Case("/v1/messages", {**MESSAGES_ASK, "stream": True}, MESSAGES_TALK, STREAM, Counts(9, 6)),
    "error": Case(
        "/v1/chat/completions",
        chat("model"),
        recorded("error_too_long"),
        JSON,
        Counts(None, None),
        status="400 Bad Request",
    ),
}


def whole(body: bytes) -> list[bytes]:
    return [body]


def events(body: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in body.split(b"\n\n") if part]


def bytewise(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


def uneven(body: bytes) -> list[bytes]:
    return [body[i : i + 37] for i in range(0, len(body), 37)]


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    server: ScriptedServer
    position: str


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["native", "lua", "picker"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(scripted_server())
        documents = [*pool_with("pool", [server.port]), inference_model("model", pool="pool")]
        gateway = await stack.enter_async_context(StandaloneGateway(documents, "--usage", request.param))
        yield Site(gateway, server, request.param)


async def exchange(site: Site, case: Case, pieces: Sequence[bytes], request_id: str) -> bytes:
    """Play *case*, check what was recorded and return what the client got."""
    site.server.play(pieces, content_type=case.content_type, status=case.status)
    headers = {"x-request-id": request_id, "Accept-Encoding": "gzip, br"}
    reply = await site.gateway.post(case.path, case.request, headers=headers)
    assert reply.status == int(case.status[:3])
    assert reply.headers["Content-Type"] == case.content_type
    entry = await site.gateway.completed(request_id)
    assert Counts(entry.get("prompt_tokens"), entry.get("completion_tokens")) == case.counts
    assert entry["status"] == reply.status
    return reply.body


@pytest.mark.parametrize("name", CASES)
async def test_usage_is_recorded_and_the_client_gets_what_it_asked_for(site: Site, name: str) -> None:
    case = CASES[name]
    received = await exchange(site, case, events(case.answer) if case.content_type == STREAM else [case.answer], name)
    assert received == (case.answer if case.received is None else case.received)


@pytest.mark.parametrize("cut", [whole, uneven, bytewise])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("name", ["chat-stream-that-asks", "chat-stream-that-does-not-ask", "messages-stream"])
async def test_it_does_not_matter_how_a_stream_is_cut(
    site: Site, name: str, line_end: bytes, cut: Callable[[bytes], list[bytes]]
) -> None:
    case = CASES[name]
    answer = case.answer.replace(b"\n", line_end)
    expected = (case.answer if case.received is None else case.received).replace(b"\n", line_end)
    request_id = f"{name}-{len(line_end)}-{cut.__name__}"
    assert await exchange(site, case, cut(answer), request_id) == expected


async def test_the_model_server_is_asked_for_usage_but_not_for_compression(site: Site) -> None:
    case = CASES["chat-stream-that-does-not-ask"]
    await exchange(site, case, [case.answer], "asked-for")
    (head,), (body,) = site.server.heads, site.server.bodies
    assert json.loads(body) == {**case.request, "stream_options": {"include_usage": True}}
    assert "accept-encoding" not in head.lower()


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "does-not-ask"])
async def test_usage_survives_a_client_that_hangs_up_at_done(site: Site, asks: bool) -> None:
    """As the synchronous SDK does, whose connection is gone before the end of the body comes."""
    site.server.play([TALK, USAGE, DONE], content_type=STREAM, end=0.02)
    request_id = f"hang-up-{asks}"
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks else {}

    def read() -> list[Any]:
        with openai.OpenAI(base_url=f"{site.gateway.base_url}/v1", api_key="-", max_retries=0) as client:
            chunks = client.chat.completions.create(
                model="model",
                messages=[{"role": "user", "content": "Hi"}],
                stream=True,
                extra_headers={"x-request-id": request_id},
                **options,
            )
            return list(chunks)

    chunks = await asyncio.to_thread(read)
    assert [bool(chunk.choices) for chunk in chunks] == [True] * 3 + [False] * asks
    entry = await site.gateway.completed(request_id)
    assert (entry["prompt_tokens"], entry["completion_tokens"]) == (1234, 3)


async def test_usage_reaches_the_metrics(site: Site) -> None:
    labels = {"model_name": "model", "target_model_name": "model"}
    names = [f"inference_objective_{side}_tokens_sum" for side in ("input", "output")]
    before = [await site.gateway.metric(name, **labels) for name in names]
    case = CASES["chat"]
    await exchange(site, case, [case.answer], "metrics")
    after = [await site.gateway.metric(name, **labels) for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [17, 8]
