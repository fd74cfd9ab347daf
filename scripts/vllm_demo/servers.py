"""vLLM API servers on loopback, with random weights and limits small enough to see queues."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from child import Child, wait_until
from loopback import HOST, answers_ok, free_port, get

MODEL: Final = "tiny-llama"
CONTEXT_TOKENS: Final = 2048
MAX_RUNNING: Final = 4
KV_BLOCKS: Final = 200
KV_BLOCK_TOKENS: Final = 32

_START_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class ModelServer:
    """One running vLLM API server."""

    child: Child
    port: int

    @property
    def address(self) -> str:
        """``ip:port`` as the gateway knows it."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Base URL without path."""
        return f"http://{self.address}"

    def metrics_page(self) -> str:
        """Read the metrics page."""
        return get(self.port, "/metrics").body.decode("utf-8")


@contextmanager
def running_servers(folder: Path, python: Path, model_folder: Path, count: int) -> Iterator[tuple[ModelServer, ...]]:
    """Start *count* servers, wait until all are healthy, and end them on leaving.

    Args:
        folder: Where logs and the servers' own caches go.
        python: Interpreter of an environment with vLLM.
        model_folder: Tokenizer and configuration.
        count: How many; each gets a port and, as far as there are enough, a processor core of its own.
    """
    cores = sorted(os.sched_getaffinity(0))
    servers: list[ModelServer] = []
    try:
        for number in range(count):
            port = free_port()
            child = Child(
                f"vllm-{number + 1}",
                _command(python, model_folder, port),
                folder / "logs" / f"vllm-{number + 1}.log",
                _environment(folder / "home", cores[number % len(cores)]),
            )
            print(f"{child.name}: pid {child.pid}, http://{HOST}:{port}, log {child.log_path}", flush=True)
            servers.append(ModelServer(child, port))
        for server in servers:
            wait_until(
                lambda port=server.port: answers_ok(port, "/health"),
                [other.child for other in servers],
                server.child.name,
                timeout_seconds=_START_SECONDS,
            )
        yield tuple(servers)
    finally:
        for server in servers:
            server.child.stop()


def _command(python: Path, model_folder: Path, port: int) -> list[str]:
    options = {
        "host": HOST,
        "port": port,
        "model": model_folder,
        "served-model-name": MODEL,
        "load-format": "dummy",
        "dtype": "bfloat16",
        "max-model-len": CONTEXT_TOKENS,
        "max-num-seqs": MAX_RUNNING,
        "max-num-batched-tokens": 512,
        "num-gpu-blocks-override": KV_BLOCKS,
        "block-size": KV_BLOCK_TOKENS,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [str(python), "-m", "vllm.entrypoints.openai.api_server", *words, "--enforce-eager"]


def _environment(home: Path, core: int) -> dict[str, str]:
    """Return the whole environment of a server: nothing inherited, no network but loopback."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": str(core),
        "VLLM_HOST_IP": HOST,
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONHASHSEED": "0",
    }
