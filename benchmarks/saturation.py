"""How much of a trace some simulated servers can serve: the same requests as one backlog, in virtual time."""

from collections.abc import Sequence
from typing import Final

from benchmarks.prompts import BLOCK_TOKENS
from benchmarks.quantiles import quantile
from benchmarks.trace_files import TraceRequest
from igw.simulator.engine import Engine
from igw.simulator.replay import TimedRequest, replay
from igw.simulator.sequence import SequenceRequest
from igw.simulator.settings import engine_settings
from igw.simulator.timing import PRESETS

# Between these shares of the backlog the servers are full; before and after they fill and drain.
_FROM: Final = 0.2
_TO: Final = 0.8
_ENGINE_BLOCK_TOKENS: Final = 16


def saturation_rate(requests: Sequence[TraceRequest], *, servers: int, timing: str, time_scale: float) -> float:
    """Return the requests per real second that *servers* complete while all of them are full.

    The requests come all at once and go round the servers; the rate is taken between the first and the last fifth.

    Raises:
        ValueError: There are too few requests to fill the servers.
    """
    preset = PRESETS[timing]
    settings = engine_settings(preset, block_size=_ENGINE_BLOCK_TOKENS)
    engines = [Engine(settings, preset.timing) for _ in range(servers)]
    backlog = [
        TimedRequest(0.0, SequenceRequest(number, r.prompt_tokens, r.output_tokens, block_hashes(r)))
        for number, r in enumerate(requests)
    ]
    records = replay(backlog, engines, lambda timed, _engines: timed.request.sequence_id % servers)
    ends = sorted(r.last_token_seconds for r in records if r.last_token_seconds is not None)
    seconds = quantile(ends, _TO) - quantile(ends, _FROM)
    if not seconds > 0:
        msg = f"{len(requests)} requests are too few to tell what the servers can do"
        raise ValueError(msg)
    return (_TO - _FROM) * len(ends) / seconds * time_scale


def block_hashes(request: TraceRequest) -> tuple[int, ...]:
    """Return the engine's block hashes of a prompt whose blocks are known."""
    per_block = BLOCK_TOKENS // _ENGINE_BLOCK_TOKENS
    count = min(request.prompt_tokens // _ENGINE_BLOCK_TOKENS, len(request.block_ids) * per_block)
    return tuple(request.block_ids[i // per_block] * per_block + i % per_block for i in range(count))
