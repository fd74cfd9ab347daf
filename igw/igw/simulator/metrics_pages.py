"""The metrics page of a simulated model server, in the names of the server it imitates."""

from dataclasses import dataclass
from typing import assert_never

from igw.simulator.engine import Engine
from igw.simulator.exposition import ExpositionPage
from igw.simulator.settings import ServerKind
from igw.simulator.statistics import ServerStatistics


@dataclass(frozen=True, slots=True)
class PageSource:
    """What a page is written from.

    Attributes:
        model: Name of the base model.
        engine: The engine as it is now.
        statistics: Totals of the server.
        started_seconds: Unix time of the start.
        lora: Whether the server serves adapters at all.
    """

    model: str
    engine: Engine
    statistics: ServerStatistics
    started_seconds: float
    lora: bool


def metrics_page(kind: ServerKind, source: PageSource) -> str:
    """Return the page as a server of *kind* writes it."""
    match kind:
        case ServerKind.VLLM:
            return _vllm(source)
        case ServerKind.SGLANG:
            return _sglang(source)
        case ServerKind.TGI:
            return _tgi(source)
        case _:
            assert_never(kind)


def _vllm(source: PageSource) -> str:
    engine, statistics, settings = source.engine, source.statistics, source.engine.settings
    counters = engine.counters
    page = ExpositionPage({"engine": "0", "model_name": source.model}, created_seconds=source.started_seconds)
    page.gauge("vllm:num_requests_running", "Requests in the running batch.", engine.running)
    page.gauge("vllm:num_requests_waiting", "Requests waiting to be processed.", engine.waiting)
    page.family(
        "vllm:num_requests_waiting_by_reason",
        "Waiting requests by reason.",
        "gauge",
        [({"reason": "capacity"}, engine.waiting), ({"reason": "deferred"}, 0)],
    )
    page.gauge("vllm:kv_cache_usage_perc", "KV-cache usage, 1 means all of it.", engine.kv.usage)
    page.counter("vllm:prefix_cache_queries_total", "Tokens looked up in the prefix cache.", counters.prefix_queries)
    page.counter("vllm:prefix_cache_hits_total", "Tokens found in the prefix cache.", counters.prefix_hits)
    page.counter("vllm:num_preemptions_total", "Preemptions.", counters.preemptions)
    page.counter("vllm:prompt_tokens_total", "Prefill tokens.", counters.prompt_tokens)
    page.counter("vllm:prompt_tokens_cached_total", "Prompt tokens from the cache.", counters.prefix_hits)
    page.counter("vllm:generation_tokens_total", "Generated tokens.", counters.output_tokens)
    page.family(
        "vllm:request_success_total",
        "Finished requests by reason.",
        "counter",
        [({"finished_reason": reason}, number) for reason, number in statistics.finished.items()],
    )
    page.family(
        "vllm:admission_rejections_total",
        "Requests refused by a queue limit.",
        "counter",
        [({"reason": "max_num_queued_reqs"}, statistics.rejected), ({"reason": "max_num_queued_tokens"}, 0)],
    )
    page.histogram("vllm:request_prompt_tokens", "Prompt tokens per request.", statistics.prompt_tokens)
    page.histogram("vllm:request_generation_tokens", "Output tokens per request.", statistics.output_tokens)
    page.histogram("vllm:time_to_first_token_seconds", "Time to the first token.", statistics.first_token)
    page.histogram("vllm:inter_token_latency_seconds", "Time between two tokens.", statistics.between_tokens)
    page.histogram("vllm:e2e_request_latency_seconds", "Time of whole requests.", statistics.request)
    if source.lora:
        # The Python client sorts these labels by name; the value is when the combination was last true.
        series = statistics.adapter_series or {("", ""): source.started_seconds}
        page.bare_family(
            "vllm:lora_requests_info",
            "Adapters that run and wait.",
            [
                (
                    {
                        "max_lora": str(settings.max_loras),
                        "running_lora_adapters": running,
                        "waiting_lora_adapters": waiting,
                    },
                    seen,
                )
                for (running, waiting), seen in series.items()
            ],
        )
    page.bare_family("vllm:cache_config_info", "Configuration of the cache.", [(_vllm_cache_config(engine), 1)])
    return page.text()


def _vllm_cache_config(engine: Engine) -> dict[str, str]:
    settings = engine.settings
    return {
        "block_size": str(settings.block_size),
        "cache_dtype": "auto",
        "effective_attention_block_size": str(settings.block_size),
        "enable_prefix_caching": str(settings.prefix_caching),
        "engine": "0",
        "gpu_memory_utilization": "0.9",
        "kv_cache_size_tokens": str(settings.num_blocks * settings.block_size),
        "num_cpu_blocks": "None",
        "num_gpu_blocks": str(settings.num_blocks),
        "num_gpu_blocks_override": "None",
        "prefix_caching_hash_algo": "sha256",
        "sliding_window": "None",
    }


def _sglang(source: PageSource) -> str:
    engine, statistics, settings = source.engine, source.statistics, source.engine.settings
    counters = engine.counters
    labels = {
        "engine_type": "unified",
        "model_name": source.model,
        "moe_ep_rank": "0",
        "pp_rank": "0",
        "tp_rank": "0",
    }
    page = ExpositionPage(labels)
    hit_rate = counters.prefix_hits / counters.prefix_queries if counters.prefix_queries else 0.0
    page.gauge("sglang:num_running_reqs", "Requests in the running batch", engine.running)
    page.gauge("sglang:num_queue_reqs", "Requests in the waiting queue", engine.waiting)
    page.gauge("sglang:num_grammar_queue_reqs", "Requests waiting for a grammar", 0)
    page.gauge("sglang:token_usage", "Share of the KV pool in use, evictable tokens excluded", engine.kv.usage)
    page.gauge("sglang:num_used_tokens", "Tokens in use", engine.kv.used_blocks * settings.block_size)
    page.gauge("sglang:max_total_num_tokens", "Capacity of the KV pool", settings.capacity_tokens)
    page.gauge("sglang:page_size", "Tokens per page", settings.block_size)
    page.gauge("sglang:num_pages", "Pages of the KV pool", engine.kv.usable_blocks)
    page.gauge("sglang:cache_hit_rate", "Share of prompt tokens found in the cache", hit_rate)
    page.gauge("sglang:num_retracted_reqs", "Retracted requests", counters.preemptions)
    if source.lora:
        page.gauge("sglang:lora_pool_slots_used", "Adapters in the pool", len(engine.adapters.resident))
        page.gauge("sglang:lora_pool_slots_total", "Slots of the adapter pool", settings.max_loras)
    page.counter("sglang:prompt_tokens_total", "Prefill tokens", counters.prompt_tokens)
    page.counter("sglang:generation_tokens_total", "Generated tokens", counters.output_tokens)
    page.family(
        "sglang:cached_tokens_total",
        "Prompt tokens from the cache",
        "counter",
        [({"cache_source": "device"}, counters.prefix_hits)],
    )
    page.counter("sglang:num_requests_total", "Finished requests", statistics.request.number)
    page.histogram("sglang:time_to_first_token_seconds", "Time to the first token", statistics.first_token)
    page.histogram("sglang:inter_token_latency_seconds", "Time between two tokens", statistics.between_tokens)
    page.histogram("sglang:e2e_request_latency_seconds", "Time of whole requests", statistics.request)
    return page.text()


def _tgi(source: PageSource) -> str:
    engine, statistics = source.engine, source.statistics
    page = ExpositionPage({}, integers=True, blank_lines=True)
    budget = engine.kv.used_blocks * engine.settings.block_size
    page.counter("tgi_request_count", "Requests received", statistics.http_requests)
    page.counter("tgi_request_success", "Requests answered", statistics.request.number)
    page.family("tgi_request_failure", "Requests failed", "counter", [({"err": "overloaded"}, statistics.rejected)])
    page.gauge("tgi_queue_size", "Requests waiting", engine.waiting)
    page.gauge("tgi_batch_current_size", "Requests in the running batch", engine.running)
    page.gauge("tgi_batch_current_max_tokens", "Token budget reserved by the running batch", budget)
    page.histogram("tgi_request_duration", "Seconds end to end", statistics.request)
    page.histogram("tgi_request_mean_time_per_token_duration", "Seconds per token", statistics.between_tokens)
    page.histogram("tgi_request_input_length", "Prompt tokens", statistics.prompt_tokens)
    page.histogram("tgi_request_generated_tokens", "Output tokens", statistics.output_tokens)
    return page.text()
