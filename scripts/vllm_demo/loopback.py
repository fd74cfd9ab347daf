"""Loopback ports and plain HTTP to them, without a client library in between."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

HOST: Final = "127.0.0.1"
_MAX_BODY_BYTES: Final = 4_000_000
_PART_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the other side says
        """The body as JSON; ValueError if it is none."""
        return json.loads(self.body)


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str, *, timeout_seconds: float = 10.0) -> Answer:
    """GET *path*; OSError or http.client.HTTPException when there is no answer."""
    return _exchange(port, "GET", path, None, {}, timeout_seconds)


def post(
    port: int,
    path: str,
    content: object,
    headers: dict[str, str] | None = None,
    *,
    timeout_seconds: float = 120.0,
) -> Answer:
    """POST *content* as JSON; OSError or http.client.HTTPException when there is no answer."""
    body = json.dumps(content).encode()
    return _exchange(port, "POST", path, body, {"content-type": "application/json"} | (headers or {}), timeout_seconds)


@contextmanager
def opened_stream(
    port: int, path: str, content: object, *, timeout_seconds: float = 120.0
) -> Iterator[Iterator[bytes]]:
    """POST *content* as JSON and give the parts of the answer as they come; leaving closes the connection.

    Raises:
        OSError: There is no answer, or not with 200; http.client.HTTPException likewise.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_seconds)
    try:
        connection.request("POST", path, body=json.dumps(content), headers={"content-type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            msg = f"{path} answers {response.status}: {response.read(1000)!r}"
            raise OSError(msg)
        yield iter(lambda: response.read1(_PART_BYTES), b"")
    finally:
        connection.close()


def answers_ok(port: int, path: str) -> bool:
    """Whether *path* answers 200 right now."""
    try:
        return get(port, path, timeout_seconds=2.0).status == 200
    except (OSError, http.client.HTTPException):
        return False


def _exchange(
    port: int, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout_seconds: float
) -> Answer:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_seconds)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, response.read(_MAX_BODY_BYTES))
    finally:
        connection.close()
