"""Handlers that tell about a server and its models: lists, adapters, tokens, health, load and metrics."""

import asyncio
import secrets
import time
from typing import Any

from aiohttp import web

from igw.simulator import tokens
from igw.simulator.answers import SERVER_VERSION
from igw.simulator.api_bodies import (
    ApiError,
    DetokenizeBody,
    LoadAdapterBody,
    TokenizeBody,
    UnloadAdapterBody,
    encode_chat,
    parse,
)
from igw.simulator.faults import FaultKind
from igw.simulator.metrics_pages import PageSource, metrics_page
from igw.simulator.settings import ServerKind
from igw.simulator.state import ServerState

_GARBAGE = b'\x00\xff{{{ vllm:num_requests_waiting{ } NaN NaN\nvllm:kv_cache_usage_perc{="} 1e999x\n<html>\n'
_COMMENT_LINE = b"# " + b"x" * 1021 + b"\n"


class CatalogueHandlers:
    """Answers questions about one server.

    Args:
        state: Shared state of the server.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def health(self, _request: web.Request) -> web.Response:
        """Answer ``GET /health``: empty and 200, or 503 when the engine has died."""
        return web.Response(status=503 if self._state.dead else 200)

    async def version(self, _request: web.Request) -> web.Response:
        """Answer ``GET /version``."""
        return web.json_response({"version": SERVER_VERSION})

    async def load(self, _request: web.Request) -> web.Response:
        """Answer ``GET /load``: HTTP requests in flight."""
        return web.json_response({"server_load": self._state.statistics.in_flight})

    async def models(self, _request: web.Request) -> web.Response:
        """Answer ``GET /v1/models``: the base model's names and its adapters."""
        base = self._state.base_model
        names = [self._model_card(name, root=base, parent=None) for name in self._state.settings.models]
        adapters = [self._model_card(name, root=path, parent=base) for name, path in self._state.adapters.items()]
        return web.json_response({"object": "list", "data": names + adapters})

    async def load_adapter(self, request: web.Request) -> web.Response:
        """Answer ``POST /v1/load_lora_adapter``."""
        body = parse(LoadAdapterBody, await request.read())
        if not body.lora_name or not body.lora_path:
            raise ApiError(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if not self._state.lora:
            raise ApiError(400, "InvalidUserInput", "LoRA is off (max_loras is 0).")
        if body.lora_name in self._state.adapters and not body.load_inplace:
            message = f"The lora adapter '{body.lora_name}' has already been loaded."
            raise ApiError(400, "InvalidUserInput", message)
        self._state.adapters[body.lora_name] = body.lora_path
        return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def unload_adapter(self, request: web.Request) -> web.Response:
        """Answer ``POST /v1/unload_lora_adapter``."""
        body = parse(UnloadAdapterBody, await request.read())
        if not body.lora_name:
            raise ApiError(400, "InvalidUserInput", "'lora_name' must be provided.")
        if self._state.adapters.pop(body.lora_name, None) is None:
            raise ApiError(404, "NotFoundError", f"The lora adapter '{body.lora_name}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    async def tokenize(self, request: web.Request) -> web.Response:
        """Answer ``POST /tokenize``."""
        body = parse(TokenizeBody, await request.read())
        self._state.resolve_model(body.model)
        if body.messages is not None:
            encoded = encode_chat(body.messages, body.tools)
        elif body.prompt is not None:
            encoded = tokens.encode_text(body.prompt)
        else:
            raise ApiError(400, "Bad Request", "Either a prompt or messages are needed.", "body.prompt")
        numbers = tokens.ids(encoded)
        context = self._state.settings.context_tokens
        answer = {"count": len(numbers), "max_model_len": context, "tokens": numbers, "token_strs": None}
        return web.json_response(answer)

    async def detokenize(self, request: web.Request) -> web.Response:
        """Answer ``POST /detokenize``."""
        body = parse(DetokenizeBody, await request.read())
        try:
            return web.json_response({"prompt": tokens.decode_ids(body.tokens)})
        except ValueError as error:
            raise ApiError(400, "BadRequestError", str(error), "tokens") from error

    async def sglang_loads(self, _request: web.Request) -> web.Response:
        """Answer ``GET /v1/loads`` of SGLang: the one rank there is."""
        engine = self._state.engine.engine
        settings, counters = engine.settings, engine.counters
        used = engine.kv.used_blocks * settings.block_size
        rank = {
            "dp_rank": 0,
            "num_running_reqs": engine.running,
            "num_waiting_reqs": engine.waiting,
            "num_waiting_uncached_tokens": engine.waiting_tokens,
            "num_used_tokens": used,
            "num_total_tokens": used + engine.waiting_tokens,
            "max_total_num_tokens": settings.capacity_tokens,
            "max_running_requests": settings.max_num_seqs,
            "token_usage": round(engine.kv.usage, 4),
            "cache_hit_rate": counters.prefix_hits / max(1, counters.prefix_queries),
        }
        return web.json_response({"timestamp": time.time(), "version": "0.5.23", "loads": [rank]})

    async def tgi_info(self, _request: web.Request) -> web.Response:
        """Answer ``GET /info`` of TGI."""
        settings = self._state.settings
        answer = {
            "model_id": self._state.base_model,
            "max_input_tokens": settings.context_tokens - 1,
            "max_total_tokens": settings.context_tokens,
            "max_batch_total_tokens": settings.engine_sizes.capacity_tokens,
            "max_concurrent_requests": settings.engine_sizes.max_num_seqs,
        }
        return web.json_response(answer)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer ``GET /metrics`` in the names of the server that is imitated."""
        faults = self._state.faults
        if fault := faults.draw(FaultKind.METRICS_SLOW):
            await asyncio.sleep(fault.delay_seconds)
        if faults.draw(FaultKind.METRICS_ABSENT):
            raise ApiError(404, "Not Found", "Not Found")
        kind = "text/plain; version=0.0.4; charset=utf-8"
        if faults.draw(FaultKind.METRICS_GARBAGE):
            return web.Response(body=_GARBAGE, headers={"Content-Type": kind})
        source = PageSource(
            model=self._state.base_model,
            engine=self._state.engine.engine,
            statistics=self._state.statistics,
            started_seconds=self._state.started_seconds,
            lora=self._state.lora and bool(self._state.adapters or self._state.statistics.adapter_series),
        )
        page = metrics_page(self._state.settings.kind, source).encode()
        if fault := faults.draw(FaultKind.METRICS_HUGE):
            page = _COMMENT_LINE * (fault.amount // len(_COMMENT_LINE) + 1) + page
        return web.Response(body=page, headers={"Content-Type": kind})

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these handlers, some of them only where the imitated server has them."""
        routes = [
            web.get("/health", self.health),
            web.get("/version", self.version),
            web.get("/load", self.load),
            web.get("/metrics", self.metrics),
            web.get("/v1/models", self.models),
            web.post("/tokenize", self.tokenize),
            web.post("/detokenize", self.detokenize),
            web.post("/v1/load_lora_adapter", self.load_adapter),
            web.post("/v1/unload_lora_adapter", self.unload_adapter),
        ]
        match self._state.settings.kind:
            case ServerKind.SGLANG:
                routes.append(web.get("/v1/loads", self.sglang_loads))
            case ServerKind.TGI:
                routes.append(web.get("/info", self.tgi_info))
            case ServerKind.VLLM:
                pass
        return routes

    def _model_card(self, name: str, *, root: str, parent: str | None) -> dict[str, Any]:
        created = int(self._state.started_seconds)
        permission = {
            "id": f"modelperm-{secrets.token_hex(8)}",
            "object": "model_permission",
            "created": created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": self._state.settings.context_tokens if parent is None else None,
            "permission": [permission],
        }
