"""Envoy's admin interface, on a Unix socket in the runtime folder: is it ready, alive or idle; stop listening."""

import asyncio
import json
from pathlib import Path
from typing import Final

import aiohttp

_TIMEOUT_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.1
# Envoy's admin wants some host name; it is never resolved.
_BASE: Final = "http://envoy"


async def missing_for_ready(socket: Path, port: int) -> str:
    """Return what keeps Envoy from serving *port*; "" once it does."""
    try:
        status, body = await _ask(socket, "GET", "/ready")
        if status != 200:
            return f"Envoy is {body.strip().lower() or status}"
        _, body = await _ask(socket, "GET", "/listeners?format=json")
        if port in _ports(body):
            return ""
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return "its admin interface does not answer"
    return f"Envoy does not listen on port {port}"


async def answers(socket: Path) -> bool:
    """Return whether Envoy's main thread answers, whatever it says."""
    try:
        await _ask(socket, "GET", "/ready")
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False
    return True


async def drain(socket: Path, seconds: float) -> None:
    """Stop listening and wait until no request is left or *seconds* are over.

    Answers already under way go on to their end; idle connections are not waited for.
    """
    try:
        async with asyncio.timeout(seconds):
            # First each answer says `connection: close`, then no connection is accepted any more.
            await _ask(socket, "POST", "/drain_listeners?graceful&skip_exit")
            await _ask(socket, "POST", "/drain_listeners")
            while True:
                if await _active_requests(socket) == 0:
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return


async def _active_requests(socket: Path) -> int:
    _, body = await _ask(socket, "GET", "/stats?filter=^http%5C..*downstream_rq_active$&format=json")
    return sum(
        int(stat["value"])
        for stat in json.loads(body)["stats"]
        # The admin interface counts itself.
        if not stat["name"].startswith("http.admin.")
    )


def _ports(listeners: str) -> set[int]:
    found = json.loads(listeners).get("listener_statuses", [])
    addresses = [entry.get("local_address", {}).get("socket_address", {}) for entry in found]
    return {int(address["port_value"]) for address in addresses if "port_value" in address}


async def _ask(socket: Path, method: str, path: str) -> tuple[int, str]:
    async with (
        asyncio.timeout(_TIMEOUT_SECONDS),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
        session.request(method, _BASE + path) as response,
    ):
        return response.status, await response.text()
