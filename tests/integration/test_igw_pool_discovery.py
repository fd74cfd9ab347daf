"""``--pool`` stays true: hosts are resolved, servers asked for their model, manifests written when either changes."""

from collections.abc import AsyncIterator

import pytest
import yaml
from aiohttp import web

from igw.errors import CommandFailed
from igw.pool_discovery import PoolDiscovery
from igw.pool_flag import parse_pool_flags


class Server:
    """A model server whose list of models can change."""

    def __init__(self) -> None:
        self.models: object = {"data": [{"id": "base", "parent": None}]}
        self.url = ""

    async def list_models(self, _request: web.Request) -> web.Response:
        return self.models if isinstance(self.models, web.Response) else web.json_response(self.models)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/v1/models", server.list_models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://localhost:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


class Written(list[str]):
    """Every version of the manifests."""

    def target(self) -> str:
        (model,) = (d for d in yaml.safe_load_all(self[-1]) if d["kind"] == "InferenceModel")
        name: str = model["spec"]["targetModels"][0]["name"]
        return name


async def refresh(discovery: PoolDiscovery) -> None:
    await discovery._resolve_all()
    await discovery._refresh_models()
    discovery._write_if_changed()


async def test_the_only_model_is_the_target_and_changes_are_written_once(server: Server) -> None:
    written, reports = Written(), list[str]()
    discovery = PoolDiscovery(parse_pool_flags([f"chat={server.url}"]), write=written.append, report=reports.append)
    await discovery.begin()
    assert written.target() == "base"
    assert "127.0.0.1" in written[0]
    assert "hostname: localhost" in written[0]
    await refresh(discovery)
    assert len(written) == 1
    server.models = {"data": [{"id": "other"}]}
    await refresh(discovery)
    assert written.target() == "other"
    assert reports == ["chat: the model servers call it base", "chat: the model servers call it other"]


@pytest.mark.parametrize(
    "models",
    [
        pytest.param({"data": [{"id": "a"}, {"id": "b"}]}, id="several"),
        pytest.param({"data": []}, id="none"),
        pytest.param({"data": [{}]}, id="without-id"),
        pytest.param(["base"], id="another-shape"),
        pytest.param({"data": [{"id": "x" * 2_000_000}]}, id="too-large"),
    ],
)
async def test_without_a_single_model_the_name_is_the_target(server: Server, models: object) -> None:
    server.models = models
    written = Written()
    discovery = PoolDiscovery(parse_pool_flags([f"chat={server.url}"]), write=written.append, report=lambda _: None)
    await discovery.begin()
    assert written.target() == "chat"


async def test_what_was_learnt_stays_while_the_server_is_away(server: Server) -> None:
    written = Written()
    discovery = PoolDiscovery(parse_pool_flags([f"chat={server.url}"]), write=written.append, report=lambda _: None)
    await discovery.begin()
    server.models = web.Response(status=503)
    await refresh(discovery)
    assert written.target() == "base"
    assert len(written) == 1


async def test_a_host_that_does_not_resolve_is_said_at_the_start() -> None:
    discovery = PoolDiscovery(
        parse_pool_flags(["chat=http://no-such-host.invalid"]), write=lambda _: None, report=lambda _: None
    )
    with pytest.raises(CommandFailed, match=r"^--pool chat: host no-such-host.invalid cannot be resolved$"):
        await discovery.begin()
