"""How many connections the limit on open files has room for: an Envoy that runs out of files answers nobody."""

import resource
from typing import Final, NamedTuple

_KEPT_FREE: Final = 512
"""For listeners, configuration files, the picker's sockets and health of the process itself."""
_FEWEST: Final = 64
_UNLIMITED: Final = 1_000_000


class ConnectionRoom(NamedTuple):
    """Connections that Envoy may hold at once: from clients, and to the model servers of one pool."""

    clients: int
    model_servers: int


def open_file_limit() -> int:
    """Return how many files a process of this user may open once it asks for all of them, as Envoy does."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _UNLIMITED if hard == resource.RLIM_INFINITY else min(hard, _UNLIMITED)


def connection_room(wanted: int, open_files: int) -> ConnectionRoom:
    """Return the room for *wanted* client connections: at most half of the files, so that each can be served."""
    usable = max(open_files - _KEPT_FREE, 2 * _FEWEST)
    clients = min(wanted, usable // 2)
    return ConnectionRoom(clients, usable - clients)
