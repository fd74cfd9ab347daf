"""A stream that begins with an error is an error: tried elsewhere if it may be, a status and a JSON body if not.

Comments in front of the first event neither begin an answer nor prove that there will be one.
"""

import asyncio
import json
from collections.abc import AsyncIterator
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
    answers,
    chunk,
    faulty_server,
    hangs_after,
    repeats,
    resets_after,
)
from integration.model_servers import DONE, chat_event, usage_event
from integration.resources import inference_model, pool_with
from integration.standalone import Reply, StandaloneGateway, chat, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

PATIENCE = {"inferencegateway.dev/first-token-timeout": "1s"}
COMMENT = b": keep-alive\n\n"
EVENTS = (chat_event("one"), usage_event(prompt=11, completion=1), DONE)
GOOD = answers(STREAM_HEAD, *(chunk(event) for event in EVENTS), LAST_CHUNK)


def error_event(code: int) -> bytes:
    error = {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "param": None, "code": code}
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"


def fails(*pieces: bytes) -> Script:
    """Sends its headers, the pieces of a body one by one, and the end."""
    return answers(STREAM_HEAD, *(chunk(piece) for piece in pieces), LAST_CHUNK, pause=0.02)


DEAD = error_event(500)
AT_ONCE = answers(STREAM_HEAD + chunk(DEAD) + chunk(DONE) + LAST_CHUNK)
REPLACED = {
    "an-error": AT_ONCE,
    "an-error-and-the-end-later": fails(DEAD, DONE),
    "an-error-in-pieces": fails(*(DEAD[at : at + 25] for at in range(0, len(DEAD), 25)), DONE),
    "an-error-after-comments": fails(COMMENT, COMMENT, DEAD, DONE),
    "too-many-requests": fails(error_event(429), DONE),
    "comments-and-a-reset": resets_after(STREAM_HEAD, chunk(COMMENT)),
    "comments-and-silence": hangs_after(STREAM_HEAD, chunk(COMMENT)),
    "comments-without-end": repeats(STREAM_HEAD, chunk(COMMENT), pause=0.1),
}


@dataclass(frozen=True, slots=True)
class Site:
    """One gateway before a lone server, and before two others of which one is sound."""

    gateway: StandaloneGateway
    alone: FaultyServer
    bad: FaultyServer
    good: FaultyServer

    async def stream(self, model: str) -> Reply:
        return await self.gateway.chat(model, stream=True, stream_options={"include_usage": True})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        alone, bad, good = [await stack.enter_async_context(faulty_server()) for _ in range(3)]
        good.script = GOOD
        documents = [
            *pool_with("alone", [alone.port], annotations=PATIENCE),
            *pool_with("pair", [bad.port, good.port], annotations=PATIENCE),
            inference_model("alone", pool="alone"),
            inference_model("pair", pool="pair"),
        ]
        # only what is tested keeps the bad one out
        gateway = StandaloneGateway(documents, "--ejection-failures", "1000", "--ejection-longest-seconds", "1")
        yield Site(await stack.enter_async_context(gateway), alone, bad, good)


@pytest.mark.parametrize("fault", REPLACED)
async def test_another_endpoint_answers_instead(site: Site, fault: str) -> None:
    site.bad.script = REPLACED[fault]
    site.bad.bodies.clear()
    replies = []

    async def met() -> bool:
        replies.append(await site.stream("pair"))
        return bool(site.bad.bodies)

    await eventually(met, what="no request met the bad endpoint")
    assert {(reply.status, reply.body) for reply in replies} == {(200, b"".join(EVENTS))}
    await site.gateway.settled()


@pytest.mark.parametrize("fault", [name for name in REPLACED if name.startswith("an-error")])
async def test_where_there_is_no_other_the_error_is_the_answer(site: Site, fault: str) -> None:
    site.alone.script = REPLACED[fault]
    reply = await site.stream("alone")
    assert (reply.status, reply.headers["Content-Type"]) == (500, "application/json")
    assert reply.json == json.loads(DEAD[len(b"data: ") :])


async def test_an_error_that_is_the_clients_own_is_tried_once(site: Site) -> None:
    site.bad.script, site.good.script = fails(error_event(400), DONE), fails(error_event(400), DONE)
    site.bad.bodies.clear()
    site.good.bodies.clear()
    try:
        reply = await site.stream("pair")
    finally:
        site.good.script = GOOD
    assert (reply.status, reply.json["error"]["code"]) == (400, 400)
    assert len(site.bad.bodies) + len(site.good.bodies) == 1


async def test_the_sdk_raises_it_as_what_it_is(site: Site) -> None:
    site.alone.script = AT_ONCE
    async with openai.AsyncOpenAI(base_url=f"{site.gateway.base_url}/v1", api_key="-", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError, match="EngineCore encountered an issue"):
            await client.chat.completions.create(**chat("alone", stream=True))


async def test_comments_in_front_of_the_first_event_pass_with_it(site: Site) -> None:
    site.alone.script = fails(COMMENT, COMMENT, *EVENTS)
    reply = await site.stream("alone")
    assert (reply.status, reply.body) == (200, COMMENT + COMMENT + b"".join(EVENTS))


async def test_comments_do_not_prolong_the_time_to_the_first_event(site: Site) -> None:
    site.alone.script = REPLACED["comments-without-end"]
    assert (await site.stream("alone")).status == 504


async def test_many_at_once_are_told_apart(site: Site) -> None:
    """The filter keeps a place for each answer that it holds."""
    site.bad.script = REPLACED["an-error-in-pieces"]
    replies = []

    async def work() -> None:
        replies.extend([await site.stream("pair") for _ in range(10)])

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(work())
    assert {(reply.status, reply.body) for reply in replies} == {(200, b"".join(EVENTS))}
