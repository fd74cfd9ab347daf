"""Nobody on the network is trusted with the picker's pages, nor anybody else on the machine with its files."""

import asyncio
import stat
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from envoy_config import names
from igw.errors import CommandFailed
from igw.picker_state import read_state
from integration.resources import http_route, inference_model, pool_with, rule, secret, to_pool
from integration.standalone import StandaloneGateway, eventually, free_port
from integration.wire import wire_server

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

FIRST, SECOND = "first-admin-token-1", "second-admin-token-2"
CLIENT_KEY, SERVER_KEY = "sk-client-s3cret", "sk-server-s3cret"
PROMPT = "a prompt that is nobody else's business"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[StandaloneGateway]:
    async with wire_server() as server:
        keyed = {"inferencegateway.dev/model-server-credential-secret": "key"}
        documents = [
            secret("key", api_key=SERVER_KEY),
            *pool_with("pool", [server.port], annotations=keyed),
            inference_model("model", pool="pool"),
            http_route("all", rule("/", to_pool("pool"))),
        ]
        running = StandaloneGateway(documents)
        running.add_arguments("--admin", f"0.0.0.0:{running.admin_port}")
        for name, content in (("token", FIRST), ("keys", CLIENT_KEY)):
            (running.folder / name).write_text(content)
        running.add_arguments("--admin-token-file", str(running.folder / "token"))
        running.add_arguments("--api-key-file", str(running.folder / "keys"))
        running.admin_headers["Authorization"] = f"Bearer {FIRST}"
        async with running:
            yield running


async def test_beyond_loopback_the_picker_does_not_start_without_a_token() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "endpoint_picker", "-f", "manifest.yaml", "--envoy-dir", "/tmp/none"),
        *("--admin", f"[::]:{free_port()}"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"admin: [::]" in said
    assert b"give admin_token_file, or bind 127.0.0.1" in said


async def test_pages_ask_for_the_token_and_health_does_not(gateway: StandaloneGateway) -> None:
    for path in ("/metrics", "/metrics/envoy", "/debug/state", "/unheard-of"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Host": "localhost"}):
            reply = await gateway.session.get(gateway.admin_url + path, headers=headers)
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/livez", "/readyz"):
        assert (await gateway.session.get(gateway.admin_url + path)).status == 200
    assert (await gateway.admin_page("/metrics")).status == 200
    assert (await gateway.admin_page("/unheard-of")).status == 404


async def test_the_command_line_brings_the_token(gateway: StandaloneGateway) -> None:
    state = await read_state(gateway.admin_url, token=FIRST)
    assert [model.name for model in state.models] == ["model"]
    with pytest.raises(CommandFailed, match=r"asks for a token \(--admin-token-file\)"):
        await read_state(gateway.admin_url)
    with pytest.raises(CommandFailed, match="takes another token"):
        await read_state(gateway.admin_url, token=SECOND)


async def test_no_page_and_no_log_holds_a_prompt_or_a_credential(gateway: StandaloneGateway) -> None:
    reply = await gateway.chat("model", content=PROMPT, headers={"Authorization": f"bearer {CLIENT_KEY}"})
    assert reply.status == 200
    await gateway.settled()
    pages = [(await gateway.admin_page(path)).body.decode() for path in ("/metrics", "/debug/state", "/readyz")]
    pages += [gateway.log_path(name).read_text() for name in ("picker", "envoy")]
    for hidden in (PROMPT, CLIENT_KEY, SERVER_KEY, FIRST):
        assert all(hidden not in page for page in pages)


async def test_a_replaced_token_file_replaces_the_token(gateway: StandaloneGateway) -> None:
    draft = gateway.folder / "token.new"
    draft.write_text(SECOND)
    draft.rename(gateway.folder / "token")
    assert (await gateway.admin_page("/metrics")).status == 401
    gateway.admin_headers["Authorization"] = f"Bearer {SECOND}"
    try:
        assert (await gateway.admin_page("/metrics")).status == 200
    finally:
        draft.write_text(FIRST)
        draft.rename(gateway.folder / "token")
        gateway.admin_headers["Authorization"] = f"Bearer {FIRST}"


async def test_sockets_and_files_are_for_their_owner_only(gateway: StandaloneGateway) -> None:
    async def written() -> bool:
        return any((gateway.folder / "sds").iterdir())

    await eventually(written, what="the credential was never written")
    for socket in (names.ADMIN_SOCKET, names.PICKER_SOCKET):
        found = (gateway.folder / socket).stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(gateway.folder.stat().st_mode) == 0o700
    files = [gateway.folder / names.LISTENERS_FILE, gateway.folder / names.BOOTSTRAP_FILE]
    files += [path for name in ("sds", "eds", "rds") for path in (gateway.folder / name).iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
