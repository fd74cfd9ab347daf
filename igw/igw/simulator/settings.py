"""What a simulated model server is told at its start."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from igw.simulator.engine_settings import EngineSettings
from igw.simulator.faults import FaultPlan
from igw.simulator.timing import PRESETS, TimingPreset


class ServerKind(StrEnum):
    """Whose metrics and load pages are imitated."""

    VLLM = "vllm"
    SGLANG = "sglang"
    TGI = "tgi"

    @property
    def brand(self) -> str:
        """The name as its makers write it."""
        return {"vllm": "vLLM", "sglang": "SGLang", "tgi": "TGI"}[self.value]


def engine_settings(preset: TimingPreset, *, block_size: int = 16) -> EngineSettings:
    """Return the sizes that belong to a timing preset, the same KV memory whatever the block size."""
    return EngineSettings(
        max_num_seqs=preset.max_num_seqs,
        max_num_batched_tokens=preset.max_num_batched_tokens,
        num_blocks=max(2, preset.num_blocks * 16 // block_size),
        block_size=block_size,
    )


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """One simulated model server; ValueError where a part makes no sense.

    Attributes:
        name: Sent as ``x-simulated-server`` with every answer, and nowhere else.
        host: Address to listen on.
        port: 0: any free port.
        models: Names the base model is served under; the first is the one it answers to without a name.
        adapters: LoRA adapters that are registered from the start.
        kind: Whose metrics are imitated.
        timing: Name of a timing preset.
        engine: Sizes and rules; None: those of the preset.
        max_model_len: Most tokens of prompt and answer together; None: 32,768 or what the KV cache holds.
        answer_tokens: Around how many tokens an answer ends by itself (half to one and a half of it).
        time_scale: How many simulated seconds pass in one real second.
        api_key: Bearer token asked for on ``/v1/*``; empty: none. Never logged.
        tls_certificate: PEM chain; None: plain HTTP.
        tls_key: PEM key of it.
        faults: Faults from the start.
    """

    name: str = "simulated-0"
    host: str = "127.0.0.1"
    port: int = 0
    models: tuple[str, ...] = ("simulated-model",)
    adapters: tuple[str, ...] = ()
    kind: ServerKind = ServerKind.VLLM
    timing: str = "fast"
    engine: EngineSettings | None = None
    max_model_len: int | None = None
    answer_tokens: int = 256
    time_scale: float = 1.0
    api_key: str = field(default="", repr=False)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    faults: FaultPlan = field(default_factory=FaultPlan)

    def __post_init__(self) -> None:
        if self.timing not in PRESETS:
            msg = f"unknown timing {self.timing!r}; known: {', '.join(PRESETS)}"
            raise ValueError(msg)
        if not self.models or not all(self.models):
            msg = "a server needs at least one model name, and none may be empty"
            raise ValueError(msg)
        if not (math.isfinite(self.time_scale) and self.time_scale > 0):
            msg = f"time_scale must be positive, got {self.time_scale}"
            raise ValueError(msg)
        if self.answer_tokens < 1:
            msg = f"answer_tokens must be positive, got {self.answer_tokens}"
            raise ValueError(msg)
        if self.tls_key is not None and self.tls_certificate is None:
            msg = "a TLS key needs its certificate"
            raise ValueError(msg)
        capacity = self.engine_sizes.capacity_tokens
        if self.max_model_len is not None and not 2 <= self.max_model_len <= capacity:
            msg = f"max_model_len must be between 2 and the {capacity} tokens of the KV cache, got {self.max_model_len}"
            raise ValueError(msg)

    @property
    def preset(self) -> TimingPreset:
        """The timing preset."""
        return PRESETS[self.timing]

    @property
    def engine_sizes(self) -> EngineSettings:
        """Sizes and rules that apply."""
        return self.engine or engine_settings(self.preset)

    @property
    def context_tokens(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.max_model_len or min(32_768, self.engine_sizes.capacity_tokens)
