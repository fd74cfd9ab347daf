"""What simulated servers counted, from their metrics pages."""

import asyncio
from dataclasses import dataclass

import aiohttp

from benchmarks.processes import ModelServers

_PAGE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ServerCounts:
    """Totals of one server since its start."""

    requests: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    preemptions: int


async def read_counts(servers: ModelServers) -> list[ServerCounts]:
    """Return the totals of every server, in their order."""
    async with asyncio.timeout(_PAGE_SECONDS), aiohttp.ClientSession() as session:
        pages = []
        for address in servers.addresses:
            async with session.get(f"{address.url}/metrics") as response:
                pages.append(await response.text())
    return [counts_of(page) for page in pages]


def counts_of(page: str) -> ServerCounts:
    """Return the totals on one page; what it does not have counts as 0."""

    def total(name: str) -> int:
        lines = (line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return round(sum(float(line.rpartition(" ")[2]) for line in lines))

    return ServerCounts(
        requests=total("vllm:request_success_total"),
        prompt_tokens=total("vllm:prompt_tokens_total"),
        output_tokens=total("vllm:generation_tokens_total"),
        cached_tokens=total("vllm:prefix_cache_hits_total"),
        preemptions=total("vllm:num_preemptions_total"),
    )
