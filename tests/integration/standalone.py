"""A gateway of real processes on loopback: Envoy from the wheel and the endpoint picker beside it."""

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from envoy_config import names
from igw import guarded_exec
from igw.envoy_binary import find_envoy

LIVE: "weakref.WeakSet[StandaloneGateway]" = weakref.WeakSet()
"""Gateways that run now, so that a failing test can show their logs."""

_START_SECONDS = 20.0
_ENVOY_OPTIONS = (
    *("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"),
    *("--component-log-level", "misc:error", "--drain-strategy", "immediate"),
)


async def eventually(holds: Callable[[], Awaitable[Any]], *, seconds: float = 10.0, what: str = "") -> Any:
    """Return what *holds* returns once that is true; TimeoutError naming *what* when it stays false."""
    deadline = time.monotonic() + seconds
    while True:
        if found := await holds():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(what or f"{holds} stayed false for {seconds:g} s")
        await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI error of the answer; fails where the answer has another form."""
        assert self.headers["Content-Type"].startswith("application/json"), self
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}, self
        assert error["message"], self
        return dict(error)


def chat(model: str, content: str = "Say something.", **fields: Any) -> dict[str, Any]:
    """Body of a small chat."""
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}


class StandaloneGateway:
    """Envoy and picker in a folder of their own; ``async with`` starts and ends both.

    Args:
        documents: Manifests at the start.
        arguments: Further arguments of the picker, such as ``--usage lua``.
        environment: Further variables of the picker's environment.
    """

    def __init__(
        self,
        documents: Sequence[Mapping[str, Any]],
        *arguments: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="igw-t-", dir="/tmp"))
        self._arguments = arguments
        self.environment = dict(environment or {})
        self.envoy_environment: dict[str, str] = {}
        self.picker_program: tuple[str, ...] = (sys.executable, "-m", "endpoint_picker")
        self._reserved = [_reserve(), _reserve()]
        self.port, self.admin_port = (int(entry.getsockname()[1]) for entry in self._reserved)
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.admin_headers: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._session: aiohttp.ClientSession | None = None
        self.write_manifests(*documents)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        LIVE.add(self)
        try:
            await self.start_picker()
            await self.start_envoy()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        LIVE.discard(self)
        for name in list(self._processes):
            self._kill(name)
        if self._session is not None:
            await self._session.close()
        for entry in self._reserved:
            entry.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- processes --------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, *command: str) -> None:
        guard = [sys.executable, "-I", "-S", guarded_exec.__file__, str(os.getpid())]
        with self.log_path(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*guard, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def add_arguments(self, *arguments: str) -> None:
        """Add to the arguments of the picker before its start, such as the path of a file in `folder`."""
        self._arguments += arguments

    async def start_picker(self, *arguments: str) -> None:
        """Start the picker and wait until it decides requests; *arguments* are added to those of the gateway."""
        self._spawn(
            "picker",
            *_with(self.environment),
            *(*self.picker_program, "-f", str(self.folder / "manifests")),
            *("--envoy-dir", str(self.folder), "--listen", f"127.0.0.1:{self.port}"),
            *("--admin", f"127.0.0.1:{self.admin_port}", "--log-format", "json"),
            *self._arguments,
            *arguments,
        )
        await eventually(self._picker_is_ready, seconds=_START_SECONDS, what="the picker did not become ready")

    async def start_envoy(self) -> None:
        """Start Envoy and wait until it listens."""
        (self.folder / names.ADMIN_SOCKET).unlink(missing_ok=True)
        program = (*_with(self.envoy_environment), str(find_envoy(None)))
        self._spawn("envoy", *program, "-c", str(self.folder / names.BOOTSTRAP_FILE), *_ENVOY_OPTIONS)
        await eventually(self._envoy_is_ready, seconds=_START_SECONDS, what="Envoy did not become ready")

    async def _picker_is_ready(self) -> bool:
        self._check_alive("picker")
        try:
            return (await self.admin_page("/readyz")).status == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def _envoy_is_ready(self) -> bool:
        self._check_alive("envoy")
        try:
            return await self.envoy_stat("listener_manager.total_listeners_active") == 1
        except (aiohttp.ClientError, OSError):
            return False

    def _check_alive(self, name: str) -> None:
        code = self._processes[name].poll()
        assert code is None, f"{name} ended with {code}: {self.log_path(name).read_text()[-2000:]}"

    def kill_picker(self) -> None:
        """End the picker without a chance to do anything."""
        self._kill("picker")

    def stop_picker(self) -> None:
        """Make the picker hang; `continue_picker` or `kill_picker` ends that."""
        os.kill(self._processes["picker"].pid, signal.SIGSTOP)

    def continue_picker(self) -> None:
        os.kill(self._processes["picker"].pid, signal.SIGCONT)

    def pid(self, name: str) -> int:
        """Process id of the ``picker`` or ``envoy``."""
        return self._processes[name].pid

    async def restart_picker(self, *arguments: str) -> None:
        self._kill("picker")
        await self.start_picker(*arguments)

    async def end_picker(self, *, seconds: float = 30.0) -> int:
        """Ask the picker to end and return its exit code; TimeoutError when it does not."""
        process = self._processes.pop("picker")
        process.terminate()
        try:
            return await asyncio.to_thread(process.wait, seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise TimeoutError from error

    def stop_envoy(self) -> None:
        """Make Envoy hang; `continue_envoy` ends that."""
        os.kill(self._processes["envoy"].pid, signal.SIGSTOP)

    def continue_envoy(self) -> None:
        os.kill(self._processes["envoy"].pid, signal.SIGCONT)

    def kill_envoy(self) -> None:
        self._kill("envoy")

    # -- manifests --------------------------------------------------------------------------------------------------

    def write_manifests(self, *documents: Mapping[str, Any]) -> None:
        """Replace all manifests at once."""
        self.write_manifest_text(yaml.safe_dump_all(documents, sort_keys=False))

    def write_manifest_text(self, text: str) -> None:
        folder = self.folder / "manifests"
        folder.mkdir(exist_ok=True)
        (folder / "all.new").write_text(text, encoding="utf-8")
        (folder / "all.new").rename(folder / "all.yaml")

    async def apply(self, *documents: Mapping[str, Any]) -> None:
        """Replace all manifests and wait until Envoy and picker serve them."""
        before = (await self.debug_state())["configuration"]
        self.write_manifests(*documents)

        async def taken_over() -> bool:
            after = (await self.debug_state())["configuration"]
            refused = not after["accepted"] and after["error"] != before["error"]
            assert not refused, after
            return bool(after["accepted"] and after["loaded_at"] != before["loaded_at"])

        await eventually(taken_over, what="the manifests were not taken over")

    # -- what they say ----------------------------------------------------------------------------------------------

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    async def admin_page(self, path: str) -> Reply:
        """A page of the picker, asked for with `admin_headers`."""
        return await _read(self.session.get(self.admin_url + path, headers=self.admin_headers))

    async def debug_state(self) -> dict[str, Any]:
        return dict((await self.admin_page("/debug/state")).json)

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of the picker's samples of this name that have *labels*."""
        page = (await self.admin_page("/metrics")).body.decode()
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    async def in_flight(self) -> int:
        return int((await self.debug_state())["in_flight"])

    async def settled(self) -> None:
        """Wait until the ledger is empty."""

        async def idle() -> bool:
            return await self.in_flight() == 0

        await eventually(idle, what="requests stayed in the ledger")

    async def quiet(self) -> None:
        """Wait until nothing is under way: no entry in the ledger, no request inside Envoy on either side."""
        await self.settled()

        async def idle() -> bool:
            page = json.loads(await self.envoy_page("/stats?format=json&filter=rq_active$"))
            ours = ("cluster.inference-gateway/", "http.admin.")
            return not any(s["value"] for s in page["stats"] if "name" in s and not s["name"].startswith(ours))

        await eventually(idle, what="requests stayed in Envoy")
        endpoints = [endpoint for pool in (await self.debug_state())["pools"] for endpoint in pool["endpoints"]]
        assert [endpoint for endpoint in endpoints if endpoint["in_flight"]] == []

    def resident_bytes(self, name: str) -> int:
        """Memory of a process, ``envoy`` or ``picker``."""
        status = Path(f"/proc/{self._processes[name].pid}/status").read_text(encoding="utf-8")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    async def envoy_page(self, path: str, *, method: str = "GET") -> str:
        """A page of Envoy's admin interface."""
        connector = aiohttp.UnixConnector(str(self.folder / names.ADMIN_SOCKET))
        async with aiohttp.ClientSession(connector=connector) as session:
            return (await _read(session.request(method, f"http://envoy{path}"))).body.decode()

    async def envoy_stat(self, name: str) -> int:
        """One statistic of Envoy by its whole name; 0 while there is none."""
        page = json.loads(await self.envoy_page(f"/stats?format=json&filter=^{name.replace('.', '[.]')}$"))
        return sum(int(stat.get("value", 0)) for stat in page["stats"])

    def log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log_entries(self) -> Iterator[dict[str, Any]]:
        """Whole lines of the picker's log."""
        for line in self.log_path("picker").read_text(encoding="utf-8").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                yield json.loads(line)

    async def completed(self, request_id: str, *, seconds: float = 10.0) -> dict[str, Any]:
        """The picker's log entry about the end of a request."""

        async def logged() -> dict[str, Any] | None:
            entries = (e for e in self.log_entries() if e["message"] == "request completed")
            return next((e for e in entries if e["request_id"] == request_id), None)

        return dict(await eventually(logged, seconds=seconds, what=f"the end of {request_id} was never logged"))

    def log_sections(self) -> list[tuple[str, str]]:
        """Ends of both logs, for the report of a failed test."""
        return [(f"log of {p.stem}", p.read_text(errors="replace")[-6000:]) for p in self.folder.glob("*.log")]

    # -- requests ---------------------------------------------------------------------------------------------------

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        """A request to the gateway, read to its end; the arguments are aiohttp's."""
        options.setdefault("allow_redirects", False)
        return await _read(self.session.request(method, self.base_url + path, **options))

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.request("GET", path, **options)

    async def post(self, path: str, document: Any, *, headers: Mapping[str, str] | None = None) -> Reply:
        """Post a JSON document."""
        body = io.BytesIO(json.dumps(document).encode())
        return await self.request(
            "POST", path, data=body, headers={"Content-Type": "application/json", **(headers or {})}
        )

    async def chat(self, model: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Reply:
        """A small chat."""
        return await self.post("/v1/chat/completions", chat(model, **fields), headers=headers)


async def _read(request: Any) -> Reply:
    async with request as response:
        return Reply(response.status, response.headers, await response.read())


def _with(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The beginning of a command that runs in this environment."""
    return ("/usr/bin/env", *(f"{name}={value}" for name, value in environment.items())) if environment else ()


def free_port() -> int:
    """A port that was free a moment ago."""
    with _reserve() as reserved:
        return int(reserved.getsockname()[1])


def _reserve() -> socket.socket:
    """A port of loopback that nobody else is given while a process of ours listens on it, or does not."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved
