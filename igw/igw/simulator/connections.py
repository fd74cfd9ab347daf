"""Ending TCP connections the way a dying process does."""

import asyncio
import os
import socket
import struct


def reset(transport: asyncio.Transport | None) -> None:
    """Reset a connection: what was not sent is dropped and the peer sees RST instead of a clean end."""
    if transport is None:
        return
    known = transport.get_extra_info("socket")
    if known is not None and known.fileno() >= 0:
        # A duplicate shares the connection; the option outlives it.
        with socket.socket(fileno=os.dup(known.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a TCP socket bound to an address but not listening; OSError where the address is taken.

    Two such sockets can share an address as long as neither listens, so one of them keeps it while the other is closed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return sock
