"""One client that sends large bodies, one after the other: ``python -m benchmarks.large_client HOST PORT BYTES``.

A process of its own, so that its copying holds up no other client's clock. It begins at the line ``begin`` on standard
input and ends after the body that is under way at the next line, then writes what became of them as a line of JSON.
Bodies ask in turn for a JSON answer and for a stream, which makes the gateway change and send back the whole body.
"""

import http.client
import json
import select
import sys
import time
from collections.abc import Iterator
from itertools import count

from benchmarks.workloads import Workload

_SECONDS = 60.0


def _bodies(size: int) -> Iterator[bytes]:
    kinds = [Workload("large", size, events) for events in (0, 1)]
    for number in count():
        yield kinds[number % 2].body(number)


def _send(connection: http.client.HTTPConnection, body: bytes) -> str:
    """Send one; return what went wrong, empty if nothing did."""
    try:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
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
    while sys.stdin.readline():
        seconds: list[float] = []
        errors: list[str] = []
        while not select.select([sys.stdin], [], [], 0)[0]:
            body = next(bodies)
            began = time.perf_counter()
            if error := _send(connection, body):
                errors.append(error)
            seconds.append(time.perf_counter() - began)
        sys.stdin.readline()
        print(json.dumps({"seconds": seconds, "errors": errors}), flush=True)


if __name__ == "__main__":
    main()
