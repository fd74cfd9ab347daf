"""Whatever a metrics page does, its server is used, the pages of the others stay fresh, and the picker stays small.

All faulty servers stand in one pool beside a sound one. Each of them answers chats like any other.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from integration.faulty_servers import (
    IDLE_PAGE,
    FaultyServer,
    Script,
    answers,
    chunk,
    faulty_server,
    hangs_after,
    head,
    json_head,
    page,
    plays,
    repeats,
)
from integration.resources import inference_model, pool_with
from integration.standalone import StandaloneGateway, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

BOMB = gzip.compress(b"vllm:num_requests_waiting 1\n" * 10_000_000, compresslevel=1)
"""280 MB in 1.2 MB."""
SERIES = "".join(f'vllm:num_requests_waiting{{engine="{i}"}} 1\n' for i in range(100_000))
OTHER_SERIES = IDLE_PAGE + "".join(f'vllm:x{{a="{i}"}} 1\n' for i in range(100_000))
CHUNKED = head("content-type: text/plain", "transfer-encoding: chunked")

FAULTS: Mapping[str, tuple[Script, str]] = {
    "garbage": (page(bytes(range(256)) * 400), "unrecognised"),
    "json": (page("[{}]"), "unrecognised"),
    "renamed": (page("vllm:renamed 3\n"), "no_load_metrics"),
    "not-finite": (page("vllm:num_requests_waiting NaN\nvllm:kv_cache_usage_perc +Inf\n"), "no_load_metrics"),
    "negative": (page("vllm:num_requests_waiting -1\nvllm:num_requests_running -2\n"), "no_load_metrics"),
    "100000-series": (page(SERIES), "too_large"),
    "absent": (answers(head("content-length: 0", status="404 Not Found")), "status"),
    "gigabyte-by-its-length": (repeats(head("content-length: 1073741824"), b"#" * 65_536), "too_large"),
    "gigabyte-in-chunks": (repeats(CHUNKED, chunk(b"#" * 65_535 + b"\n")), "too_large"),
    "gzip-bomb": (page(BOMB, "content-encoding: gzip"), "too_large"),
    "gzip-that-is-none": (page(IDLE_PAGE, "content-encoding: gzip"), "encoding"),
    "brotli": (page(IDLE_PAGE, "content-encoding: br"), "encoding"),
    "cut": (plays(head("content-length: 1000") + IDLE_PAGE.encode()), "malformed"),
    "no-http": (plays(b"SSH-2.0-OpenSSH_9.6\r\n"), "malformed"),
    "header-without-end": (repeats(b"HTTP/1.1 200 OK\r\nx: ", b"a" * 65_536), "malformed"),
    "headers-without-end": (repeats(b"HTTP/1.1 200 OK\r\n", b"x: a\r\n" * 1000), "malformed"),
    "drips": (repeats(head("content-length: 1000000"), b"v", pause=0.05), "slow"),
    "stops": (hangs_after(head("content-length: 1000000")), "slow"),
    "silent": (hangs_after(), "timeout"),
    "interim-answers": (repeats(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.001), "timeout"),
    "other-series": (page(OTHER_SERIES), ""),
}
"""Pages and the reason that the metrics of the gateway give; a page without reason is read."""


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    servers: Mapping[str, FaultyServer]
    sound: FaultyServer

    async def endpoint(self, server: FaultyServer) -> dict[str, Any]:
        """What the picker believes of a server."""
        pools = (await self.gateway.debug_state())["pools"]
        return dict(next(e for p in pools for e in p["endpoints"] if e["address"] == f"127.0.0.1:{server.port}"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    chats = answers(json_head(2) + b"{}")
    async with AsyncExitStack() as stack:
        elsewhere = await stack.enter_async_context(faulty_server(chats))
        away = head(f"location: http://127.0.0.1:{elsewhere.port}/metrics", "content-length: 0", status="302 Found")
        faults = {**FAULTS, "redirect": (answers(away), "status")}
        servers = {
            name: await stack.enter_async_context(faulty_server(chats, metrics=script))
            for name, (script, _) in faults.items()
        }
        sound = await stack.enter_async_context(faulty_server(chats))
        ports = [server.port for server in (*servers.values(), sound)]
        gateway = StandaloneGateway([*pool_with("pool", ports), inference_model("model", pool="pool")])
        await stack.enter_async_context(gateway)
        yield Site(gateway, {**servers, "elsewhere": elsewhere}, sound)
        await gateway.quiet()


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (_, reason) in FAULTS.items()])
async def test_the_reason_is_counted_and_the_server_stays_in_use(site: Site, name: str, reason: str) -> None:
    server = site.servers[name]
    address = f"127.0.0.1:{server.port}"

    async def tells() -> bool:
        if not reason:
            return (await site.endpoint(server))["metrics"] is not None
        return await site.gateway.metric("inference_gateway_scrape_errors_total", endpoint=address, reason=reason) >= 1

    await eventually(tells)
    endpoint = await site.endpoint(server)
    assert (endpoint["metrics"] is None) == bool(reason)
    assert endpoint["healthy"] or reason == "timeout"


async def test_a_redirect_leads_the_picker_nowhere(site: Site) -> None:
    address = f"127.0.0.1:{site.servers['redirect'].port}"

    async def counted() -> bool:
        return (
            await site.gateway.metric("inference_gateway_scrape_errors_total", endpoint=address, reason="status")
        ) >= 1

    await eventually(counted)
    assert site.servers["elsewhere"].pages_asked == 0


async def test_others_stay_fresh_and_requests_are_served_while_all_pages_misbehave(site: Site) -> None:
    async def all_were_asked() -> bool:
        return all(server.pages_asked for name, server in site.servers.items() if name != "elsewhere")

    await eventually(all_were_asked)
    before = {name: server.pages_asked for name, server in site.servers.items()}
    fresh, largest = [], 0
    for _ in range(30):
        assert (await site.gateway.chat("model")).status == 200
        metrics = (await site.endpoint(site.sound))["metrics"]
        fresh.append(metrics is not None and metrics["age_seconds"] < 5)
        largest = max(largest, site.gateway.resident_bytes("picker"))
        await asyncio.sleep(0.1)
    assert all(fresh)
    assert largest < 200_000_000
    # what fails is asked less often: a try every five seconds in the end
    asked = {name: server.pages_asked - before[name] for name, server in site.servers.items() if name in FAULTS}
    assert max(count for name, count in asked.items() if FAULTS[name][1]) <= 6, asked


async def test_every_server_whose_page_answers_at_all_gets_requests(site: Site) -> None:
    answering = [site.servers[name] for name, (_, reason) in FAULTS.items() if reason != "timeout"]

    async def all_served() -> bool:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(site.gateway.chat("model"))
        return all(server.bodies for server in answering)

    await eventually(all_served)
