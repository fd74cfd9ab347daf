"""Unmodified official clients: what they ask for they get, and errors arrive as the exceptions they know."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio
from langchain_openai import ChatOpenAI

from igw.simulator.faults import Fault, FaultKind
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, free_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

KEY = "sdk-key"
ASK: dict[str, Any] = {"model": "model", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 6}


@dataclass(frozen=True, slots=True)
class Site:
    base_url: str
    server: SimulatedServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        settings = SimulatorSettings(models=("served",), max_model_len=512)
        server = await stack.enter_async_context(SimulatedServer(settings))
        documents = [
            *pool_with("pool", [server.port]),
            inference_model("model", pool="pool", targetModels=[{"name": "served"}]),
            *pool_with("empty", []),
            inference_model("nobody", pool="empty"),
            *pool_with("dead", [free_port()]),
            inference_model("dead", pool="dead"),
        ]
        gateway = StandaloneGateway(documents, "--max-body-bytes", "65536")
        (gateway.folder / "keys").write_text(f"{KEY}\n")
        gateway.add_arguments("--api-key-file", str(gateway.folder / "keys"))
        await stack.enter_async_context(gateway)
        yield Site(f"{gateway.base_url}/v1", server)


@pytest.fixture
def client(site: Site) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=site.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def async_client(site: Site) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=site.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def text_of(chunks: list[Any]) -> str:
    """What a stream said, read the way most programs do: every chunk has a choice."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_a_chat(client: openai.OpenAI, async_client: openai.AsyncOpenAI) -> None:
    for answer in (
        await asyncio.to_thread(client.chat.completions.create, **ASK),
        await async_client.chat.completions.create(**ASK),
    ):
        assert answer.choices[0].message.content
        assert answer.usage.completion_tokens == 6
        assert answer.model == "served"


@pytest.mark.parametrize("usage", [True, False], ids=["with-usage", "without-usage"])
async def test_a_streamed_chat(client: openai.OpenAI, async_client: openai.AsyncOpenAI, usage: bool) -> None:
    options: dict[str, Any] = {**ASK, "stream": True}
    if usage:
        options["stream_options"] = {"include_usage": True}
    streams = [
        await asyncio.to_thread(lambda: list(client.chat.completions.create(**options))),
        [chunk async for chunk in await async_client.chat.completions.create(**options)],
    ]
    for chunks in streams:
        if usage:
            last = chunks.pop()
            assert last.choices == []
            assert last.usage.completion_tokens == 6
        assert text_of(chunks)
        assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_text_completion(client: openai.OpenAI, stream: bool) -> None:
    options: dict[str, Any] = {"model": "model", "prompt": "Once", "max_tokens": 5, "stream": stream}
    answer = await asyncio.to_thread(
        lambda: list(client.completions.create(**options)) if stream else [client.completions.create(**options)]
    )
    assert "".join(part.choices[0].text for part in answer)


async def test_an_embedding(client: openai.OpenAI) -> None:
    answer = await asyncio.to_thread(lambda: client.embeddings.create(model="model", input=["a", "b"]))
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) > 1
    assert answer.usage.prompt_tokens > 0


async def test_the_models(client: openai.OpenAI) -> None:
    listed = await asyncio.to_thread(lambda: list(client.models.list()))
    assert {model.id for model in listed} == {"model", "nobody", "dead"}
    assert (await asyncio.to_thread(client.models.retrieve, "model")).id == "model"


@pytest.mark.parametrize(
    ("changes", "error", "status", "code"),
    [
        pytest.param({"model": "unknown"}, openai.NotFoundError, 404, "model_not_found", id="unknown-model"),
        pytest.param({"model": ""}, openai.BadRequestError, 400, "invalid_request", id="no-model"),
        pytest.param({"max_tokens": -1}, openai.BadRequestError, 400, "400", id="refused-by-the-model-server"),
        pytest.param(
            {"messages": [{"role": "user", "content": "x" * 20_000}]}, openai.BadRequestError, 400, "400", id="too-long"
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": "x" * 70_000}]},
            openai.APIStatusError,
            413,
            "request_too_large",
            id="too-large",
        ),
        pytest.param({"model": "nobody"}, openai.InternalServerError, 503, "no_ready_endpoints", id="no-endpoint"),
        pytest.param({"model": "dead"}, openai.InternalServerError, 503, "service_unavailable", id="dead-endpoint"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_error_is_the_exception_that_a_program_expects(
    client: openai.OpenAI,
    changes: dict[str, Any],
    error: type[openai.APIStatusError],
    status: int,
    code: Any,
    stream: bool,
) -> None:
    with pytest.raises(error) as raised:
        await asyncio.to_thread(lambda: client.chat.completions.create(**{**ASK, **changes, "stream": stream}))
    assert raised.value.status_code == status
    assert raised.value.code == code
    assert raised.value.request_id


async def test_a_wrong_key_is_an_authentication_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        await asyncio.to_thread(lambda: client.with_options(api_key="wrong").chat.completions.create(**ASK))
    assert raised.value.code == "invalid_api_key"


async def test_a_busy_pool_is_a_rate_limit_error(site: Site, client: openai.OpenAI) -> None:
    await site.server.set_faults([Fault(FaultKind.STATUS, code=429)])
    try:
        with pytest.raises(openai.RateLimitError):
            await asyncio.to_thread(lambda: client.chat.completions.create(**ASK))
    finally:
        await site.server.set_faults(())


@pytest.mark.parametrize("usage", [True, False], ids=["with-usage", "without-usage"])
async def test_langchain(site: Site, usage: bool) -> None:
    model = ChatOpenAI(
        model="model", base_url=site.base_url, api_key=KEY, max_tokens=6, stream_usage=usage, max_retries=0
    )
    answer = await asyncio.to_thread(model.invoke, "Say something.")
    assert answer.content
    assert answer.usage_metadata["output_tokens"] == 6

    async def stream() -> list[Any]:
        return [chunk async for chunk in model.astream("Say something.")]

    for chunks in (await asyncio.to_thread(lambda: list(model.stream("Say something."))), await stream()):
        assert "".join(chunk.content for chunk in chunks)
        counted = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
        assert len(counted) == usage
