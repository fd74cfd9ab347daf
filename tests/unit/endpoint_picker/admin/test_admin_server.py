"""The picker's pages: alive at once, ready when requests can be decided, and a state that is always JSON."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from endpoint_picker.admin.access import AdminAccess
from endpoint_picker.admin.server import AdminServer
from endpoint_picker.admin.state import DebugState
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import EndpointMetrics
from endpoint_picker.domain.usage import Usage
from endpoint_picker.telemetry.exposition import Page
from endpoint_picker.telemetry.metrics import PickerMetrics
from endpoint_picker.telemetry.observer import PickerObserver
from inference_resolution.resolved import ObjectKey, Verdict
from picker_world import POOL, World, endpoint_at, entry_to, model_of, pool_of, resolution_of

ADDRESS = endpoint_at(1).address


class Pages:
    def __init__(self) -> None:
        self.reason = "not yet"
        self.envoy: bytes | None = None
        self.port = 0


@pytest.fixture
async def pages(unused_port: int) -> AsyncIterator[Pages]:
    found = Pages()
    found.port = unused_port

    async def envoy_metrics() -> bytes | None:
        return found.envoy

    async with AdminServer(
        "127.0.0.1",
        unused_port,
        access=AdminAccess("127.0.0.1"),
        ready=lambda: found.reason,
        metrics=lambda accept: Page(f"a_total 1 {accept}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"),
        envoy_metrics=envoy_metrics,
        state=lambda: {"models": ["é"]},
    ):
        yield found


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


async def get(pages: Pages, path: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{pages.port}{path}") as response:
        return response.status, response.content_type, await response.text()


async def test_the_pages(pages: Pages) -> None:
    assert await get(pages, "/livez") == (200, "text/plain", "ok\n")
    assert await get(pages, "/readyz") == (503, "text/plain", "not yet\n")
    pages.reason = ""
    assert await get(pages, "/readyz") == (200, "text/plain", "ok\n")
    assert await get(pages, "/metrics") == (200, "text/plain", "a_total 1 */*\n")
    status, kind, text = await get(pages, "/debug/state")
    assert (status, kind, json.loads(text)) == (200, "application/json", {"models": ["é"]})
    assert (await get(pages, "/other"))[0] == 404


async def test_envoys_own_metrics_are_passed_on(pages: Pages) -> None:
    assert await get(pages, "/metrics/envoy") == (503, "text/plain", "Envoy does not answer\n")
    pages.envoy = b"envoy_server_live 1\n"
    assert await get(pages, "/metrics/envoy") == (200, "text/plain", "envoy_server_live 1\n")


async def test_a_foreign_page_learns_nothing(pages: Pages) -> None:
    url = f"http://127.0.0.1:{pages.port}"
    async with aiohttp.ClientSession(headers={"Host": "evil.example", "Origin": "http://evil.example"}) as session:
        async with session.get(f"{url}/debug/state") as response:
            assert response.status == 403
            assert not [name for name in response.headers if name.lower().startswith("access-control")]
        async with session.get(f"{url}/livez") as response:
            assert response.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_pages_are_read_only(pages: Pages, method: str) -> None:
    url = f"http://127.0.0.1:{pages.port}/debug/state"
    async with aiohttp.ClientSession() as session, session.request(method, url, data=b"x" * 100_000) as response:
        assert response.status == 405


async def test_pages_are_not_kept_by_caches_nor_guessed_at(pages: Pages) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{pages.port}/metrics") as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_idle_connections_keep_nobody_out(pages: Pages) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", pages.port) for _ in range(140)]
    try:
        assert (await get(pages, "/livez"))[0] == 200
        async with asyncio.timeout(5):
            assert await idle[0][0].read() == b""  # the oldest made room
        assert not idle[-1][0].at_eof()
    finally:
        for _, writer in idle:
            writer.close()


async def _nothing() -> bytes | None:
    return None


async def test_a_taken_address_is_an_error(pages: Pages) -> None:
    second = AdminServer(
        "127.0.0.1",
        pages.port,
        access=AdminAccess("127.0.0.1"),
        ready=str,
        metrics=lambda _: Page(b"", ""),
        envoy_metrics=_nothing,
        state=dict,
    )
    with pytest.raises(OSError, match="address"):
        await second.__aenter__()


class Scene:
    """A state page with a real observer and store behind it."""

    def __init__(self) -> None:
        self.world = World()
        self.observer = PickerObserver(PickerMetrics(clock=lambda: self.world.now), clock=lambda: self.world.now)
        self.state = DebugState(
            store=self.world.store,
            observer=self.observer,
            ledger=self.world.ledger,
            recent=lambda: self.world.director.recent,
            clock=lambda: self.world.now,
            wall_clock=lambda: 1.7e9,
        )

    def page(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(json.dumps(self.state.page()))
        return found


def test_before_any_configuration() -> None:
    page = Scene().page()
    assert (page["synced"], page["pools"], page["models"]) == (False, [], [])


async def test_what_is_served_and_how_it_fares() -> None:
    scene = Scene()
    pool = pool_of(endpoints=1, models={"m": model_of("m", priority=2)})
    scene.world.take(resolution := resolution_of(entry_to(POOL), pools=[pool]))
    scene.state.took_over(resolution, "")
    scene.world.store.publish(ADDRESS, EndpointMetrics(running_loras=frozenset({"b", "a"}), read_at=999.0))
    scene.world.director.decide(scene.world.head(), b'{"model":"m","messages":[{}]}')
    scene.observer.attempted(Attempt("r", ADDRESS, status=503))
    scene.observer.completed(
        CompletedRequest(address=ADDRESS, status=200, ttft_seconds=0.5, usage=Usage(completion_tokens=20))
    )
    page = scene.page()
    assert page["in_flight"] == 1
    assert page["models"] == [{"name": "m", "pool": POOL.cluster_name, "targets": ["m"], "priority": 2}]
    (served,) = page["pools"]  # type: ignore[misc]
    (endpoint,) = served["endpoints"]
    metrics = endpoint.pop("metrics")
    assert (metrics["running_loras"], metrics["age_seconds"]) == (["a", "b"], 1.0)
    assert endpoint == {
        "address": ADDRESS,
        "name": "pod-1",
        "healthy": True,
        "circuit": {
            "state": "closed",
            "reason": None,
            "until_seconds": None,
            "openings": 0,
            "probes": 0,
            "attempts": 0,
            "error_share": 0.0,
        },
        "in_flight": 1,
        "in_flight_correction": 0,
        "requests_total": 1,
        "attempts_failed_total": 1,
        "ttft_p50_seconds": 0.5,
        "ttft_p90_seconds": 0.5,
        "tokens_per_second": 2.0,
    }
    (decision,) = page["recent_decisions"]  # type: ignore[misc]
    assert (decision["model"], decision["chosen"]) == ("m", [ADDRESS])


def test_an_endpoint_that_is_kept_out_says_why_and_for_how_long() -> None:
    scene = Scene()
    scene.state.took_over(scene.world.resolution, "")
    for _ in range(3):
        scene.world.store.attempted(Attempt("r", ADDRESS, status=503))
    (served,) = scene.page()["pools"]  # type: ignore[misc]
    endpoint = served["endpoints"][0]
    circuit = endpoint["circuit"]
    assert (endpoint["healthy"], circuit["state"], circuit["reason"]) == (False, "open", "failures")
    assert 0 < circuit["until_seconds"] <= 1.0
    assert (circuit["attempts"], circuit["error_share"], circuit["openings"]) == (3, 1.0, 1)


def test_refusals_and_objections() -> None:
    scene = Scene()
    scene.state.took_over(scene.world.resolution, "Envoy says no")
    assert scene.page()["configuration"] == {"accepted": False, "error": "Envoy says no", "loaded_at": 1.7e9}
    scene.state.took_over(scene.world.resolution, "")
    scene.state.refused(("a.yaml:1: broken",))
    page = scene.page()
    assert page["configuration"] == {"accepted": False, "error": "a.yaml:1: broken", "loaded_at": 1.7e9}
    assert page["problems"] == ["a.yaml:1: broken"]


def test_conditions_that_are_false_are_problems() -> None:
    scene = Scene()
    subject = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "default", "r")
    verdict = Verdict(subject, None, "ResolvedRefs", "False", "BackendNotFound", "There is no p.")
    scene.state.took_over(replace(scene.world.resolution, verdicts=(verdict,)), "")
    assert scene.page()["problems"] == ["HTTPRoute default/r: ResolvedRefs=False (BackendNotFound): There is no p."]
