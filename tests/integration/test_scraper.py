"""The scraper reads live pages: each endpoint on its own, within time and size, and says when it knows nothing."""

import asyncio
import gzip
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from endpoint_picker.datalayer import endpoint_page
from endpoint_picker.datalayer.endpoint_page import PageProblem, PageTarget
from endpoint_picker.datalayer.scraper import MetricsScraper, ScrapeIntervals
from endpoint_picker.datalayer.served_models import ServedModels
from endpoint_picker.domain.endpoint import EndpointMetrics
from inference_resolution.resolved import ModelServerTls

PAGE = (Path(__file__).parents[1] / "data" / "metrics" / "vllm_real.prom").read_bytes()
IDLE_PAGE = b"vllm:num_requests_waiting 0\nvllm:num_requests_running 0\nvllm:kv_cache_usage_perc 0\n"
FAST = ScrapeIntervals(busy=0.02, idle=0.05, longest=0.2, shortest_timeout=0.1)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """Serve every path with *handler* on loopback; give the address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


def answer(body: bytes, status: int = 200, **headers: str) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers=names)

    return handle


async def silence(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise web.HTTPGone


def begun(body: bytes, *, leaves: bool = False) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(body)
        if leaves:
            assert request.transport is not None
            request.transport.close()
        return await silence(request)

    return handle


class Observed:
    """A scraper and what it told."""

    def __init__(self, intervals: ScrapeIntervals = FAST, *, reading_seconds: float = 0.0) -> None:
        self.readings: dict[str, list[EndpointMetrics | None]] = {}
        self.problems: list[PageProblem] = []
        self.in_flight: Counter[str] = Counter()
        self.scraper = MetricsScraper(
            publish=lambda address, metrics: self.readings.setdefault(address, []).append(metrics),
            in_flight=lambda address: self.in_flight[address],
            failed=lambda address, problem: self.problems.append(problem),
            clock=time.monotonic,
            rng=random.Random(7),
            intervals=intervals,
            cpu_clock=itertools.count(step=reading_seconds).__next__ if reading_seconds else lambda: 0.0,
        )

    @asynccontextmanager
    async def running(self, *targets: PageTarget) -> AsyncIterator[None]:
        self.scraper.set_targets(targets)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.scraper.run())
            try:
                yield
            finally:
                task.cancel()

    def last(self, address: str) -> EndpointMetrics | None:
        return self.readings[address][-1]


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in callbacks of many kinds
            await asyncio.sleep(0.005)


def target(address: str, *paths: str, **more: str) -> PageTarget:
    return PageTarget(address, f"http://{address}", paths or ("/metrics",), **more)


async def test_page_is_read_with_the_in_flight_count_of_the_moment_it_was_asked_for() -> None:
    observed = Observed()

    async def handle(request: web.Request) -> web.Response:
        observed.in_flight[address] = 9
        return web.Response(body=PAGE)

    async with served(handle) as address:
        observed.in_flight[address] = 4
        async with observed.running(target(address)):
            await until(lambda: observed.readings.get(address))
    first = observed.readings[address][0]
    assert first is not None
    assert (first.waiting_queue_size, first.running_requests, first.in_flight_when_read) == (22, 8, 4)
    assert time.monotonic() - first.read_at < 5


async def test_connection_is_kept_alive_and_asked_once_at_a_time() -> None:
    peers: Counter[object] = Counter()
    now: set[str] = set()

    async def handle(request: web.Request) -> web.Response:
        assert not now
        now.add("one")
        peers[request.transport and request.transport.get_extra_info("peername")] += 1
        await asyncio.sleep(0.01)
        now.clear()
        return web.Response(body=PAGE)

    observed = Observed()
    async with served(handle) as address, observed.running(target(address)):
        await until(lambda: peers.total() >= 10)
    assert len(peers) == 1
    assert observed.problems == []


async def test_endpoint_that_never_answers_does_not_delay_the_others() -> None:
    observed = Observed()
    async with (
        served(silence) as dead,
        served(answer(PAGE)) as alive,
        observed.running(*(target(address) for address in (dead, alive))),
    ):
        await until(lambda: len(observed.readings.get(alive, ())) >= 10 and PageProblem.TIMEOUT in observed.problems)
    assert dead not in observed.readings


async def test_reading_becomes_unknown_when_the_endpoint_falls_silent_and_returns_with_it() -> None:
    healthy = True

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(body=PAGE) if healthy else await silence(request)

    observed = Observed()
    async with served(handle) as address, observed.running(target(address)):
        await until(lambda: observed.readings.get(address))
        healthy = False
        await until(lambda: observed.last(address) is None)
        before = len(observed.readings[address])
        await asyncio.sleep(0.5)
        assert len(observed.readings[address]) == before, "stale is told once"
        healthy = True
        await until(lambda: observed.last(address) is not None)


async def test_one_slow_page_leaves_the_last_reading_in_force() -> None:
    asked = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await silence(request) if asked == 3 else web.Response(body=IDLE_PAGE)

    observed = Observed(ScrapeIntervals(busy=0.1, idle=0.1, longest=0.2, shortest_timeout=0.1))
    async with served(handle) as address, observed.running(target(address)):
        await until(lambda: asked >= 6)
    assert observed.problems == [PageProblem.TIMEOUT]
    assert None not in observed.readings[address]


async def test_busy_endpoint_is_read_more_often_than_an_idle_one() -> None:
    observed = Observed(ScrapeIntervals(busy=0.02, idle=0.3, longest=0.5))
    async with served(answer(PAGE)) as busy, served(answer(IDLE_PAGE)) as idle, served(answer(IDLE_PAGE)) as ours:
        observed.in_flight[ours] = 1
        async with observed.running(*(target(address) for address in (busy, idle, ours))):
            await asyncio.sleep(1.0)
    counts = {address: len(readings) for address, readings in observed.readings.items()}
    assert counts[busy] > 2 * counts[idle]
    assert counts[ours] > 2 * counts[idle]


async def test_page_that_is_costly_to_read_is_read_less_often() -> None:
    costly, usual = Observed(reading_seconds=0.008), Observed()
    async with (
        served(answer(PAGE)) as one,
        served(answer(PAGE)) as other,
        costly.running(target(one)),
        usual.running(target(other)),
    ):
        await asyncio.sleep(1.0)
    assert len(usual.readings[other]) > 2 * len(costly.readings[one]) > 0
    assert None not in costly.readings[one]


async def test_second_path_is_found_and_remembered() -> None:
    paths: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        paths.append(request.path)
        body = PAGE.replace(b"vllm:num_requests_", b"trtllm_num_requests_") if "prometheus" in request.path else b"[{}]"
        return web.Response(body=body)

    observed = Observed()
    async with (
        served(handle) as address,
        observed.running(target(address, "/metrics", "/prometheus/metrics", engine="trtllm-serve")),
    ):
        await until(lambda: len(observed.readings.get(address, ())) >= 3)
    assert paths[:4] == ["/metrics", "/prometheus/metrics", "/prometheus/metrics", "/prometheus/metrics"]


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        pytest.param(answer(b"no", status=404), PageProblem.STATUS, id="status"),
        pytest.param(answer(b"", status=302, location="/metrics"), PageProblem.STATUS, id="redirect"),
        pytest.param(answer(b"[{}]"), PageProblem.UNRECOGNISED, id="json"),
        pytest.param(answer(b"vllm:renamed 3\n"), PageProblem.NO_LOAD_METRICS, id="renamed"),
        pytest.param(answer(b"x" * 70_000), PageProblem.TOO_LARGE, id="too-large"),
        pytest.param(answer(gzip.compress(b"x" * 70_000), content_encoding="gzip"), PageProblem.TOO_LARGE, id="bomb"),
        pytest.param(answer(b"nonsense", content_encoding="gzip"), PageProblem.ENCODING, id="not-gzip"),
        pytest.param(answer(gzip.compress(PAGE)[:-20], content_encoding="gzip"), PageProblem.ENCODING, id="cut-gzip"),
        pytest.param(answer(PAGE, content_encoding="br"), PageProblem.ENCODING, id="unknown-encoding"),
        pytest.param(silence, PageProblem.TIMEOUT, id="silence"),
        pytest.param(begun(b"vllm:"), PageProblem.SLOW, id="body-without-end"),
        pytest.param(begun(b"vllm:", leaves=True), PageProblem.MALFORMED, id="body-cut"),
    ],
)
async def test_problem_is_reported(handler: Handler, problem: PageProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    observed = Observed()
    observed.scraper._fetcher = endpoint_page.PageFetcher(max_bytes=65_536)
    async with served(handler) as address, observed.running(target(address)):
        await until(lambda: observed.problems)
    assert observed.problems[0] is problem
    assert observed.readings == {}


async def test_stream_without_end_is_cut_at_the_size_limit() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    observed = Observed(ScrapeIntervals(shortest_timeout=30.0))
    async with served(handle) as address, observed.running(target(address)):
        await until(lambda: observed.problems, seconds=20)
    assert observed.problems[0] is PageProblem.TOO_LARGE


async def test_closed_port_and_plain_text_behind_https_are_told_apart() -> None:
    observed = Observed()
    async with served(answer(PAGE)) as address:
        https = PageTarget(address, f"https://{address}")
        async with observed.running(https):
            await until(lambda: observed.problems)
    assert observed.problems[0] is PageProblem.TLS
    observed = Observed()
    async with observed.running(target(address)):
        await until(lambda: observed.problems)
    assert observed.problems[0] is PageProblem.UNREACHABLE


@pytest.mark.parametrize("bundle", ["no certificate", "kein Zertifikat für Müller"], ids=["ascii", "not-ascii"])
async def test_unusable_authority_bundle_is_reported(bundle: str) -> None:
    observed = Observed()
    tls = ModelServerTls(verify=True, ca_pem=bundle)
    async with observed.running(PageTarget("127.0.0.1:1", "https://127.0.0.1:1", tls=tls)):
        await until(lambda: observed.problems)
    assert observed.problems[0] is PageProblem.TLS


async def test_compressed_page_is_read_and_the_credential_sent() -> None:
    async def handle(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer key"
        return web.Response(body=gzip.compress(PAGE), headers={"Content-Encoding": "gzip"})

    observed = Observed()
    async with served(handle) as address, observed.running(target(address, api_key="key")):
        await until(lambda: observed.readings.get(address))
    assert observed.problems == []


async def test_targets_may_change_fifty_times_a_second() -> None:
    observed = Observed()
    async with served(answer(PAGE)) as stable, served(answer(PAGE)) as changing, observed.running(target(stable)):
        await until(lambda: observed.readings.get(stable))
        before = len(observed.readings[stable])
        for change in range(50):
            observed.scraper.set_targets([target(stable), *([target(changing)] if change % 2 else [])])
            await asyncio.sleep(0.02)
        assert len(observed.readings[stable]) - before > 10, "an endpoint that stays is not started anew"
        observed.scraper.set_targets([target(changing)])
        gone = len(observed.readings[stable])
        await until(lambda: observed.readings.get(changing))
        assert len(observed.readings[stable]) == gone
    assert observed.problems == []


async def test_model_lists_are_polled_and_the_last_good_one_kept() -> None:
    body = b'{"data":[{"id":"a"},{"id":"b"}]}'

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=body)

    changes: list[int] = []
    models = ServedModels(rng=random.Random(7), changed=lambda: changes.append(1), interval_seconds=0.02)
    async with served(handle) as address, asyncio.TaskGroup() as group:
        task = group.create_task(models.run())
        models.set_targets([target(address, "/v1/models")])
        await until(lambda: models.lists == {address: ("a", "b")})
        body = b"garbage"
        await asyncio.sleep(0.2)
        assert models.lists == {address: ("a", "b")}
        body = b'{"data":[{"id":"c"}]}'
        await until(lambda: models.lists == {address: ("c",)})
        models.set_targets([])
        assert models.lists == {}
        task.cancel()
    assert len(changes) == 3
