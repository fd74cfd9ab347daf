"""Starts what is measured, each as a process of its own: model servers, the gateway, an Envoy without a picker."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.fast_server import MODEL
from benchmarks.plain_envoy import plain_bootstrap
from envoy_config import names
from igw import envoy_admin, picker_state
from igw.child import ChildSpec
from igw.envoy_binary import find_envoy
from igw.errors import CommandFailed
from igw.listen_address import ListenAddress, claim_address
from igw.pool_flag import parse_pool_flag
from igw.pool_manifests import PoolToServe, ResolvedServer, render_manifests
from igw.runtime_folder import RuntimeFolder
from igw.supervisor import Supervisor

_HOST: Final = "127.0.0.1"
_ReadyCheck = Callable[[], Awaitable[str]]
# The shell only opens the log and becomes the program, so the pid stays.
_LOGGED: Final = ("/bin/sh", "-c", 'exec "$@" >>"$0" 2>&1')


@dataclass(frozen=True, slots=True)
class Gateway:
    """A way in for clients and the processes behind it.

    Attributes:
        listen: Where clients send requests.
        pids: Process ids by name: ``envoy`` and, where there is one, ``picker``.
        admin: Where the picker's own pages are; None without a real picker.
    """

    listen: ListenAddress
    pids: dict[str, int]
    admin: ListenAddress | None = None

    @property
    def url(self) -> str:
        """Where clients send requests, without a path."""
        return self.listen.url


@dataclass(frozen=True, slots=True)
class ModelServers:
    """Model servers of one pool.

    Attributes:
        addresses: Where they listen.
        pids: Their processes; servers may share one.
    """

    addresses: tuple[ListenAddress, ...]
    pids: tuple[int, ...]


class Stage:
    """Starts processes; `open_stage` makes one and ends all of them.

    Args:
        supervisor: Owner of the processes.
        folder: For sockets, configuration and logs.
        envoy: Envoy's binary.
    """

    def __init__(self, supervisor: Supervisor, folder: Path, envoy: Path) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self._envoy = envoy
        self._count = 0

    @property
    def folder(self) -> Path:
        """Private folder that goes with the stage."""
        return self._folder

    async def simulated_servers(self, count: int, *, timing: str, time_scale: float) -> ModelServers:
        """Start *count* simulated vLLM servers, a process each."""
        addresses, pids = [], []
        for number in range(count):
            address = _free_address()
            command = [sys.executable, "-m", "igw", "simulate", "--port", str(address.port), "--model", MODEL]
            command += ["--timing", timing, "--time-scale", str(time_scale)]
            pids.append(await self._start_server(f"server-{number}", command, [address]))
            addresses.append(address)
        return ModelServers(tuple(addresses), tuple(pids))

    async def fast_servers(self, count: int, *, gap_ms: float) -> ModelServers:
        """Start one process that stands for *count* servers and answers at once."""
        ports_file = self._folder / "ports.json"

        async def is_ready() -> str:
            return "" if ports_file.exists() else "it has not taken its ports yet"

        command = [sys.executable, "-m", "benchmarks.fast_server", "--gap-ms", str(gap_ms)]
        command += ["--count", str(count), "--ports-file", str(ports_file)]
        pid = await self._start("fast server", command, is_ready, self._folder / "fast-server.log")
        ports = json.loads(ports_file.read_text(encoding="utf-8"))
        return ModelServers(tuple(ListenAddress(_HOST, port) for port in ports), (pid,))

    async def gateway(
        self,
        servers: ModelServers,
        *,
        module: Sequence[str] = ("endpoint_picker",),
        scheduling: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> Gateway:
        """Start picker and Envoy as `igw up` does.

        Args:
            servers: The pool.
            module: What ``python -m`` runs as the picker, with its first arguments.
            scheduling: The picker's `EndpointPickerConfig`; None: its default.
            arguments: Further arguments of the picker.
        """
        folder, listen, admin = self._new_folder(), _free_address(), _free_address()

        async def is_ready() -> str:
            try:
                await picker_state.read_page(admin.url, "/readyz")
            except CommandFailed as failure:
                return str(failure)
            return ""

        command = [sys.executable, "-m", *module, "--source", "files"]
        command += ["-f", str(_manifest(folder, servers)), "--envoy-dir", str(folder)]
        command += ["--listen", str(listen), "--admin", str(admin), *arguments]
        if scheduling is not None:
            command += ["--scheduling-config", str(scheduling)]
        log = folder / "picker.log"
        picker = await self._start("endpoint picker", command, is_ready, log)
        envoy = await self._start_envoy(folder, folder / names.BOOTSTRAP_FILE, listen)
        return Gateway(listen, {"picker": picker, "envoy": envoy}, admin)

    async def constant_gateway(self, servers: ModelServers, *, own_server: bool) -> Gateway:
        """Start Envoy as the gateway configures it with a picker that answers constants.

        Args:
            servers: The pool.
            own_server: Use the gateway's own gRPC server, not the usual library.
        """
        folder, listen = self._new_folder(), _free_address()
        socket = folder / names.PICKER_SOCKET

        async def is_ready() -> str:
            return "" if socket.exists() else "no socket yet"

        command = [sys.executable, "-m", "benchmarks.constant_picker", "--folder", str(folder)]
        command += ["--port", str(listen.port), "--manifest", str(_manifest(folder, servers))]
        command += ["--own-server"] if own_server else []
        log = folder / "picker.log"
        picker = await self._start("constant picker", command, is_ready, log)
        envoy = await self._start_envoy(folder, folder / names.BOOTSTRAP_FILE, listen)
        return Gateway(listen, {"picker": picker, "envoy": envoy})

    async def plain_envoy(self, servers: ModelServers, policy: str) -> Gateway:
        """Start Envoy without a picker."""
        folder, listen = self._new_folder(), _free_address()
        bootstrap = folder / names.BOOTSTRAP_FILE
        bootstrap.write_text(json.dumps(plain_bootstrap(folder, listen, servers.addresses, policy)), encoding="utf-8")
        return Gateway(listen, {"envoy": await self._start_envoy(folder, bootstrap, listen)})

    def _new_folder(self) -> Path:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir(mode=0o700)
        return folder

    async def _start_envoy(self, folder: Path, bootstrap: Path, listen: ListenAddress) -> int:
        async def is_ready() -> str:
            return await envoy_admin.missing_for_ready(folder / names.ADMIN_SOCKET, listen.port)

        # One worker: a policy of Envoy's then is one over all requests, and a CPU figure needs no division.
        command = [str(self._envoy), "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", "1"]
        return await self._start("envoy", [*command, "--log-level", "warning"], is_ready, folder / "envoy.log")

    async def _start_server(self, name: str, command: Sequence[str], addresses: Sequence[ListenAddress]) -> int:
        async def is_ready() -> str:
            return "" if all([await _answers(address) for address in addresses]) else "it does not answer"

        return await self._start(name, command, is_ready, self._folder / f"{name}.log")

    async def _start(self, name: str, command: Sequence[str], is_ready: _ReadyCheck, log: Path) -> int:
        spec = ChildSpec(name, (*_LOGGED, str(log), *command), is_ready, ready_timeout_seconds=30, restart=False)
        try:
            child = await self._supervisor.start(spec)
        except CommandFailed as failure:
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""  # noqa: ASYNC240 - once, at a failure
            msg = f"{failure}\n{said}"
            raise CommandFailed(msg) from failure
        assert child.process is not None
        return child.process.pid


@asynccontextmanager
async def open_stage(envoy: str | None = None) -> AsyncIterator[Stage]:
    """Provide a stage; every process it started ends with the block."""
    with RuntimeFolder() as folder:
        async with Supervisor(report=lambda line: print(f"  {line}", flush=True), force=asyncio.Event()) as supervisor:
            yield Stage(supervisor, folder.path, find_envoy(envoy))


def _manifest(folder: Path, servers: ModelServers) -> Path:
    flag = parse_pool_flag(f"{MODEL}={','.join(address.url for address in servers.addresses)}")
    resolved = tuple(ResolvedServer(url, url.host) for url in flag.servers)
    path = folder / "pool.yaml"
    path.write_text(render_manifests([PoolToServe(flag, resolved, MODEL)]), encoding="utf-8")
    return path


def _free_address() -> ListenAddress:
    return claim_address(_HOST, 0, option="")


async def _answers(address: ListenAddress) -> bool:
    try:
        async with asyncio.timeout(2), aiohttp.ClientSession() as session, session.get(f"{address.url}/health") as page:
            return page.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
