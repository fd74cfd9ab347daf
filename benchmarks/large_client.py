"""One client that sends large bodies, one after the other: ``python -m benchmarks.large_client HOST PORT BYTES``.

A process of its own, so that its copying holds up no other client's clock. It says ``ready``, begins at a line with a
number on standard input, the bytes per second of its network (0: as fast as loopback goes), ends after the body that is
under way at the next line, and writes what became of all as a line of JSON. Bodies ask in turn for a JSON answer and
for a stream, which makes the gateway change and send back the whole body.
"""

import http.client
import json
import select
import sys
import time
from collections.abc import Iterator
from io import FileIO
from itertools import count

from benchmarks.workloads import Workload

_SECONDS = 60.0
_BLOCK_BYTES = 64 * 1024


def _bodies(size: int) -> Iterator[bytes]:
    kinds = [Workload("large", size, events) for events in (0, 1)]
    for number in count():
        yield kinds[number % 2].body(number)


def _paced(body: bytes, bytes_per_second: float) -> Iterator[bytes]:
    """Yield *body* in blocks, none before its time."""
    began = time.perf_counter()
    for at in range(0, len(body), _BLOCK_BYTES):
        time.sleep(max(0.0, began + at / bytes_per_second - time.perf_counter()))
        yield body[at : at + _BLOCK_BYTES]


def _send(connection: http.client.HTTPConnection, body: bytes, bytes_per_second: float) -> str:
    """Send one; return what went wrong, empty if nothing did."""
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    try:
        blocks = _paced(body, bytes_per_second) if bytes_per_second else body
        connection.request("POST", "/v1/chat/completions", blocks, headers)
        response = connection.getresponse()
        said = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"{type(error).__name__}: {error}"
    return "" if response.status == 200 else f"status {response.status}: {said[:200].decode(errors='replace')}"


def main() -> None:
    host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    bodies = _bodies(size)
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    # Unbuffered: a line that was read ahead would not be seen by `select`.
    commands = FileIO(0, closefd=False)
    print("ready", flush=True)
    while line := commands.readline():
        seconds: list[float] = []
        errors: list[str] = []
        while not select.select([commands], [], [], 0)[0]:
            body = next(bodies)
            began = time.perf_counter()
            if error := _send(connection, body, float(line)):
                errors.append(error)
            seconds.append(time.perf_counter() - began)
        commands.readline()
        print(json.dumps({"seconds": seconds, "errors": errors}), flush=True)


if __name__ == "__main__":
    main()
