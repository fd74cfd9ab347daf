"""Handlers that generate: chats, completions and embeddings."""

import asyncio
import base64
import json
import struct
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from igw.simulator import tokens
from igw.simulator.admission_errors import QueueFullError, SequenceTooLongError
from igw.simulator.answers import AnswerWriter, dump
from igw.simulator.api_bodies import ApiError, ChatBody, CompletionBody, EmbeddingBody, encode_inputs, parse
from igw.simulator.connections import reset
from igw.simulator.faults import Fault, FaultKind
from igw.simulator.plan import check_length, plan_choices
from igw.simulator.realtime import ChoiceRequest, EngineStoppedError, Generation
from igw.simulator.state import ServerState

Strikes = Mapping[FaultKind, Fault]

_GENERATION_FAULTS: Final = (
    FaultKind.STATUS,
    FaultKind.SLOW_FIRST_TOKEN,
    FaultKind.STALL_PREFILL,
    FaultKind.STALL_STREAM,
    FaultKind.RESET_PREFILL,
    FaultKind.CUT_STREAM,
    FaultKind.ENGINE_DEATH,
    FaultKind.LATE_END,
    FaultKind.MANY_HEADERS,
)
_STALL_SECONDS: Final = 3600.0
_DEATH_SECONDS: Final = 0.005
"""How far into a prefill the engine dies."""
_STATUS_KINDS: Final = {429: "TooManyRequests", 500: "InternalServerError", 503: "ServiceUnavailable"}


class ConnectionEndedError(Exception):
    """The connection was reset on purpose; nothing is left to answer."""


class GenerationHandlers:
    """Answers generation requests of one server.

    Args:
        state: Shared state of the server.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /v1/chat/completions``."""
        return await self._generate(request, ChatBody)

    async def completion(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /v1/completions``."""
        return await self._generate(request, CompletionBody)

    async def embedding(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /v1/embeddings``: unit-free numbers that follow from the input."""
        strikes = self._strike()
        body = parse(EmbeddingBody, await request.read())
        model, adapter = self._state.resolve_model(body.model)
        inputs = encode_inputs(body.input, "input")
        for one in inputs:
            check_length(one, None, self._state.settings.context_tokens)
        size = self._state.settings.engine_sizes.block_size
        work = [
            ChoiceRequest(tokens.count(one), 0, tokens.block_hashes(one, size, adapter or ""), adapter, 0, "stop")
            for one in inputs
        ]
        await self._collect(request, work, strikes)
        total = sum(tokens.count(one) for one in inputs)
        data = [
            {"index": index, "object": "embedding", "embedding": _embedding(one, body)}
            for index, one in enumerate(inputs)
        ]
        usage = {"prompt_tokens": total, "total_tokens": total, "completion_tokens": 0, "prompt_tokens_details": None}
        answer = {"id": "embd-0", "object": "list", "created": int(self._state.started_seconds), "model": model}
        return await self._send(request, dump({**answer, "data": data, "usage": usage}), strikes)

    async def _generate(self, request: web.Request, kind: type[ChatBody | CompletionBody]) -> web.StreamResponse:
        strikes = self._strike()
        body = parse(kind, await request.read())
        model, adapter = self._state.resolve_model(body.model)
        settings = self._state.settings
        choices = plan_choices(body, context_tokens=settings.context_tokens, answer_tokens=settings.answer_tokens)
        options = body.stream_options if body.stream else None
        writer = AnswerWriter(
            chat=kind is ChatBody,
            model=model,
            choices=choices,
            prompt_tokens=sum(tokens.count(choice.prompt) for choice in choices[:: body.n]),
            include_usage=options is not None and options.include_usage,
            continuous_usage=options is not None and options.continuous_usage_stats,
        )
        size = settings.engine_sizes.block_size
        salt = body.cache_salt or ""
        work = [
            choice.request(block_size=size, adapter=adapter, salt=salt, priority=body.priority) for choice in choices
        ]
        if body.stream:
            return await self._stream(request, writer, work, strikes, body.n)
        generation = await self._collect(request, work, strikes)
        writer.usage.cached_tokens = _cached(generation, body.n)
        return await self._send(request, writer.body(), strikes)

    def _strike(self) -> Strikes:
        """Return the faults this request meets; ApiError where one of them is an error status."""
        self._state.statistics.http_requests += 1
        strikes = self._state.faults.draw_all(_GENERATION_FAULTS)
        if fault := strikes.get(FaultKind.STATUS):
            kind = _STATUS_KINDS.get(fault.code, "InternalServerError")
            raise ApiError(fault.code, kind, "This error was asked of the simulator.")
        return strikes

    async def _open(self, work: list[ChoiceRequest]) -> Generation:
        """Put sequences into the queue after the time a server needs to look at a request."""
        settings = self._state.settings
        if self._state.dead:
            raise self._stopped()
        if overhead := settings.preset.request_overhead_seconds / settings.time_scale:
            await asyncio.sleep(overhead)
        try:
            return self._state.engine.open(work)
        except QueueFullError as error:
            self._state.statistics.rejected += 1
            message = f"The waiting queue is full (max_num_queued_reqs={error.limit})."
            raise ApiError(429, "TooManyRequestsError", message) from error
        except SequenceTooLongError as error:
            raise ApiError(400, "BadRequestError", str(error), "input_tokens") from error
        except EngineStoppedError as error:
            raise self._stopped() from error

    def _stopped(self) -> ApiError:
        """Return what a server without an engine says."""
        if self._state.dead:
            message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
            return ApiError(500, "InternalServerError", message)
        return ApiError(503, "ServiceUnavailable", "The server is shutting down.")

    async def _die(self, strikes: Strikes) -> None:
        """Let the engine die in the middle of the prefill that has begun, if that is to happen."""
        if fault := strikes.get(FaultKind.ENGINE_DEATH):
            await asyncio.sleep(_DEATH_SECONDS)
            self._state.die(fault.delay_seconds)

    async def _collect(self, request: web.Request, work: list[ChoiceRequest], strikes: Strikes) -> Generation:
        """Run sequences to their end, nothing being sent meanwhile."""
        if FaultKind.STALL_PREFILL in strikes or FaultKind.STALL_STREAM in strikes:
            await asyncio.sleep(_STALL_SECONDS)
        if fault := strikes.get(FaultKind.RESET_PREFILL):
            await asyncio.sleep(fault.delay_seconds)
            _end_connection(request)
        if fault := strikes.get(FaultKind.SLOW_FIRST_TOKEN):
            await asyncio.sleep(fault.delay_seconds)
        generation = await self._open(work)
        try:
            await self._die(strikes)
            while not generation.done:
                await generation.tokens()
        except EngineStoppedError as error:
            raise self._stopped() from error
        finally:
            generation.close()
        return generation

    async def _send(self, request: web.Request, body: bytes, strikes: Strikes) -> web.StreamResponse:
        """Send a whole JSON answer, or half of it where it is to be cut."""
        headers = _more_headers(strikes)
        if load := self._load_header(request):
            headers["endpoint-load-metrics"] = load
        if FaultKind.CUT_STREAM not in strikes:
            return web.Response(body=body, content_type="application/json", headers=headers)
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        return _end_connection(request)

    async def _stream(
        self, request: web.Request, writer: AnswerWriter, work: list[ChoiceRequest], strikes: Strikes, n: int
    ) -> web.StreamResponse:
        """Send events as tokens come; the headers go out before the prefill, as vLLM sends them."""
        unsubmitted = {FaultKind.STALL_PREFILL, FaultKind.RESET_PREFILL, FaultKind.SLOW_FIRST_TOKEN} & strikes.keys()
        generation = None if unsubmitted else await self._open(work)
        try:
            headers = {"Content-Type": "text/event-stream; charset=utf-8", **_more_headers(strikes)}
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            if generation is None:
                await self._meet_prefill_fault(request, strikes)
                generation = await self._open(work)
            await self._die(strikes)
            await self._pump(request, response, writer, generation, strikes)
            writer.usage.cached_tokens = _cached(generation, n)
            await response.write(writer.final_events())
        except (ApiError, EngineStoppedError) as error:
            if generation is None and not unsubmitted:
                raise
            failure = error if isinstance(error, ApiError) else self._stopped()
            await response.write(b"data: " + dump(failure.body()) + b"\n\ndata: [DONE]\n\n")
        finally:
            if generation is not None:
                generation.close()
        if fault := strikes.get(FaultKind.LATE_END):
            await asyncio.sleep(fault.delay_seconds)
        await response.write_eof()
        return response

    async def _meet_prefill_fault(self, request: web.Request, strikes: Strikes) -> None:
        if FaultKind.STALL_PREFILL in strikes:
            await asyncio.sleep(_STALL_SECONDS)
        if fault := strikes.get(FaultKind.RESET_PREFILL):
            await asyncio.sleep(fault.delay_seconds)
            _end_connection(request)
        await asyncio.sleep(strikes[FaultKind.SLOW_FIRST_TOKEN].delay_seconds)

    async def _pump(
        self,
        request: web.Request,
        response: web.StreamResponse,
        writer: AnswerWriter,
        generation: Generation,
        strikes: Strikes,
    ) -> None:
        """Write the events of each step at once until all choices are complete or a fault ends the stream."""
        ending = strikes.get(FaultKind.CUT_STREAM) or strikes.get(FaultKind.STALL_STREAM)
        left = None if ending is None else ending.tokens
        while not generation.done:
            parts: list[str] = []
            for index, fresh in (await generation.tokens()).items():
                sendable = fresh if left is None else min(fresh, left)
                if sendable:
                    parts.append(writer.events(index, sendable))
                left = left if left is None else left - sendable
            if parts:
                await response.write("".join(parts).encode())
            if left == 0:
                generation.close()
                if FaultKind.CUT_STREAM in strikes:
                    # Give what was written a chance to leave before the reset drops it.
                    await asyncio.sleep(0.01)
                    _end_connection(request)
                await asyncio.sleep(_STALL_SECONDS)

    def _load_header(self, request: web.Request) -> str:
        """Return the load report a client asked for, empty where it asked for none."""
        engine = self._state.engine.engine
        waiting, usage = float(engine.waiting), engine.kv.usage
        match request.headers.get("endpoint-load-metrics-format", "").upper():
            case "JSON":
                report = {"named_metrics": {"num_requests_waiting": waiting, "kv_cache_usage_perc": usage}}
                return f"JSON {json.dumps(report)}"
            case "TEXT":
                return f"TEXT named_metrics.kv_cache_usage_perc={usage}, named_metrics.num_requests_waiting={waiting}"
            case _:
                return ""


def _cached(generation: Generation, n: int) -> int:
    """Return the cached tokens of each prompt, counted at the first of its *n* choices."""
    return sum(cached for choice, cached in generation.cached_tokens.items() if choice % n == 0)


def _end_connection(request: web.Request) -> web.StreamResponse:
    """Reset the client's connection and leave the handler."""
    reset(request.transport)
    raise ConnectionEndedError


def _more_headers(strikes: Strikes) -> dict[str, str]:
    fault = strikes.get(FaultKind.MANY_HEADERS)
    return {f"x-filler-{number}": "filler" for number in range(fault.amount)} if fault else {}


def _embedding(tokenised: bytes, body: EmbeddingBody) -> list[float] | str:
    """Return numbers between -1 and 1 that follow from the input, or their base64 form."""
    numbers = [tokens.seed_of(tokenised, dimension) % 2_000_001 / 1_000_000 - 1 for dimension in range(body.dimensions)]
    if body.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return numbers
