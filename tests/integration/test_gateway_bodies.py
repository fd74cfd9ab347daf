"""Every body meets an answer: the model server's where it can be routed, else an error in the form of the API."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from integration.model_servers import EchoServer, echo_server
from integration.resources import http_route, inference_model, pool_with, rule, to_pool
from integration.standalone import Reply, StandaloneGateway, chat

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

LIMIT = 1024 * 1024
CHATS = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    echo: EchoServer

    async def send(self, body: Any, path: str = CHATS, **headers: str) -> Reply:
        return await self.gateway.request(
            "POST", path, data=body, headers={"Content-Type": "application/json", **headers}
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        echo = await stack.enter_async_context(echo_server())
        documents = [
            *pool_with("named", [echo.port]),
            inference_model("model", pool="named", targetModels=[{"name": "served"}]),
            *pool_with("any", [echo.port]),
            http_route("any", rule("/any", to_pool("any"))),
        ]
        gateway = StandaloneGateway(documents, "--max-body-bytes", str(LIMIT))
        yield Site(await stack.enter_async_context(gateway), echo)


def padded(size: int, *, model: str = "model") -> bytes:
    """A chat of exactly *size* bytes."""
    body = json.dumps(chat(model, "", max_tokens=1)).encode()
    return body.replace(b'"content": ""', b'"content": "' + b"x" * (size - len(body)) + b'"')


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 400, id="empty"),
        pytest.param(b"{", 400, id="one-byte"),
        pytest.param(b'{"model": "model",}', 400, id="no-json"),
        pytest.param(b'["model"]', 400, id="no-object"),
        pytest.param(b'{"model":"other","model":"model","messages":[]}', 400, id="model-twice"),
        pytest.param(b'{"model":"model","messages":[{"role":"user","content":"a"}],"model":"other"}', 400, id="again"),
        pytest.param(b'{"model":5,"messages":[{"role":"user","content":"a"}]}', 400, id="model-of-wrong-type"),
        pytest.param(b'{"model":null,"messages":[{"role":"user","content":"a"}]}', 400, id="model-null"),
        pytest.param(b'{"messages":[{"role":"user","content":"a"}]}', 400, id="no-model"),
        pytest.param(b'{"model":"\xff","messages":[]}', 400, id="no-utf-8"),
        pytest.param(b'{"model":"\\ud800","messages":[]}', 400, id="lone-surrogate"),
        pytest.param(b"[" * 100_000, 400, id="deep"),
        pytest.param(b'{"model":"","messages":[{"role":"user","content":"a"}]}', 400, id="model-empty"),
        pytest.param(b'{"model":"' + b"x" * 100_000 + b'","messages":[]}', 400, id="model-name-without-end"),
        pytest.param(b'{"model":"model\\n","messages":[]}', 400, id="model-with-line-end"),
    ],
)
async def test_a_body_that_cannot_be_routed_is_refused_in_the_form_of_the_api(
    site: Site, body: bytes, status: int
) -> None:
    served = len(site.echo.requests)
    reply = await site.send(body)
    assert reply.status == status, reply
    assert reply.error["type"] == "invalid_request_error"
    assert len(reply.body) < 2000
    assert len(site.echo.requests) == served


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x", id="one-byte"),
        pytest.param(b'{"model": "any"', id="no-json"),
        pytest.param(bytes(range(256)), id="binary"),
    ],
)
async def test_a_route_for_any_model_passes_a_body_of_another_kind_untouched(site: Site, body: bytes) -> None:
    reply = await site.send(body, "/any/upload", **{"Content-Type": "application/octet-stream"})
    assert reply.status == 200
    assert reply.json["sha256"] == hashlib.sha256(body).hexdigest()


async def test_nothing_but_the_model_changes_in_a_body(site: Site) -> None:
    message = b'{"role":"user","content":"\\u00e9\\/ \xc3\xa9"}'
    body = b'{ "x" : 1.0e5, "model"\t:"model" , "messages":[' + message + b'],"n":9007199254740993}'
    reply = await site.send(body)
    assert reply.json["body"].encode("latin-1") == body.replace(b'"model"\t:"model"', b'"model"\t:"served"')
    assert int(reply.json["headers"]["content-length"]) == len(body) + 1


async def test_a_body_at_the_limit_passes(site: Site) -> None:
    reply = await site.send(padded(LIMIT))
    assert reply.status == 200
    assert reply.json["bytes"] == LIMIT + 1  # the target's name is one byte longer


@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 50_000_000], ids=["limit+1", "double", "50-mb"])
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
async def test_a_body_beyond_the_limit_is_too_large(site: Site, size: int, chunked: bool) -> None:
    served = len(site.echo.requests)
    body = padded(size)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield body[start : start + 65_536]

    headers = {} if chunked else {"Content-Length": str(size)}
    reply = await site.send(pieces(), **headers)
    assert reply.status == 413
    assert reply.error["code"] == "request_too_large"
    assert len(site.echo.requests) == served


async def test_a_chunked_upload_is_routed(site: Site) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in padded(300):
            yield bytes([byte])

    reply = await site.send(pieces())
    assert reply.status == 200
    assert reply.json["bytes"] == 301
    assert json.loads(reply.json["body"])["model"] == "served"


@pytest.mark.parametrize("model_first", [True, False])
async def test_a_transcription_is_routed_by_its_model_field(site: Site, model_first: bool) -> None:
    form = aiohttp.FormData()
    sound = bytes(range(256)) * 8
    if model_first:
        form.add_field("model", "model")
    form.add_field("file", sound, filename="sound.wav", content_type="audio/wav")
    if not model_first:
        form.add_field("model", "model")
    reply = await site.gateway.request("POST", "/v1/audio/transcriptions", data=form)
    assert reply.status == 200
    body = reply.json["body"].encode("latin-1")
    assert sound in body
    assert b'name="model"' in body
    assert b"\r\n\r\nserved\r\n" in body
    assert reply.headers["x-gateway-model-name"] == "model"
