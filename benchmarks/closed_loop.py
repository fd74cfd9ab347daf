"""Load from a fixed number of clients that each send the next request when the last one was answered."""

import asyncio
import time
from itertools import islice

from benchmarks.client import Exchange
from benchmarks.lean_client import LeanClient
from benchmarks.workloads import Workload


async def closed_loop(
    client: LeanClient,
    workload: Workload,
    *,
    concurrency: int,
    requests: int | None = None,
    seconds: float | None = None,
    first: int = 0,
    spread_seconds: float = 0.0,
) -> list[Exchange]:
    """Send *workload* with *concurrency* clients and return when every answer has been read to its end.

    Args:
        client: Connections to the gateway.
        workload: What is asked.
        concurrency: Clients.
        requests: How many requests all of them send; None: no such end.
        seconds: For how long new requests are sent; None: no such end.
        first: Number of the first request; texts follow from numbers.
        spread_seconds: Over how long the clients begin, one after the other; at once, those whose answers take equally
            long stay in step for ever and every request meets a crowd.
    """
    exchanges: list[Exchange] = []
    end = float("inf") if seconds is None else time.perf_counter() + seconds
    bodies = islice(workload.bodies(first), requests)
    streaming = workload.events > 0

    async def one_client(number: int) -> None:
        await asyncio.sleep(spread_seconds * number / concurrency)
        for body in bodies:
            exchanges.append(await client.chat(body, streaming=streaming))
            if time.perf_counter() >= end:
                return

    async with asyncio.TaskGroup() as group:
        for number in range(concurrency):
            group.create_task(one_client(number))
    return exchanges
