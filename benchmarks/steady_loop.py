"""Load that comes at a steady mean rate at random moments, whether or not earlier requests have been answered."""

import asyncio
import random
import time
from itertools import islice

from benchmarks.client import Exchange
from benchmarks.lean_client import LeanClient
from benchmarks.workloads import Workload


async def steady_loop(
    client: LeanClient, workload: Workload, *, rate: float, requests: int, first: int = 0, seed: int = 1
) -> list[Exchange]:
    """Send *requests* of *workload*, *rate* per second on average, and return when every answer has been read.

    Gaps are exponential, as between many independent clients, and the same for the same *seed*.
    """
    source = random.Random(seed)
    streaming = workload.events > 0
    due = time.perf_counter()
    tasks = []
    async with asyncio.TaskGroup() as group:
        for body in islice(workload.bodies(first), requests):
            due += source.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(group.create_task(client.chat(body, streaming=streaming)))
    return [task.result() for task in tasks]
