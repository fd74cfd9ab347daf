"""``igw up``: real Envoy, real picker, simulated model servers; it serves, heals, drains and leaves nothing behind."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

IGW = (sys.executable, "-m", "igw")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CHAT = {"model": "chat", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}


class Output:
    """Collects what a process says while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.text = ""
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.text += line

    def find(self, pattern: str) -> str:
        match = re.search(pattern, self.text, re.MULTILINE)
        return match[1] if match else ""


class Gateway:
    """A running ``igw up`` with its own temporary folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        command = [*IGW, "up", "--port", "0", "--admin-port", "0", *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(os.environ, TMPDIR=str(folder), NO_COLOR="1"),  # noqa: TID251 - a child's environment
        )
        self.output = Output(self.process)

    def wait_until_ready(self) -> None:
        eventually(lambda: "status " in self.output.text or self.process.poll() is not None, 60)
        assert "ready in" in self.output.text, self.output.text
        self.url = self.output.find(r"URL +(http://\S+)/v1")
        self.admin = self.output.find(r"--admin (http://\S+)")

    def children(self) -> dict[str, int]:
        """Process ids of the picker, of one kept in reserve if there is one, and of Envoy."""
        with OPENER.open(f"{self.admin}/debug/state", timeout=20) as response:
            picker = json.load(response)["pid"]
        found = {}
        for pid in descendants(self.process.pid):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"endpoint_picker" in command:
                    found["picker" if pid == picker else "reserve"] = pid
                elif b"bootstrap.json" in command:
                    found["envoy"] = pid
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(holds: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def post(url: str, body: dict[str, object], **headers: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    try:
        with OPENER.open(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def answers(url: str) -> bool:
    try:
        return post(url, CHAT)[0] == 200
    except OSError:
        return False


def listed_models(url: str) -> list[str]:
    with OPENER.open(f"{url}/v1/models", timeout=20) as response:
        return [model["id"] for model in json.load(response)["data"]]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[str]]:
    """URLs of two simulated model servers that serve ``base``."""
    command = [*IGW, "simulate", "--port", "0", "--count", "2", "--model", "base", "--timing", "fast"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        output = Output(process)
        try:
            eventually(lambda: output.text.count("http://") == 2, 60)
            yield re.findall(r"http://\S+", output.text)
        finally:
            process.terminate()


@pytest.fixture
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="it-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def start(short_folder: Path) -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def run(*arguments: str) -> Gateway:
        started.append(Gateway(short_folder, *arguments))
        return started[-1]

    yield run
    for gateway in started:
        if gateway.process.poll() is None:
            gateway.process.kill()
            gateway.process.wait()
        assert gateway.process.stdout is not None
        gateway.output._thread.join(10)
        gateway.process.stdout.close()


def manifest(model: str, servers: list[str], target: str = "base") -> str:
    ports = [int(url.rpartition(":")[2]) for url in servers]
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "apiVersion": "inference.networking.k8s.io/v1",
                    "kind": "InferencePool",
                    "metadata": {"name": "p"},
                    "spec": {"selector": {"matchLabels": {"app": "p"}}, "targetPorts": [{"number": 8000}]},
                },
                {
                    "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
                    "kind": "InferenceModel",
                    "metadata": {"name": "m"},
                    "spec": {
                        "modelName": model,
                        "poolRef": {"group": "inference.networking.k8s.io", "name": "p"},
                        "targetModels": [{"name": target}],
                    },
                },
                *(
                    {
                        "apiVersion": "discovery.k8s.io/v1",
                        "kind": "EndpointSlice",
                        "metadata": {"name": f"s{port}", "labels": {"app": "p"}},
                        "addressType": "IPv4",
                        "ports": [{"port": port}],
                        "endpoints": [{"addresses": ["127.0.0.1"]}],
                    }
                    for port in ports
                ),
            ],
        },
        indent=1,
    )


def test_serves_servers_of_the_command_line_and_leaves_nothing_behind(
    start: Callable[..., Gateway], servers: list[str], short_folder: Path
) -> None:
    named = [servers[0], servers[1].replace("127.0.0.1", "localhost")]
    gateway = start("--pool", f"chat={','.join(named)}")
    gateway.wait_until_ready()
    assert "models      chat → default/chat (2 endpoints)" in gateway.output.text
    assert listed_models(gateway.url) == ["chat"]
    status, answer = post(gateway.url, CHAT)
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 4  # type: ignore[index]

    shown = subprocess.run([*IGW, "status", "--admin", gateway.admin], capture_output=True, text=True, check=True)
    for url in servers:
        assert url.removeprefix("http://") in shown.stdout
    as_json = subprocess.run(
        [*IGW, "status", "--admin", gateway.admin, "-o", "json"], capture_output=True, text=True, check=True
    )
    assert json.loads(as_json.stdout)["synced"] is True

    children = gateway.children()
    assert set(children) - {"reserve"} == {"picker", "envoy"}
    (folder,) = short_folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert gateway.stop() == 0
    assert not any(map(alive, children.values()))
    assert list(short_folder.iterdir()) == []
    for url in (gateway.url, gateway.admin):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", int(url.rpartition(":")[2])))
            free.listen()
    assert "Traceback" not in gateway.output.text


def test_a_child_that_is_killed_comes_back(start: Callable[..., Gateway], servers: list[str]) -> None:
    gateway = start("--pool", f"chat={','.join(servers)}")
    gateway.wait_until_ready()
    for name, shown in (("envoy", "envoy"), ("picker", "endpoint picker")):
        before = gateway.children()[name]
        os.kill(before, signal.SIGKILL)
        eventually(lambda shown=shown: f"{shown} is ready again" in gateway.output.text, 60)
        assert f"{shown} ended with signal SIGKILL; starting it again in" in gateway.output.text
        assert gateway.children()[name] != before
        eventually(lambda: answers(gateway.url))
    assert gateway.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
def test_a_killed_igw_leaves_no_process_and_its_folder_goes_at_the_next_start(
    start: Callable[..., Gateway], servers: list[str], short_folder: Path
) -> None:
    gateway = start("--pool", f"chat={servers[0]}")
    gateway.wait_until_ready()
    children = gateway.children()
    gateway.process.kill()
    gateway.process.wait()
    eventually(lambda: not any(map(alive, children.values())))
    for url in (gateway.url, gateway.admin):
        assert not connects(url.removeprefix("http://"))
    (abandoned,) = short_folder.iterdir()
    os.utime(abandoned, (0, 0))
    again = start("--pool", f"chat={servers[0]}")
    again.wait_until_ready()
    assert not abandoned.exists()
    assert again.stop() == 0


def test_answers_under_way_go_on_to_their_end_after_ctrl_c(start: Callable[..., Gateway]) -> None:
    command = [*IGW, "simulate", "--port", "0", "--model", "base", "--timing", "h100-8b", "--time-scale", "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as slow:
        try:
            output = Output(slow)
            eventually(lambda: "http://" in output.text, 60)
            url = output.find(r"(http://\S+)")
            gateway = start("--pool", f"chat={url}")
            gateway.wait_until_ready()
            host = gateway.url.removeprefix("http://")
            connection = http.client.HTTPConnection(host, timeout=30)
            body = json.dumps(CHAT | {"stream": True, "max_tokens": 200, "ignore_eos": True, "min_tokens": 200})
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200
            assert response.readline()
            gateway.process.send_signal(signal.SIGINT)
            eventually(lambda: not connects(host))
            assert b"data: [DONE]" in response.read()
            connection.close()
            assert gateway.process.wait(60) == 0
        finally:
            slow.terminate()


def connects(host: str) -> bool:
    address, _, port = host.partition(":")
    try:
        socket.create_connection((address, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def test_edits_apply_live_and_a_broken_one_keeps_the_last_good_state(
    start: Callable[..., Gateway], servers: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "gateway.json"
    file.write_text(manifest("chat", servers))
    gateway = start("-f", str(tmp_path))
    gateway.wait_until_ready()
    assert answers(gateway.url)
    began = time.monotonic()
    file.write_text(manifest("chat-2", servers))
    eventually(lambda: listed_models(gateway.url) == ["chat-2"])
    # One second on a machine of its own; this one is shared by the whole test run.
    assert time.monotonic() - began < 3.0
    file.write_text(manifest("chat-3", servers).replace("targetPorts", "targetPort"))
    eventually(lambda: "targetPort" in gateway.output.text)
    assert listed_models(gateway.url) == ["chat-2"]
    assert gateway.stop() == 0


def test_a_key_is_asked_for_when_there_is_one(
    start: Callable[..., Gateway], servers: list[str], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("sesame\n")
    token = tmp_path / "token"
    token.write_text("open-sesame-01234\n")
    gateway = start("--pool", f"chat={servers[0]}", "--api-key-file", str(key), "--admin-token-file", str(token))
    gateway.wait_until_ready()
    said = " ".join(gateway.output.text.split())
    status = re.search(r"igw (status --admin \S+ --admin-token-file \S+)", said)
    assert status
    for arguments, code in ((status[1].split(), 0), (status[1].split()[:3], 1)):
        asked = subprocess.run([*IGW, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert asked.returncode == code, asked
    assert post(gateway.url, CHAT)[0] == 401
    assert post(gateway.url, CHAT, Authorization="Bearer thistle")[0] == 401
    assert post(gateway.url, CHAT, Authorization="Bearer sesame")[0] == 200
    assert "sesame" not in gateway.output.text
    assert gateway.stop() == 0


def test_all_addresses_without_a_key_gives_a_warning(start: Callable[..., Gateway], servers: list[str]) -> None:
    gateway = start("--pool", f"chat={servers[0]}", "--host", "0.0.0.0")
    gateway.wait_until_ready()
    assert "warning: 0.0.0.0:" in gateway.output.text
    assert gateway.url.startswith("http://127.0.0.1:")
    assert answers(gateway.url)
    assert gateway.stop() == 0


def run_to_the_end(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*IGW, "up", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run_to_the_end("--pool", "chat=http://127.0.0.1:1", "--port", str(port))
    assert result.returncode == 1
    assert result.stderr == f"igw: port {port} on 127.0.0.1 is in use (choose another with --port)\n"


def test_a_host_of_another_machine_cannot_be_listened_on() -> None:
    result = run_to_the_end("--pool", "chat=http://127.0.0.1:1", "--host", "192.0.2.1")
    assert result.returncode == 2
    assert result.stderr == "igw: 192.0.2.1 is not an address of this machine\n"


def test_a_server_name_that_does_not_resolve_is_said() -> None:
    result = run_to_the_end("--pool", "chat=http://no-such-host.invalid", "--port", "0", "--admin-port", "0")
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "igw: --pool chat: host no-such-host.invalid cannot be resolved"


def test_broken_manifests_are_named_with_line_and_path(tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(manifest("chat", []).replace("targetPorts", "targetPort"))
    result = run_to_the_end("-f", str(file), "--port", "0", "--admin-port", "0")
    assert result.returncode == 2
    assert f"{file}:" in result.stderr
    assert "targetPort" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("igw: nothing is served because of")
    assert "Traceback" not in result.stderr


def test_an_envoy_that_does_not_run_is_said_with_its_words(tmp_path: Path) -> None:
    envoy = tmp_path / "envoy"
    envoy.write_text("#!/bin/sh\necho 'wrong architecture' >&2\nexit 3\n")
    envoy.chmod(0o700)
    result = run_to_the_end(
        "--pool", "chat=http://127.0.0.1:1", "--port", "0", "--admin-port", "0", "--envoy", str(envoy)
    )
    assert result.returncode == 1
    assert "igw: envoy ended with exit code 3 before it was ready\n  wrong architecture\n" in result.stderr
    assert "Traceback" not in result.stderr
