"""How long one step of a model server takes, given what is batched in it.

Two shapes are known: a roofline-like sum whose constants were measured on GPUs (`LinearTiming`) and the polynomial of
another project's mock engine (`PolynomialTiming`), which lets our replays be checked against that project's results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class StepLoad:
    """What one step computes.

    Attributes:
        prefill_tokens: New tokens of sequences that have not produced a token from them yet.
        prefill_context: Sum over those tokens of the tokens they attend to.
        decode_sequences: Sequences that compute exactly one generated token.
        decode_context: Sum over those sequences of the tokens they attend to.
        sequences: All sequences in the step.
        kv_fraction: Share of the KV blocks that sequences hold, 0 to 1.
    """

    prefill_tokens: int
    prefill_context: int
    decode_sequences: int
    decode_context: int
    sequences: int
    kv_fraction: float


class StepTiming(Protocol):
    """Turns a step's load into its duration."""

    def seconds(self, load: StepLoad) -> float:
        """Return the duration of a step in seconds; positive."""
        ...


@dataclass(frozen=True, slots=True)
class LinearTiming:
    """Step time that is flat while the weights bound it, then linear in tokens and in the context they read.

    Attributes:
        base_seconds: Weights, launches and scheduler.
        token_seconds: Per batched token beyond `free_tokens`.
        decode_context_seconds: Per token of KV that decodes read.
        prefill_context_seconds: Per pair of prefill token and token it attends to.
        sequence_seconds: Per sequence.
        free_tokens: Tokens that ride along with the reading of the weights.
    """

    base_seconds: float
    token_seconds: float
    decode_context_seconds: float
    prefill_context_seconds: float
    sequence_seconds: float
    free_tokens: int = 150

    def seconds(self, load: StepLoad) -> float:
        """Return the duration of a step in seconds."""
        batched = load.prefill_tokens + load.decode_sequences
        return (
            self.base_seconds
            + self.token_seconds * max(0, batched - self.free_tokens)
            + self.decode_context_seconds * load.decode_context
            + self.prefill_context_seconds * load.prefill_context
            + self.sequence_seconds * load.sequences
        )


@dataclass(frozen=True, slots=True)
class PolynomialTiming:
    """Step time of Dynamo's mock engine: a part for prefill tokens and a part for decodes under KV load.

    Attributes:
        speedup: Divides the whole step.
        decode_speedup: Divides the decode part once more.

    Source: fitted to the offline replay of ai-dynamo-runtime 1.6.1, error below 0.01 ms.
    """

    speedup: float = 1.0
    decode_speedup: float = 1.0

    def __post_init__(self) -> None:
        if self.speedup <= 0 or self.decode_speedup <= 0:
            msg = f"speed-ups must be positive, got {self.speedup} and {self.decode_speedup}"
            raise ValueError(msg)

    def seconds(self, load: StepLoad) -> float:
        """Return the duration of a step in seconds."""
        milliseconds = 0.0
        if tokens := load.prefill_tokens:
            milliseconds = 16.50 + 0.01518 * tokens + 4.211e-7 * tokens * tokens
        if load.decode_sequences:
            fraction = load.kv_fraction
            milliseconds += (5.74 + 54.0 * fraction - 25.7 * fraction * fraction) / self.decode_speedup
        return max(milliseconds, 0.001) / self.speedup / 1000.0


@dataclass(frozen=True, slots=True)
class TimingPreset:
    """One kind of model server: its step time and the sizes that go with it.

    Attributes:
        timing: Step time.
        num_blocks: KV blocks of 16 tokens.
        max_num_batched_tokens: Token budget of a step.
        max_num_seqs: Most sequences in a step.
        request_overhead_seconds: Time between the arrival of a request and its place in the queue.
    """

    timing: StepTiming
    num_blocks: int
    max_num_batched_tokens: int
    max_num_seqs: int
    request_overhead_seconds: float = 0.0


# Llama-3.1-8B in bf16, estimated from measured operators and attention costs: trust them to about 30 %.
_H100_8B: Final = LinearTiming(7.7e-3, 34e-6, 0.065e-6, 1.2e-9, 4.4e-6)
_A100_8B: Final = LinearTiming(11e-3, 75e-6, 0.10e-6, 3.8e-9, 5e-6)
_A100_40_8B: Final = LinearTiming(11e-3, 75e-6, 0.12e-6, 3.8e-9, 5e-6)
# Ten times an H100, for demonstrations and tests: the same shape, an answer in a blink.
_FAST: Final = LinearTiming(0.8e-3, 3.4e-6, 0.0065e-6, 1.2e-10, 0.5e-6)

PRESETS: Final[Mapping[str, TimingPreset]] = {
    "h100-8b": TimingPreset(_H100_8B, 26_800, 8192, 1024, request_overhead_seconds=0.015),
    "a100-8b": TimingPreset(_A100_8B, 26_800, 2048, 256, request_overhead_seconds=0.015),
    "a100-40-8b": TimingPreset(_A100_40_8B, 8_900, 2048, 256, request_overhead_seconds=0.015),
    "dynamo": TimingPreset(PolynomialTiming(), 26_800, 8192, 256),
    "fast": TimingPreset(_FAST, 26_800, 8192, 256),
}
"""Presets by the name that the command line knows."""
