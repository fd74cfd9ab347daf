"""The model servers we can read: what each calls the facts we need, and where its metrics page is.

One table; the page reader knows no engine by name. Each fact has its sources in order of preference, newest release
first, and the first that is known wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from inference_api.names import ENGINE_LABELS


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one metric name.

    Attributes:
        name: Exact metric name.
        where: Label and value a sample must carry; None: every sample counts.
        label: Label whose text holds the number; empty: the sample's own value.
    """

    name: str
    where: tuple[str, str] | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One number less another, both from the page."""

    minuend: Series
    subtrahend: Series


@dataclass(frozen=True, slots=True)
class Ratio:
    """One number divided by another, both from the page."""

    numerator: Series
    denominator: Series


Source = Series | Difference | Ratio


@dataclass(frozen=True, slots=True)
class LoraSeries:
    """A metric whose samples are states of the adapters, the newest having the greatest value."""

    name: str
    max_label: str
    running_label: str
    waiting_label: str


@dataclass(frozen=True, slots=True)
class Engine:
    """One kind of model server.

    Attributes:
        name: As in `EndpointMetrics.engine`.
        prefix: What every metric name of its own starts with.
        paths: Where its page is, likeliest first.
        waiting: Requests waiting, summed over ranks.
        running: Requests being computed, summed over ranks.
        kv_utilization: KV fraction, the fullest rank counts.
        block_size: Tokens per KV block.
        blocks: KV blocks per rank.
        preemptions: Preempted requests since the start, summed.
        loras: Adapter states, None where adapters are not named.
        model_label: Label with the served model; empty: none.
        copy_labels: Labels that tell apart processes working on the same requests; samples that differ in these only
            are one fact told several times, not parts of a sum.
    """

    name: str
    prefix: str
    paths: tuple[str, ...]
    waiting: tuple[Source, ...]
    running: tuple[Source, ...]
    kv_utilization: tuple[Source, ...] = ()
    block_size: tuple[Source, ...] = ()
    blocks: tuple[Source, ...] = ()
    preemptions: tuple[Source, ...] = ()
    loras: LoraSeries | None = None
    model_label: str = ""
    copy_labels: frozenset[str] = frozenset()

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Every metric name that is read, without repetition."""
        names: dict[str, None] = {}
        for source in (
            *self.waiting,
            *self.running,
            *self.kv_utilization,
            *self.block_size,
            *self.blocks,
            *self.preemptions,
        ):
            match source:
                case Series():
                    names[source.name] = None
                case Difference():
                    names[source.minuend.name] = names[source.subtrahend.name] = None
                case Ratio():
                    names[source.numerator.name] = names[source.denominator.name] = None
        if self.loras:
            names[self.loras.name] = None
        return tuple(names)


DEFAULT_PATHS: Final = ("/metrics", "/prometheus/metrics")
"""Where to look while the engine is unknown."""

_TRITON_REQUESTS: Final = "nv_trt_llm_request_metrics"
_TRITON_BLOCKS: Final = "nv_trt_llm_kv_cache_block_metrics"


def _triton_requests(kind: str) -> Series:
    return Series(_TRITON_REQUESTS, where=("request_type", kind))


def _triton_blocks(kind: str) -> Series:
    return Series(_TRITON_BLOCKS, where=("kv_cache_block_type", kind))


# In the order in which the prefixes are looked for.
ENGINES: Final[Mapping[str, Engine]] = {
    engine.name: engine
    for engine in (
        Engine(
            name="vllm",
            prefix="vllm:",
            paths=("/metrics",),
            waiting=(Series("vllm:num_requests_waiting"),),
            running=(Series("vllm:num_requests_running"),),
            kv_utilization=(Series("vllm:kv_cache_usage_perc"), Series("vllm:gpu_cache_usage_perc")),
            block_size=(Series("vllm:cache_config_info", label="block_size"),),
            blocks=(Series("vllm:cache_config_info", label="num_gpu_blocks"),),
            preemptions=(Series("vllm:num_preemptions_total"), Series("vllm:num_preemptions")),
            loras=LoraSeries("vllm:lora_requests_info", "max_lora", "running_lora_adapters", "waiting_lora_adapters"),
            model_label="model_name",
        ),
        Engine(
            name="sglang",
            prefix="sglang:",
            paths=("/metrics",),
            waiting=(Series("sglang:num_queue_reqs"),),
            running=(Series("sglang:num_running_reqs"),),
            kv_utilization=(Series("sglang:token_usage"),),
            block_size=(Series("sglang:page_size"), Series("sglang:cache_config_info", label="page_size")),
            blocks=(Series("sglang:num_pages"), Series("sglang:cache_config_info", label="num_pages")),
            model_label="model_name",
            copy_labels=frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid"}),
        ),
        Engine(
            name="tgi",
            prefix="tgi_",
            paths=("/metrics",),
            waiting=(Series("tgi_queue_size"),),
            running=(Series("tgi_batch_current_size"),),
        ),
        Engine(
            name="triton-trtllm",
            prefix="nv_trt_llm_",
            paths=("/metrics",),
            waiting=(
                _triton_requests("waiting"),
                Difference(_triton_requests("active"), _triton_requests("scheduled")),
            ),
            running=(_triton_requests("scheduled"),),
            kv_utilization=(
                _triton_blocks("fraction"),
                Ratio(_triton_blocks("used"), _triton_blocks("max")),
            ),
            block_size=(_triton_blocks("tokens_per"),),
            blocks=(_triton_blocks("max"),),
        ),
        Engine(
            name="trtllm-serve",
            prefix="trtllm_",
            paths=("/prometheus/metrics", "/metrics"),
            waiting=(Series("trtllm_num_requests_waiting"),),
            running=(Series("trtllm_num_requests_running"),),
            kv_utilization=(Series("trtllm_kv_cache_utilization"),),
            block_size=(Series("trtllm_kv_cache_tokens_per_block"),),
            blocks=(Series("trtllm_kv_cache_max_blocks"),),
            model_label="model_name",
        ),
        Engine(
            name="llamacpp",
            prefix="llamacpp:",
            paths=("/metrics",),
            waiting=(Series("llamacpp:requests_deferred"),),
            running=(Series("llamacpp:requests_processing"),),
            kv_utilization=(Series("llamacpp:kv_cache_usage_ratio"),),
        ),
    )
}

_OTHER_SPELLINGS: Final = {
    "triton-tensorrt-llm": "triton-trtllm",
    "tensorrt-llm": "trtllm-serve",
    "trtllm": "trtllm-serve",
    "llama.cpp": "llamacpp",
    "llama-cpp": "llamacpp",
}


def engine_of_labels(labels: Mapping[str, str]) -> str:
    """Return the engine an endpoint's labels or annotations name, empty if none or not one we know."""
    for label in ENGINE_LABELS:
        value = labels.get(label, "").strip().lower()
        name = _OTHER_SPELLINGS.get(value, value)
        if name in ENGINES:
            return name
    return ""


def metrics_paths(engine: str, *, path: str = "") -> tuple[str, ...]:
    """Return where to look for the page, in order: the *path* given, else by *engine*, else the usual ones."""
    if path:
        return (path,)
    known = ENGINES.get(engine)
    return known.paths if known else DEFAULT_PATHS
