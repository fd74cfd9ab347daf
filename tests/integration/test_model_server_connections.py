"""How the gateway talks to model servers: TLS, their own key, several ports, HTTP/2, and never with a client's key."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from igw.envoy_binary import find_envoy
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import SimulatorSettings
from integration.model_servers import EchoServer, echo_server, http2_front
from integration.resources import (
    Document,
    http_route,
    inference_model,
    inference_pool,
    pool_with,
    rule,
    secret,
    service,
    to_pool,
    to_service,
)
from integration.standalone import StandaloneGateway, chat, eventually, free_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

PREFIX = "inferencegateway.dev/model-server-"
VERIFY = {f"{PREFIX}tls": "verify", f"{PREFIX}tls-server-name": "models.example"}
CLIENT_KEY = {"Authorization": "Bearer client-key-1"}
SERVER_KEY = "server-key"


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for *name* and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@dataclass(frozen=True, slots=True)
class Site:
    gateway: StandaloneGateway
    echo: EchoServer
    ranks: tuple[EchoServer, EchoServer]


ANNOTATIONS: dict[str, dict[str, str]] = {
    "verified": {**VERIFY, f"{PREFIX}tls-ca-secret": "ca"},
    "wrong-ca": {**VERIFY, f"{PREFIX}tls-ca-secret": "wrong-ca"},
    "wrong-name": {**VERIFY, f"{PREFIX}tls-server-name": "other.example", f"{PREFIX}tls-ca-secret": "ca"},
    "no-ca": VERIFY,
    "skipped": {f"{PREFIX}tls": "skip-verify"},
    "plain-to-tls": {},
    "keyed": {f"{PREFIX}credential-secret": "key"},
    "unkeyed": {},
}
"""Of every pool that has a model server of its own."""


def _documents(
    ports: Mapping[str, int], *, echo: int, ranks: Sequence[int], front: int, pem: str, wrong_pem: str
) -> list[Document]:
    documents: list[Document] = [
        secret("ca", ca_crt=pem),
        secret("wrong-ca", ca_crt=wrong_pem),
        secret("key", api_key=SERVER_KEY),
    ]
    for name, port in ports.items():
        documents += [*pool_with(name, [port], annotations=ANNOTATIONS[name]), inference_model(name, pool=name)]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": "default", "labels": {"app": "ranks"}},
        "status": {"podIP": "127.0.0.1", "phase": "Running"},
    }
    return [
        *documents,
        *(inference_pool("ranks", target_ports=ranks), pod),
        *pool_with("http2", [front], appProtocol="kubernetes.io/h2c"),
        inference_model("http2", pool="http2"),
        *pool_with("echo", [echo]),
        *service("web", [echo]),
        *service("web2", [front], appProtocol="kubernetes.io/h2c"),
        http_route(
            "routes",
            rule("/ranks", to_pool("ranks")),
            rule("/echo", to_pool("echo")),
            rule("/web", to_service("web")),
            rule("/v1/models-of-http2", to_service("web2")),
        ),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        gateway = StandaloneGateway([])
        certificate, key = make_certificate(gateway.folder, "models.example")
        wrong, _ = make_certificate(gateway.folder, "wrong.example")

        async def server(name: str, **options: Any) -> int:
            settings = SimulatorSettings(models=(name,), **options)
            return (await stack.enter_async_context(SimulatedServer(settings))).port

        tls = {"tls_certificate": certificate, "tls_key": key}
        ports = {
            name: await server(name, **({"api_key": SERVER_KEY} if name.endswith("keyed") else tls))
            for name in ANNOTATIONS
        }
        echo, first, second = [await stack.enter_async_context(echo_server()) for _ in range(3)]
        front = free_port()
        await stack.enter_async_context(http2_front(gateway.folder, front, await server("http2"), find_envoy(None)))
        documents = _documents(
            ports,
            echo=echo.port,
            ranks=[first.port, second.port],
            front=front,
            pem=certificate.read_text(),
            wrong_pem=wrong.read_text(),
        )
        gateway.write_manifests(*documents)
        (gateway.folder / "keys").write_text("client-key-0\nclient-key-1\n")
        gateway.add_arguments("--api-key-file", str(gateway.folder / "keys"))
        yield Site(await stack.enter_async_context(gateway), echo, (first, second))


@pytest.mark.parametrize(
    ("pool", "status"),
    [
        pytest.param("verified", 200, id="verified-by-the-given-ca"),
        pytest.param("skipped", 200, id="verification-skipped"),
        pytest.param("wrong-ca", 503, id="signed-by-another-ca"),
        pytest.param("wrong-name", 503, id="certificate-of-another-name"),
        pytest.param("no-ca", 503, id="unknown-to-the-system"),
        pytest.param("plain-to-tls", 503, id="plain-text-to-a-tls-port"),
    ],
)
async def test_a_model_server_is_trusted_as_its_pool_says(site: Site, pool: str, status: int) -> None:
    reply = await site.gateway.chat(pool, headers=CLIENT_KEY)
    assert reply.status == status, reply
    if status == 503:
        assert reply.error["type"] == "server_error"
        assert "Retry-After" in reply.headers


async def test_a_model_server_is_given_the_key_of_its_pool(site: Site) -> None:
    assert (await site.gateway.chat("keyed", headers=CLIENT_KEY)).status == 200
    assert (await site.gateway.chat("unkeyed", headers=CLIENT_KEY)).status == 401


async def test_pages_of_a_server_with_tls_or_key_are_read(site: Site) -> None:
    wanted = {f"default/{name}:v1" for name in ("verified", "skipped", "keyed")}

    async def are_read() -> bool:
        pools = (await site.gateway.debug_state())["pools"]
        read = {p["name"] for p in pools for e in p["endpoints"] if e["metrics"] and e["metrics"]["engine"] == "vllm"}
        return wanted <= read

    await eventually(are_read)


async def test_every_target_port_of_a_pod_is_an_endpoint(site: Site) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(site.gateway.get("/ranks", headers=CLIENT_KEY))
    assert all(server.requests for server in site.ranks)


async def test_a_pool_is_spoken_to_in_http_2_where_it_asks_for_that(site: Site) -> None:
    reply = await site.gateway.chat("http2", headers=CLIENT_KEY)
    assert reply.status == 200
    assert reply.headers["x-upstream-protocol"] == "HTTP/2"


async def test_a_service_is_spoken_to_in_http_2_where_it_asks_for_that(site: Site) -> None:
    reply = await site.gateway.get("/v1/models-of-http2", headers=CLIENT_KEY)
    assert reply.headers["x-upstream-protocol"] == "HTTP/2"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"Authorization": "Bearer other"}, id="wrong"),
        pytest.param({"Authorization": "Bearer client-key-"}, id="cut"),
        pytest.param({"Authorization": "Bearer "}, id="empty"),
        pytest.param({"Authorization": "Basic Y2xpZW50LWtleS0x"}, id="another-scheme"),
        pytest.param({"Authorization": "bearer client-key-2"}, id="lower-case-and-wrong"),
        pytest.param({"Authorization": "Bearer CLIENT-KEY-1"}, id="capitals"),
        pytest.param({"Authorization": "Bearer\tclient-key-1"}, id="tab"),
        pytest.param({"Authorization": "Bearer client-key-1, Bearer x"}, id="list"),
        pytest.param([("Authorization", "Bearer client-key-1"), ("Authorization", "Bearer x")], id="one-right-of-two"),
        pytest.param([("Authorization", "bearer client-key-1")] * 2, id="twice-the-same"),
        pytest.param({"Proxy-Authorization": "Bearer client-key-1", "x-api-key": "client-key-1"}, id="elsewhere"),
        pytest.param({"X_Authorization": "Bearer client-key-1", "Cookie": "authorization=client-key-1"}, id="nearby"),
        pytest.param({"Authorization": "Bearer " + "a" * 7000}, id="long"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/echo", "/web", "/v1/models", "/nowhere", "/echo?api_key=client-key-1"]
)
async def test_nobody_gets_in_without_a_key(
    site: Site, path: str, headers: dict[str, str] | list[tuple[str, str]]
) -> None:
    site.echo.requests.clear()
    reply = await site.gateway.request("POST", path, json=chat("keyed"), headers=headers)
    assert reply.status == 401
    assert reply.error["code"] == "invalid_api_key"
    assert site.echo.requests == []


@pytest.mark.parametrize("key", ["client-key-0", "client-key-1"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER  "])
@pytest.mark.parametrize("path", ["/echo", "/web"])
async def test_the_key_of_a_client_ends_at_the_gateway(site: Site, path: str, scheme: str, key: str) -> None:
    reply = await site.gateway.post(path, chat("any"), headers={"Authorization": f"{scheme} {key}"})
    assert reply.status == 200
    facts: dict[str, Any] = reply.json
    assert key not in str(facts)


async def test_no_key_stands_in_a_log_or_on_a_page(site: Site) -> None:
    await site.gateway.chat("keyed", headers=CLIENT_KEY)
    pages = [(await site.gateway.admin_page(path)).body.decode() for path in ("/debug/state", "/metrics")]
    logs = [site.gateway.log_path(name).read_text() for name in ("picker", "envoy")]
    for text in (*pages, *logs):
        assert "client-key" not in text
        assert SERVER_KEY not in text
