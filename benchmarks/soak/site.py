"""What a soak runs against: ``igw up`` and simulated model servers, each a process of its own."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from benchmarks.soak.clients import MODEL
from igw.child import Child, ChildSpec
from igw.errors import CommandFailed
from igw.listen_address import claim_address
from igw.runtime_folder import RuntimeFolder
from igw.supervisor import Supervisor

_READY_SECONDS: Final = 60.0
_PAGE_SECONDS: Final = 2.0
_ANNOTATIONS: Final = {
    "inferencegateway.dev/first-token-timeout": "5s",
    "inferencegateway.dev/answer-timeout": "20s",
}


@dataclass(slots=True)
class ModelServer:
    """One simulated model server.

    Attributes:
        name: As its answers call it.
        port: Where it listens.
        child: Its process.
    """

    name: str
    port: int
    child: Child

    @property
    def pid(self) -> int:
        """Of its present process."""
        assert self.child.process is not None
        return self.child.process.pid


@dataclass(slots=True)
class Site:
    """The gateway and its model servers.

    Attributes:
        process: Of ``igw up``.
        url: Of the gateway.
        admin: Of the picker's pages.
        manifest: The file that the gateway follows.
        servers: Behind the gateway.
        said: The last lines of ``igw up``.
        session: For everything but the load.
    """

    process: asyncio.subprocess.Process
    manifest: Path
    servers: tuple[ModelServer, ...]
    session: aiohttp.ClientSession
    url: str = ""
    admin: str = ""
    said: deque[str] = field(default_factory=lambda: deque(maxlen=400))
    picker: int = 0
    returned: dict[str, int] = field(default_factory=dict)

    # -- the gateway's processes ------------------------------------------------------------------------------------

    def descendants(self) -> dict[int, str]:
        """Return the command line of every process that ``igw up`` has started, by process id."""
        found: dict[int, str] = {}
        pending = [self.process.pid]
        while pending:
            pid = pending.pop()
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    pending += [int(child) for child in children.read_text().split()]
            if pid != self.process.pid:
                with contextlib.suppress(OSError):
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def pids(self) -> dict[str, int]:
        """Return the process ids of the gateway and its model servers by name."""
        found = {"igw up": self.process.pid} | {server.name: server.pid for server in self.servers}
        for pid, command in self.descendants().items():
            if "bootstrap.json" in command:
                found["envoy"] = pid
            elif "endpoint_picker" in command:
                found["picker" if pid == self.picker else "picker in reserve"] = pid
        return found

    async def find_picker(self) -> int:
        """Return the process id of the picker that serves; as it was known last while none does."""
        state = await self.state()
        self.picker = int(state.get("pid", self.picker))
        return self.picker

    async def state(self) -> dict[str, Any]:
        """Return what the picker says of itself; nothing while there is none."""
        try:
            async with asyncio.timeout(_PAGE_SECONDS), self.session.get(f"{self.admin}/debug/state") as page:
                return dict(await page.json())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return {}

    async def answers(self, *, seconds: float) -> bool:
        """Ask one small question without retries; return whether it was answered as it should."""
        body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "?"}]}
        try:
            async with (
                asyncio.timeout(seconds),
                self.session.post(f"{self.url}/v1/chat/completions", json=body) as reply,
            ):
                await reply.read()
                return reply.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    # -- configuration ----------------------------------------------------------------------------------------------

    def write_manifest(self, text: str) -> None:
        """Replace the manifest by rename."""
        draft = self.manifest.with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.rename(self.manifest)

    # -- model servers ----------------------------------------------------------------------------------------------

    async def set_faults(self, server: ModelServer, *faults: dict[str, object]) -> None:
        """Tell a model server which faults to have from now on; one that is dead has none anyway."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                asyncio.timeout(_PAGE_SECONDS),
                self.session.post(
                    f"http://127.0.0.1:{server.port}/simulator/faults", json={"faults": list(faults)}
                ) as reply,
            ):
                if reply.status != 200:
                    raise CommandFailed(await reply.text())


def manifest_text(servers: Sequence[ModelServer], *, models: Sequence[str] = (MODEL,)) -> str:
    """Return manifests with these *servers* and *models*."""
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": "pool", "annotations": _ANNOTATIONS},
            "spec": {"selector": {"matchLabels": {"app": "pool"}}, "targetPorts": [{"number": 8000}]},
        }
    ]
    documents += [
        {
            "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
            "kind": "InferenceModel",
            "metadata": {"name": model},
            "spec": {
                "modelName": model,
                "poolRef": {"group": "inference.networking.k8s.io", "name": "pool"},
                "targetModels": [{"name": MODEL}],
            },
        }
        for model in models
    ]
    documents += [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": server.name, "labels": {"app": "pool"}},
            "addressType": "IPv4",
            "ports": [{"port": server.port}],
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        }
        for server in servers
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


@asynccontextmanager
async def open_site(folder: RuntimeFolder, servers: int, envoy: str | None) -> AsyncIterator[Site]:
    """Start model servers and ``igw up``; end what still runs of them."""
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        Supervisor(report=lambda _: None, force=asyncio.Event()) as supervisor,
    ):
        started = [await _start_server(supervisor, number) for number in range(servers)]
        manifest = folder.path / "soak.yaml"
        command = ["--port", "0", "--admin-port", "0", "--log-level", "warning", "-f", str(manifest)]
        manifest.write_text(manifest_text(started), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "igw", "up", *command, *(("--envoy", envoy) if envoy else ())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        site = Site(process, manifest, tuple(started), session)
        async with asyncio.TaskGroup() as group:
            group.create_task(_read(site))
            try:
                await _wait_until_ready(site)
                yield site
            finally:
                for pid in [*site.descendants(), *(server.pid for server in site.servers)]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
                if site.process.returncode is None:
                    site.process.kill()
                await site.process.wait()


async def _start_server(supervisor: Supervisor, number: int) -> ModelServer:
    address = claim_address("127.0.0.1", 0, option="")
    name = f"server-{number}"
    url = f"{address.url}/health"

    async def is_ready() -> str:
        try:
            async with asyncio.timeout(_PAGE_SECONDS), aiohttp.ClientSession() as session, session.get(url) as page:
                return "" if page.status == 200 else f"it answers {page.status}"
        except (aiohttp.ClientError, OSError, TimeoutError):
            return "it does not answer"

    command = (
        *(sys.executable, "-m", "igw", "simulate", "--port", str(address.port), "--name", name, "--model", MODEL),
        *("--timing", "h100-8b", "--max-model-len", "40000"),
    )
    child = await supervisor.start(ChildSpec(name, command, is_ready, ready_timeout_seconds=_READY_SECONDS))
    return ModelServer(f"{name}-0", address.port, child)


async def _read(site: Site) -> None:
    assert site.process.stdout is not None
    async for raw in site.process.stdout:
        line = raw.decode(errors="replace").rstrip()
        site.said.append(line)
        if found := re.search(r"igw: (.+) is ready again$", line):
            site.returned[found[1]] = site.returned.get(found[1], 0) + 1
        elif found := re.search(r"^  URL +(http://\S+)/v1", line):
            site.url = found[1]
        elif found := re.search(r"^  status .*--admin (http://\S+)", line):
            site.admin = found[1]


async def _wait_until_ready(site: Site) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not (site.admin and await site.find_picker()):
        if site.process.returncode is not None or time.monotonic() > deadline:
            raise CommandFailed("\n".join(["igw up did not become ready", *site.said]))
        await asyncio.sleep(0.1)
