"""`igw up` in front of the model servers, as a child process."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from child import Child, wait_until
from loopback import HOST, answers_ok, free_port, get

from inference_api.names import INFERENCE_GROUP, INFERENCE_X_GROUP

_START_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: where clients and where administrators talk to it."""

    child: Child
    port: int
    admin_port: int

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client."""
        return f"http://{HOST}:{self.port}/v1"

    def endpoint_states(self, model: str) -> dict[str, dict[str, Any]]:
        """Return what the gateway says of each endpoint that serves *model*, by address.

        Raises:
            LookupError: It serves no such model, or names a pool it does not show.
        """
        state = get(self.admin_port, "/debug/state").json
        pool = next((known["pool"] for known in state["models"] if known["name"] == model), None)
        for shown in state["pools"]:
            # Shown as namespace/name:version, referred to as namespace/name.
            if pool is not None and pool in {shown["name"], shown["name"].rpartition(":")[0]}:
                return {endpoint["address"]: endpoint for endpoint in shown["endpoints"]}
        msg = f"no pool of {model}: models {state['models']}, pools {[shown['name'] for shown in state['pools']]}"
        raise LookupError(msg)

    def metric(self, name: str, label: str = "") -> float:
        """Return the sum of the series of *name* that carry *label* (``key="value"``), 0 if there are none."""
        page = get(self.admin_port, "/metrics").body.decode("utf-8")
        series = (line.rpartition(" ") for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(value) for labelled, _, value in series if label in labelled)


@contextmanager
def running_gateway(folder: Path, model: str, urls: Sequence[str], aliases: Mapping[str, str]) -> Iterator[Gateway]:
    """Start ``igw up``, wait until it serves, and end it on leaving.

    Args:
        folder: Where its log and manifests go.
        model: Name of the pool and of the model.
        urls: The model servers of the pool.
        aliases: Further model names of the same pool, with the name the servers are asked for.
    """
    port, admin_port = free_port(), free_port()
    manifests = folder / "aliases.yaml"
    manifests.write_text(
        yaml.safe_dump_all([_alias(model, name, target) for name, target in aliases.items()]), encoding="utf-8"
    )
    command = [str(Path(sys.executable).with_name("igw")), "up", f"--pool={model}={','.join(urls)}"]
    command += [f"--file={manifests}", f"--port={port}", f"--admin-port={admin_port}"]
    child = Child("igw up", command, folder / "logs" / "igw.log")
    print(f"{child.name}: pid {child.pid}, http://{HOST}:{port}, admin {admin_port}, log {child.log_path}", flush=True)
    try:
        wait_until(
            lambda: answers_ok(admin_port, "/readyz") and answers_ok(port, "/v1/models"),
            [child],
            child.name,
            timeout_seconds=_START_SECONDS,
        )
        yield Gateway(child, port, admin_port)
    finally:
        child.stop()


def _alias(pool: str, name: str, target: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{INFERENCE_X_GROUP}/v1alpha2",
        "kind": "InferenceModel",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "modelName": name,
            "poolRef": {"group": INFERENCE_GROUP, "kind": "InferencePool", "name": pool},
            "targetModels": [{"name": target}],
        },
    }
