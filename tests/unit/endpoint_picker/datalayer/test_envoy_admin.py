"""What a real Envoy's admin pages say is read: versions, refusals, what still warms, and what is in flight."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.datalayer import envoy_admin
from endpoint_picker.datalayer.envoy_admin import EnvoyAdmin, EnvoyVersions, read_counts, read_refusals, read_versions
from endpoint_picker.requestcontrol.audit import DataPlaneCounts

PAGES = Path(__file__).parents[3] / "data" / "envoy_admin"
STATISTICS = (PAGES / "stats_refused_listener.txt").read_text()
DUMP = (PAGES / "config_dump_refused_listener.json").read_text()
IN_FLIGHT = (PAGES / "stats_in_flight.txt").read_bytes()
REASON = (
    "Proto constraint validation failed (HttpConnectionManagerValidationError.StatPrefix: "
    "value length must be at least 1 characters)"
)


def test_a_captured_page() -> None:
    assert read_versions(STATISTICS) == EnvoyVersions(
        clusters="3fe0eeedb5876b52",
        listeners="484433794c1c4f1e",
        routes=(("http", "af7cefdf112befdc"),),
        rejected=1,
        warming=0,
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("cluster_manager.warming_clusters: 2", EnvoyVersions(warming=2), id="warming-clusters"),
        pytest.param("listener_manager.total_listeners_warming: 1", EnvoyVersions(warming=1), id="warming-listeners"),
        pytest.param("cluster.d/p_v1.warming_state: 1", EnvoyVersions(), id="not-a-count-of-its-own"),
        pytest.param(
            'http.gateway.rds.a.b.version_text: "v"', EnvoyVersions(routes=(("a.b", "v"),)), id="a-name-with-dots"
        ),
        pytest.param('cluster.d/p_v1.version_text: "e"', EnvoyVersions(endpoints=(("d/p_v1", "e"),)), id="endpoints"),
        pytest.param("cluster_manager.cds.update_rejected: many", EnvoyVersions(), id="not-a-number"),
        pytest.param("nonsense", EnvoyVersions(), id="nonsense"),
        pytest.param("", EnvoyVersions(), id="empty"),
    ],
)
def test_lines(line: str, expected: EnvoyVersions) -> None:
    assert read_versions(line) == expected


def test_the_reason_of_a_refusal_comes_without_the_refused_configuration() -> None:
    assert read_refusals(DUMP) == (REASON,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("no json", (), id="no-json"),
        pytest.param("[]", (), id="nothing"),
        pytest.param('{"a":[{"error_state":{"details":"x"}},{"error_state":{"details":"x"}}]}', ("x",), id="once"),
        pytest.param('{"error_state":{"details":7}}', (), id="no-text"),
        pytest.param(json.dumps({"error_state": {"details": "y" * 5000}}), ("y" * 1000,), id="bounded"),
    ],
)
def test_refusals(text: str, expected: tuple[str, ...]) -> None:
    assert read_refusals(text) == expected


def test_what_is_in_flight_is_summed_up_by_address() -> None:
    """Two pools with one address, one of which fails open, and a connection that is not there yet."""
    assert read_counts(IN_FLIGHT) == DataPlaneCounts({"127.0.0.1:8000": 3, "[2001:db8::1]:8000": 1}, 4)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"", {}, id="nothing-in-flight"),
        pytest.param(
            b"cluster.a.endpoint.b.endpoint.10.0.0.1_80.rq_active: 2", {"10.0.0.1:80": 2}, id="a-name-of-dots"
        ),
        pytest.param(b"cluster.a.endpoint.10.0.0.1_80.rq_active: 0", {"10.0.0.1:80": 0}, id="listed-and-idle"),
        pytest.param(b"cluster.a.endpoint.10.0.0.1_80.cx_active: 5", {}, id="connections"),
        pytest.param(b"cluster.a.endpoint.10.0.0.1_80.rq_active: -1", {}, id="negative"),
        pytest.param(b"cluster.a.endpoint.10.0.0.1_80.rq_active: " + b"9" * 20, {}, id="absurd"),
        pytest.param(b"cluster.a.endpoint.10.0.0.1_80.rq_active: many", {}, id="not-a-number"),
        pytest.param(b"cluster.a.upstream_rq_active: 7", {}, id="a-whole-cluster"),
        pytest.param(b"\xff\xfe nonsense", {}, id="nonsense"),
    ],
)
def test_lines_of_what_is_in_flight(line: bytes, expected: dict[str, int]) -> None:
    assert read_counts(b"http.admin.downstream_rq_active: 1\n" + line + b"\n") == DataPlaneCounts(expected, 0)


@pytest.mark.parametrize("page", [b"", b"<html>", STATISTICS.encode(), IN_FLIGHT[40:]])
def test_a_page_that_lacks_envoys_own_request_is_none_of_its_pages(page: bytes) -> None:
    with pytest.raises(ValueError, match="page"):
        read_counts(page)


@given(st.binary(max_size=300))
def test_garbage_is_read_or_refused(garbage: bytes) -> None:
    counts = read_counts(b"http.admin.downstream_rq_active: " + garbage)
    assert all(number >= 0 for number in counts.endpoints.values())


@asynccontextmanager
async def answering(
    folder: Path, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[EnvoyAdmin]:
    app = web.Application()
    app.router.add_get("/{page}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.0, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "a.sock")).start()
    async with EnvoyAdmin(str(folder / "a.sock")) as admin:
        yield admin
    await runner.cleanup()


async def test_asking_for_what_is_in_flight(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/stats"
        return web.Response(body=IN_FLIGHT)

    async with answering(tmp_path, answer) as admin:
        assert await admin.counts() == read_counts(IN_FLIGHT)


async def test_an_error_says_nothing_of_what_is_in_flight(tmp_path: Path) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=503, body=IN_FLIGHT)

    async with answering(tmp_path, answer) as admin:
        assert await admin.counts() is None


async def test_an_answer_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_admin, "_TIMEOUT_SECONDS", 0.005)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(IN_FLIGHT)
        await asyncio.Event().wait()
        return response

    async with answering(tmp_path, answer) as admin:
        assert await admin.counts() is None


async def test_a_page_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_admin, "_MAX_PAGE_BYTES", 10 * len(IN_FLIGHT))

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(IN_FLIGHT)

    async with answering(tmp_path, answer) as admin:
        assert await admin.counts() is None


async def test_asking_over_the_socket(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=DUMP if request.path == "/config_dump" else STATISTICS)

    app = web.Application()
    app.router.add_get("/{page}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "a.sock")).start()
    async with EnvoyAdmin(str(tmp_path / "a.sock")) as admin:
        versions = await admin.versions()
        assert versions is not None
        assert versions.rejected == 1
        assert await admin.refusals() == (REASON,)
    await runner.cleanup()


async def test_an_envoy_that_does_not_run_says_nothing(tmp_path: Path) -> None:
    async with EnvoyAdmin(str(tmp_path / "none.sock")) as admin:
        assert (await admin.versions(), await admin.refusals(), await admin.counts()) == (None, (), None)


@pytest.mark.parametrize("ask", [EnvoyAdmin.versions, EnvoyAdmin.counts])
async def test_it_is_used_within_its_block(tmp_path: Path, ask: Callable[[EnvoyAdmin], Awaitable[object]]) -> None:
    with pytest.raises(RuntimeError):
        await ask(EnvoyAdmin(str(tmp_path / "a.sock")))
