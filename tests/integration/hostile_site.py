"""A gateway with everything a hostile client could reach for, and servers that remember every byte that came."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from integration.resources import (
    Document,
    endpoint_slices,
    http_route,
    inference_model,
    pool_with,
    rule,
    service,
    to_pool,
    to_service,
)
from integration.standalone import StandaloneGateway, chat
from integration.wire import Answer, WireServer, request, send, wire_server

SCHEDULING = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: label-selector-filter
  parameters: {matchExpressions: [{key: role, operator: NotIn, values: [never]}]}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins: [{pluginRef: label-selector-filter}, {pluginRef: max-score-picker}]
"""
CHAT = json.dumps(chat("model")).encode()
TELLTALES = (
    "server: uvicorn",
    "x-envoy-upstream-service-time: 5",
    "x-envoy-degraded: 1",
    "x-envoy-overloaded: 1",
    "x-envoy-immediate-health-check-fail: 1",
    "x-gateway-route: leak",
    "x-gateway-cluster: leak",
    "x-gateway-model-name: leak",
    "x-gateway-destination-endpoint: 10.0.0.1:1",
    "x-gateway-destination-endpoint-served: 10.0.0.1:1",
)
"""Headers of model servers that tell of what is behind the gateway."""


@dataclass(frozen=True, slots=True)
class Site:
    """The gateway and its servers.

    Attributes:
        named: Endpoint of the pool that serves the InferenceModel ``model`` as ``served``, on every path.
        excluded: Endpoint of the same pool that its scheduling profile rules out.
        anything: Endpoint of the pool at ``/any`` and of host ``host.example``, for any model.
        fails_open: Endpoint of the pool at ``/open`` that is served without a picker too.
        web: An ordinary Service at ``/web``.
        outside: No resource names it.
    """

    gateway: StandaloneGateway
    named: WireServer
    excluded: WireServer
    anything: WireServer
    fails_open: WireServer
    web: WireServer
    outside: WireServer

    @property
    def servers(self) -> tuple[WireServer, ...]:
        return self.named, self.excluded, self.anything, self.fails_open, self.web, self.outside

    @property
    def received(self) -> int:
        """Requests that reached any server so far."""
        return sum(len(server.received) + len(server.garbage) for server in self.servers)

    async def send(self, data: bytes) -> Answer:
        return await send(self.gateway.port, data)

    async def still_serves(self) -> None:
        """Fails unless an ordinary request is answered by its server, with its body as the picker rewrites it."""
        before = len(self.named.received)
        answer = await self.send(request(body=CHAT))
        assert (answer.status, answer.body) == (200, b"ok"), answer
        (arrived,) = self.named.received[before:]
        assert json.loads(arrived.body)["model"] == "served"


def _documents(site: dict[str, WireServer]) -> list[Document]:
    excluded = endpoint_slices("named", [site["excluded"].port])
    excluded[0]["metadata"]["labels"]["role"] = "never"
    return [
        *pool_with("named", [site["named"].port]),
        *excluded,
        inference_model("model", pool="named", targetModels=[{"name": "served"}]),
        *pool_with("anything", [site["anything"].port]),
        *pool_with("fails-open", [site["fails_open"].port], failure_mode="FailOpen"),
        *service("web", [site["web"].port]),
        http_route("any", rule("/any", to_pool("anything")), rule("/named", to_pool("named"))),
        http_route("control", rule("/any/is_sleeping", to_pool("anything"))),
        http_route("open", rule("/open", to_pool("fails-open"))),
        http_route("web", rule("/web", to_service("web"))),
        http_route("host", rule("/", to_pool("anything")), hostnames=["host.example"]),
    ]


@asynccontextmanager
async def hostile_site(*arguments: str, keys: str = "") -> AsyncIterator[Site]:
    """A running site; *arguments* are the picker's, *keys* the lines of its key file."""
    async with AsyncExitStack() as stack:
        names = ("named", "excluded", "anything", "fails_open", "web", "outside")
        servers = {name: await stack.enter_async_context(wire_server(TELLTALES)) for name in names}
        gateway = StandaloneGateway(_documents(servers), *arguments)
        (gateway.folder / "scheduling.yaml").write_text(SCHEDULING)
        gateway.add_arguments("--scheduling-config", str(gateway.folder / "scheduling.yaml"))
        if keys:
            (gateway.folder / "keys").write_text(keys)
            gateway.add_arguments("--api-key-file", str(gateway.folder / "keys"))
        yield Site(await stack.enter_async_context(gateway), **servers)
