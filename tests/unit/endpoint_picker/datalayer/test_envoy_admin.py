"""What a real Envoy's admin pages say is read: versions, refusals, and what still warms."""

import json
from pathlib import Path

import pytest
from aiohttp import web

from endpoint_picker.datalayer.envoy_admin import EnvoyAdmin, EnvoyVersions, read_refusals, read_versions

PAGES = Path(__file__).parents[3] / "data" / "envoy_admin"
STATISTICS = (PAGES / "stats_refused_listener.txt").read_text()
DUMP = (PAGES / "config_dump_refused_listener.json").read_text()
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
        assert (await admin.versions(), await admin.refusals()) == (None, ())


async def test_it_is_used_within_its_block(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        await EnvoyAdmin(str(tmp_path / "a.sock")).versions()
