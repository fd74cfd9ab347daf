"""What is soaked: `igw up` with its children, before simulated model servers, each a process of its own."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

import aiohttp
import yaml

from benchmarks.machine import open_files, resident_bytes
from igw.listen_address import ListenAddress, claim_address
from igw.pool_flag import parse_pool_flag
from igw.pool_manifests import PoolToServe, ResolvedServer, render_manifests

MODEL: Final = "soaked"
_READY_SECONDS: Final = 60.0
GONE_ADDRESS: Final = "127.0.0.9"
"""Endpoints that are added and removed stand here: nobody listens."""


class ModelServer:
    """One simulated model server that can be killed and started again at its address."""

    def __init__(self, folder: Path, number: int) -> None:
        self.address = claim_address("127.0.0.1", 0, option="")
        self._log = folder / f"server-{number}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "igw", "simulate", "--port", str(self.address.port), "--model", MODEL]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*command, "--time-scale", "3"], stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait()

    async def set_faults(self, faults: list[dict[str, object]]) -> None:
        async with aiohttp.ClientSession() as session:
            answer = await session.post(f"{self.address.url}/simulator/faults", json={"faults": faults})
            answer.raise_for_status()


class Site:
    """Everything that runs; an asynchronous context manager."""

    def __init__(self, folder: Path, servers: int) -> None:
        self._folder = folder
        self.servers = [ModelServer(folder, number) for number in range(servers)]
        self.listen = claim_address("127.0.0.1", 0, option="")
        self.admin = claim_address("127.0.0.1", 0, option="")
        self.manifest = folder / "pool.yaml"
        self._up: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        for server in self.servers:
            server.start()
        self.write_pool()
        command = [sys.executable, "-m", "igw", "up", "-f", str(self.manifest)]
        command += ["--port", str(self.listen.port), "--admin-port", str(self.admin.port), "--drain-seconds", "5"]
        with (self._folder / "igw.log").open("ab") as log:
            self._up = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 - it lives on
        async with asyncio.timeout(_READY_SECONDS):
            while not await self.answers("/readyz"):  # noqa: ASYNC110 - a page is asked
                await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._up is not None:
            self._up.send_signal(signal.SIGINT)
            try:
                self._up.wait(20)
            except subprocess.TimeoutExpired:
                self._up.kill()
        for server in self.servers:
            if server.process is not None:
                server.process.kill()
                server.process.wait()

    def pool_text(self, further: int = 0) -> str:
        """Return the manifests, with endpoints besides that nobody serves."""
        urls = [server.address.url for server in self.servers]
        flag = parse_pool_flag(f"{MODEL}={','.join(urls)}")
        text = render_manifests([PoolToServe(flag, tuple(ResolvedServer(u, u.host) for u in flag.servers), MODEL)])
        if not further:
            return text
        documents = list(yaml.safe_load_all(text))
        ports = {server.address.port for server in self.servers}
        slices = [d for d in documents if d and d["kind"] == "EndpointSlice" and d["ports"][0]["port"] in ports]
        if slices:
            for number in range(further):
                slices[0]["endpoints"].append(
                    {**slices[0]["endpoints"][0], "addresses": [f"127.0.9.{number % 200 + 1}"]}
                )
        return "---\n".join(yaml.safe_dump(d) for d in documents)

    def write_pool(self, text: str | None = None) -> None:
        """Replace the manifests in one step."""
        new = self.manifest.with_suffix(".new")
        new.write_text(self.pool_text() if text is None else text, encoding="utf-8")
        new.replace(self.manifest)

    def pids(self) -> dict[str, int]:
        """Return the processes of the gateway that run now, by name."""
        assert self._up is not None
        found = {"igw": self._up.pid}
        for pid in _children(self._up.pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                name = "picker" if "endpoint_picker" in words else Path(words[0]).name
                if name in ("picker", "envoy"):
                    found[name if name not in found else f"{name}-2"] = pid
        return found

    def send(self, name: str, number: signal.Signals) -> bool:
        """Send a signal to a process of the gateway; return whether it runs."""
        pid = self.pids().get(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Return pid, resident bytes and open files of each process of the gateway."""
        found = {}
        for name, pid in self.pids().items():
            with contextlib.suppress(OSError):
                found[name] = (pid, resident_bytes(pid), open_files(pid))
        return found

    async def answers(self, path: str) -> bool:
        """Return whether the picker's page at *path* answers 200."""
        return await self.page(path) is not None

    async def page(self, path: str) -> str | None:
        try:
            async with (
                asyncio.timeout(3),
                aiohttp.ClientSession() as session,
                session.get(f"{self.admin.url}{path}") as answer,
            ):
                return await answer.text() if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    @property
    def url(self) -> str:
        return self.listen.url


def _children(pid: int) -> list[int]:
    """Return all descendants of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_children(int(child))]
    return found


__all__ = ["MODEL", "ListenAddress", "ModelServer", "Site"]
