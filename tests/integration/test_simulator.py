"""A simulated model server keeps vLLM's contract on the wire, under faults, and from the command line."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from igw.simulator.engine_settings import EngineSettings
from igw.simulator.faults import Fault, FaultKind
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import ServerKind, SimulatorSettings

CHAT = "/v1/chat/completions"
SLOW_PREFILL = {"timing": "h100-8b", "time_scale": 0.05}


def chat(content: str = "hello", **rest: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 5, **rest}


def running(**changes: object) -> AbstractAsyncContextManager[tuple[SimulatedServer, aiohttp.ClientSession]]:
    @asynccontextmanager
    async def both() -> AsyncIterator[tuple[SimulatedServer, aiohttp.ClientSession]]:
        async with SimulatedServer(SimulatorSettings(**changes)) as server:
            timeout = aiohttp.ClientTimeout(total=20)
            async with aiohttp.ClientSession(server.url, timeout=timeout) as client:
                yield server, client

    return both()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition of any server
            await asyncio.sleep(0.005)


async def metrics(client: aiohttp.ClientSession) -> dict[str, float]:
    async with client.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        return {sample.name: sample.value for family in families for sample in family.samples}


def test_official_sdk_sync() -> None:
    async def serve(call: Callable[[str], Any]) -> Any:
        async with SimulatedServer() as server:
            with ThreadPoolExecutor(1) as pool:
                return await asyncio.get_running_loop().run_in_executor(pool, call, server.url)

    def call(url: str) -> tuple[str, str, Any]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            messages = [{"role": "user", "content": "hello"}]
            whole = client.chat.completions.create(model="simulated-model", messages=messages, max_tokens=9)
            chunks = list(
                client.chat.completions.create(
                    model="simulated-model",
                    messages=messages,
                    max_tokens=9,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            )
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            return whole.choices[0].message.content, text, chunks[-1].usage

    whole, streamed, usage = asyncio.run(serve(call))
    assert whole == streamed
    assert (usage.completion_tokens, usage.total_tokens) == (9, usage.prompt_tokens + 9)


async def test_official_sdk_async() -> None:
    async with (
        SimulatedServer() as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        models = await client.models.list()
        assert [model.id for model in models.data] == ["simulated-model"]
        completion = await client.completions.create(model="simulated-model", prompt="hello", max_tokens=7, n=2)
        assert [choice.finish_reason for choice in completion.choices] == ["length", "length"]
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 14
        embedding = await client.embeddings.create(model="simulated-model", input=["a", "b"])
        assert [len(item.embedding) for item in embedding.data] == [64, 64]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.completions.create(model="nope", prompt="hello")


async def test_the_same_prompt_has_the_same_text_on_every_server_and_the_name_is_in_a_header_only() -> None:
    texts = set()
    for name in ("one", "two"):
        async with running(name=name) as (server, client), client.post(CHAT, json=chat()) as response:
            assert response.headers["x-simulated-server"] == name
            body = await response.json()
            texts.add(body["choices"][0]["message"]["content"])
            assert name not in {body["id"], body["model"], body["system_fingerprint"]}
            assert server.requests_served == 1
    assert len(texts) == 1


async def test_headers_of_a_stream_precede_its_prefill() -> None:
    async with running(**SLOW_PREFILL) as (_server, client):
        start = time.monotonic()
        async with client.post(CHAT, json=chat("x" * 4000, max_tokens=1, stream=True)) as response:
            headers_after = time.monotonic() - start
            await response.content.readline()
            token_after = time.monotonic() - start
        # 15 ms of overhead and 38 ms of prefill, twenty times slower.
        assert headers_after < 0.6
        assert token_after > headers_after + 0.3


async def test_a_repeated_prompt_is_cached() -> None:
    async with running() as (_server, client):
        cached = []
        for _ in range(2):
            async with client.post(CHAT, json=chat("x" * 1000)) as response:
                usage = (await response.json())["usage"]
                cached.append(usage["prompt_tokens_details"]["cached_tokens"])
        assert usage["prompt_tokens"] == 253
        assert cached == [0, 240]


@pytest.mark.parametrize("include_usage", [True, False])
async def test_usage_is_in_a_stream_only_where_it_was_asked_for(include_usage: bool) -> None:
    async with running() as (_server, client):
        body = chat(stream=True, stream_options={"include_usage": include_usage})
        async with client.post(CHAT, json=body) as response:
            text = await response.text()
    assert ('"usage"' in text) is include_usage
    assert text.endswith("data: [DONE]\n\n")


async def test_a_disconnect_aborts_the_sequence_and_frees_its_blocks() -> None:
    async with running() as (server, client):
        engine = server.state.engine.engine
        for stream in (True, False):
            body = chat("x" * 1000, max_tokens=20_000, ignore_eos=True, stream=stream)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), client.post(CHAT, json=body) as response:
                    await response.read()
            await until(lambda: not engine.has_work)
            assert engine.kv.used_blocks == 0
        assert server.state.statistics.finished["abort"] == 2


async def test_gauges_follow_the_load() -> None:
    settings = EngineSettings(max_num_seqs=2, num_blocks=2000)
    async with running(engine=settings) as (server, client), asyncio.TaskGroup() as group:
        body = chat("x" * 1000, max_tokens=300, ignore_eos=True)
        tasks = [group.create_task(post(client, body)) for _ in range(5)]
        await until(lambda: server.state.engine.engine.waiting == 3)
        busy = await metrics(client)
        assert (busy["vllm:num_requests_running"], busy["vllm:num_requests_waiting"]) == (2.0, 3.0)
        assert busy["vllm:kv_cache_usage_perc"] > 0
        assert [await task for task in tasks] == [200] * 5
        idle = await metrics(client)
        assert (idle["vllm:num_requests_running"], idle["vllm:kv_cache_usage_perc"]) == (0.0, 0.0)
        assert idle["vllm:generation_tokens_total"] == 1500.0


async def receive(response: aiohttp.ClientResponse, into: bytearray, seconds: float = 5.0) -> None:
    """Read until the end, an error, or the time is over."""
    async with asyncio.timeout(seconds):
        async for chunk in response.content.iter_any():
            into += chunk


async def exchange(url: str, body: dict[str, Any]) -> bytes:
    """Send a chat over a plain socket, which tells a reset from an end, and return all that comes back."""
    host, _colon, port = url.removeprefix("http://").partition(":")
    payload = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {len(payload)}\r\n\r\n"
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(head.encode() + payload)
            return await reader.read()
        finally:
            writer.close()


async def post(client: aiohttp.ClientSession, body: dict[str, Any], path: str = CHAT) -> int:
    async with client.post(path, json=body) as response:
        await response.read()
        return response.status


async def test_a_full_queue_answers_429() -> None:
    settings = EngineSettings(max_num_seqs=1, max_queued_requests=1, num_blocks=2000)
    async with running(engine=settings) as (server, client), asyncio.TaskGroup() as group:
        body = chat(max_tokens=300, ignore_eos=True)
        first = group.create_task(post(client, body))
        await until(lambda: server.state.engine.engine.running == 1)
        second = group.create_task(post(client, body))
        await until(lambda: server.state.engine.engine.waiting == 1)
        async with client.post(CHAT, json=chat(stream=True)) as response:
            assert response.status == 429
            assert (await response.json())["error"]["code"] == 429
        assert [await first, await second] == [200, 200]
        page = await metrics(client)
        assert page["vllm:admission_rejections_total"] >= 0.0
        assert server.state.statistics.rejected == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "param"),
    [
        pytest.param(CHAT, b'{"model":', 400, "Bad Request", "body.9", id="bad-json"),
        pytest.param(CHAT, b"{}", 400, "Bad Request", "body.messages", id="missing-messages"),
        pytest.param(CHAT, json.dumps(chat(model="nope")).encode(), 404, "NotFoundError", "model", id="model"),
        pytest.param(
            CHAT, json.dumps(chat("x" * 400_000)).encode(), 400, "BadRequestError", "input_text", id="too-long"
        ),
        pytest.param("/nowhere", b"{}", 404, "Not Found", None, id="path"),
        pytest.param("/health", b"{}", 405, "Method Not Allowed", None, id="method"),
    ],
)
async def test_errors(path: str, body: bytes, status: int, kind: str, param: str | None) -> None:
    async with running() as (_server, client), client.post(path, data=body) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"], error["type"], error["param"]) == (status, status, kind, param)


async def test_a_key_is_asked_for_on_v1_only() -> None:
    async with running(api_key="secret") as (_server, client):
        for key, status in ((None, 401), ("wrong", 401), ("secret", 200)):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with client.post(CHAT, json=chat(), headers=headers) as response:
                assert response.status == status
                if status == 401:
                    assert await response.json() == {"error": "Unauthorized"}
        for path in ("/health", "/metrics", "/version"):
            async with client.get(path) as response:
                assert response.status == 200


async def test_adapters_are_loaded_listed_used_and_unloaded() -> None:
    async with running() as (_server, client):
        load = {"lora_name": "a", "lora_path": "/adapters/a"}
        assert [await post(client, load, "/v1/load_lora_adapter") for _ in range(2)] == [200, 400]
        async with client.get("/v1/models") as response:
            cards = (await response.json())["data"]
        assert [(card["id"], card["parent"]) for card in cards] == [
            ("simulated-model", None),
            ("a", "simulated-model"),
        ]
        assert await post(client, chat(model="a")) == 200
        assert "vllm:lora_requests_info" in await metrics(client)
        assert [await post(client, load, "/v1/unload_lora_adapter") for _ in range(2)] == [200, 404]
        assert await post(client, chat(model="a")) == 404


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        pytest.param(ServerKind.VLLM, "vllm:num_requests_running", "/load", id="vllm"),
        pytest.param(ServerKind.SGLANG, "sglang:num_running_reqs", "/v1/loads", id="sglang"),
        pytest.param(ServerKind.TGI, "tgi_batch_current_size", "/info", id="tgi"),
    ],
)
async def test_each_kind_has_its_pages(kind: ServerKind, name: str, path: str) -> None:
    async with running(kind=kind) as (_server, client):
        assert name in await metrics(client)
        async with client.get(path) as response:
            assert response.status == 200


@pytest.mark.parametrize("form", ["JSON", "TEXT"])
async def test_a_load_report_comes_where_it_is_asked_for(form: str) -> None:
    headers = {"endpoint-load-metrics-format": form}
    async with running() as (_server, client), client.post(CHAT, json=chat(), headers=headers) as response:
        assert response.headers["endpoint-load-metrics"].startswith(f"{form} ")
        assert "kv_cache_usage_perc" in response.headers["endpoint-load-metrics"]


async def test_tokenize_counts_what_usage_counts() -> None:
    async with running() as (_server, client):
        async with client.post("/tokenize", json=chat()) as response:
            counted = (await response.json())["count"]
        async with client.post(CHAT, json=chat()) as response:
            assert (await response.json())["usage"]["prompt_tokens"] == counted


class TestFaults:
    @pytest.mark.parametrize("code", [429, 500, 503])
    async def test_status(self, code: int) -> None:
        async with running() as (server, client):
            await server.set_faults([Fault(FaultKind.STATUS, code=code, count=1)])
            assert [await post(client, chat()) for _ in range(2)] == [code, 200]

    @pytest.mark.parametrize("kind", [FaultKind.RESET_PREFILL, FaultKind.CUT_STREAM])
    @pytest.mark.parametrize("stream", [True, False])
    async def test_the_connection_is_reset(self, kind: FaultKind, stream: bool) -> None:
        async with running() as (server, client):
            await server.set_faults([Fault(kind, tokens=3, count=1)])
            body = chat(stream=stream, max_tokens=100, ignore_eos=True)
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
                await post(client, body)
            assert await post(client, body) == 200
            await until(lambda: not server.state.engine.engine.has_work)

    async def test_a_cut_stream_has_exactly_its_tokens(self) -> None:
        async with running() as (server, client):
            await server.set_faults([Fault(FaultKind.CUT_STREAM, tokens=3)])
            received = bytearray()
            async with client.post(CHAT, json=chat(stream=True, max_tokens=50)) as response:
                assert response.status == 200
                with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
                    await receive(response, received)
            assert received.count(b'"delta":{"content":') == 3

    async def test_a_stall_in_prefill_sends_headers_and_nothing_else(self) -> None:
        async with running() as (server, client):
            await server.set_faults([Fault(FaultKind.STALL_PREFILL, count=1)])
            async with client.post(CHAT, json=chat(stream=True)) as response:
                assert response.status == 200
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await response.content.readany()
            assert await post(client, chat()) == 200

    async def test_a_stall_in_a_stream_follows_its_tokens(self) -> None:
        async with running() as (server, client):
            await server.set_faults([Fault(FaultKind.STALL_STREAM, tokens=2)])
            received = bytearray()
            async with client.post(CHAT, json=chat(stream=True)) as response:
                with pytest.raises(TimeoutError):
                    await receive(response, received, seconds=0.2)
            assert received.count(b'"delta":{"content":') == 2

    async def test_a_dying_engine_takes_all_its_requests_along_and_the_server_after_a_while(self) -> None:
        async with running(**SLOW_PREFILL) as (server, client):

            async def stream() -> tuple[int, bytes]:
                async with client.post(CHAT, json=chat("x" * 4000, stream=True)) as response:
                    return response.status, await response.read()

            async with asyncio.TaskGroup() as group:
                first = group.create_task(stream())
                whole = group.create_task(post(client, chat("y" * 4000)))
                await until(lambda: server.state.statistics.in_flight == 2)
                await server.set_faults([Fault(FaultKind.ENGINE_DEATH, seconds=0.3)])
                last = group.create_task(stream())
            for status, body in (first.result(), last.result()):
                assert status == 200  # the headers had gone before
                assert body.startswith(b'data: {"error":')
                assert b'"code":500' in body
                assert body.endswith(b"data: [DONE]\n\n")
            assert whole.result() == 500
            assert await post(client, chat()) == 500
            async with client.get("/health") as health, client.get("/metrics") as page:
                assert (health.status, page.status) == (503, 200)
            with pytest.raises(RuntimeError, match="stopped"):
                await until(lambda: not server.state)
            with pytest.raises(aiohttp.ClientConnectionError):
                await post(client, chat())
            await server.set_faults(())
            await server.start()
            async with aiohttp.ClientSession(server.url) as another:  # without connections to the life before
                assert await post(another, chat()) == 200

    @pytest.mark.parametrize("kind", [FaultKind.SLOW_FIRST_TOKEN, FaultKind.LATE_END])
    async def test_delays(self, kind: FaultKind) -> None:
        async with running() as (server, client):
            await server.set_faults([Fault(kind, seconds=0.3)])
            start = time.monotonic()
            async with client.post(CHAT, json=chat(stream=True)) as response:
                text = await response.text()
            assert 0.3 <= time.monotonic() - start < 2
            assert text.endswith("data: [DONE]\n\n")

    async def test_many_headers(self) -> None:
        async with running() as (server, _client):
            await server.set_faults([Fault(FaultKind.MANY_HEADERS)])
            assert (await exchange(server.url, chat())).count(b"\r\nx-filler-") == 10_000

    async def test_metrics_pages(self) -> None:
        async with running() as (server, client):
            await server.set_faults([Fault(FaultKind.METRICS_ABSENT)])
            async with client.get("/metrics") as response:
                assert response.status == 404
            await server.set_faults([Fault(FaultKind.METRICS_GARBAGE)])
            async with client.get("/metrics") as response:
                assert b"<html>" in await response.read()
            await server.set_faults([Fault(FaultKind.METRICS_HUGE, size=1_000_000)])
            async with client.get("/metrics") as response:
                assert len(await response.read()) > 1_000_000
            await server.set_faults([Fault(FaultKind.METRICS_SLOW, seconds=0.2)])
            start = time.monotonic()
            await metrics(client)
            assert time.monotonic() - start >= 0.2

    async def test_refused_connections_come_back(self) -> None:
        async with running() as (server, client):
            assert await post(client, chat()) == 200
            await server.set_faults([Fault(FaultKind.REFUSE, seconds=0.3)])
            with pytest.raises(aiohttp.ClientConnectorError):
                async with aiohttp.ClientSession(server.url) as other:
                    await post(other, chat())
            await asyncio.sleep(0.5)
            assert await post(client, chat()) == 200

    async def test_they_are_set_shown_and_cleared_over_http(self) -> None:
        async with running() as (_server, client):
            plan = {"faults": [{"kind": "status", "code": 500}], "seed": 3}
            assert await post(client, plan, "/simulator/faults") == 200
            assert await post(client, chat()) == 500
            async with client.get("/simulator/faults") as response:
                shown = await response.json()
            assert (shown["seed"], shown["faults"][0]["struck"]) == (3, 1)
            assert await post(client, {"faults": [{"kind": "nope"}]}, "/simulator/faults") == 400
            async with client.delete("/simulator/faults") as response:
                assert response.status == 200
            assert await post(client, chat()) == 200


async def test_a_killed_server_resets_its_streams_and_is_revived_empty_on_its_port() -> None:
    async with running() as (server, client):
        port = server.port
        assert await post(client, chat("x" * 1000)) == 200
        body = chat("x" * 1000, stream=True, max_tokens=20_000, ignore_eos=True)
        async with client.post(CHAT, json=body) as response:
            await response.content.readany()
            await server.stop()
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
                await response.read()
        with pytest.raises(aiohttp.ClientConnectionError):
            await post(client, chat())
        await server.start()
        assert server.port == port
        async with client.post(CHAT, json=chat("x" * 1000)) as revived:
            assert (await revived.json())["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_a_graceful_stop_lets_a_stream_end() -> None:
    async with running() as (server, client):
        body = chat(stream=True, max_tokens=100, ignore_eos=True)
        async with client.post(CHAT, json=body) as response:
            await response.content.readany()
            async with asyncio.TaskGroup() as group:
                group.create_task(server.stop(grace_seconds=10))
                text = await response.text()
        assert text.endswith("data: [DONE]\n\n")


async def test_a_taken_port_is_an_error() -> None:
    async with SimulatedServer() as first:
        with pytest.raises(OSError, match="in use"):
            async with SimulatedServer(SimulatorSettings(port=first.port)):
                pass


def simulate_command(*arguments: str) -> "subprocess.Popen[str]":
    program = "import typer, igw.simulate; typer.run(igw.simulate.simulate)"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_serves_and_stops_cleanly() -> None:
    with simulate_command("--port", "0", "--count", "2", "--timing", "fast", "--engine", "sglang") as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(2)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            process.kill()
    for index, line in enumerate(lines):
        assert line.startswith(f"simulated SGLang 'simulated-{index}' on http://127.0.0.1:")


@pytest.mark.parametrize("kind", ["reset-prefill", "cut-stream"])
async def test_the_command_resets_connections_on_its_own_event_loop(kind: str) -> None:
    with simulate_command("--port", "0", "--timing", "fast", "--fault", f"{kind},count=1") as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split(" on ")[1].strip()
            with pytest.raises(ConnectionResetError):
                await exchange(url, chat(stream=True))
            assert (await exchange(url, chat())).startswith(b"HTTP/1.1 200")
        finally:
            process.terminate()
            assert process.wait(15) == 0


def test_the_command_says_in_one_line_that_a_port_is_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with simulate_command("--port", str(port)) as process:
            _out, err = process.communicate(timeout=15)
    assert process.returncode == 1
    assert err == f"igw: cannot listen on 127.0.0.1:{port}: it is in use\n"


def test_the_command_refuses_a_bad_fault() -> None:
    with simulate_command("--port", "0", "--fault", "explode") as process:
        _out, err = process.communicate(timeout=15)
    assert process.returncode == 2
    assert "explode" in err or "kind" in err
