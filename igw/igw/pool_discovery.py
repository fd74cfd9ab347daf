"""Keeps the pools of the command line true: resolves their hosts and asks their servers which model they serve."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import aiohttp
from pydantic import BaseModel, ValidationError

from igw.errors import CommandFailed
from igw.pool_flag import PoolFlag, ServerUrl
from igw.pool_manifests import PoolToServe, ResolvedServer, render_manifests

REFRESH_SECONDS: Final = 10.0
_RESOLVE_SECONDS: Final = 5.0
_MODELS_SECONDS: Final = 3.0
_LARGEST_ANSWER_BYTES: Final = 1024 * 1024


class PoolDiscovery:
    """Knows the address of each server and the model of each pool; keeps what it knew while it learns nothing new.

    Args:
        flags: The pools.
        write: Told the manifests whenever they changed.
        report: Told one line per event worth knowing.
    """

    def __init__(
        self, flags: Sequence[PoolFlag], *, write: Callable[[str], object], report: Callable[[str], None]
    ) -> None:
        self._flags = flags
        self._write = write
        self._report = report
        self._ips: dict[ServerUrl, str] = {}
        self._targets: dict[str, str] = {}
        self._lost: set[str] = set()
        self._written = ""

    async def begin(self) -> None:
        """Resolve and ask once, and write the first manifests.

        Raises:
            CommandFailed: A host name cannot be resolved.
        """
        await self._resolve_all()
        for flag in self._flags:
            for server in flag.servers:
                if server not in self._ips:
                    msg = f"--pool {flag.name}: host {server.host} cannot be resolved"
                    raise CommandFailed(msg)
        await self._refresh_models()
        self._write_if_changed()

    async def keep_true(self) -> None:
        """Resolve and ask again every ten seconds, for ever."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._resolve_all()
            await self._refresh_models()
            try:
                self._write_if_changed()
            except OSError as error:
                self._report(f"the pools of --pool stay as they were: {error}")

    async def _resolve_all(self) -> None:
        servers = {server for flag in self._flags for server in flag.servers}
        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(self._resolve(server))

    async def _resolve(self, server: ServerUrl) -> None:
        addresses = [server.host] if server.is_ip else await _look_up(server.host)
        known = self._ips.get(server)
        if not addresses:
            if known is not None and server.host not in self._lost:
                self._lost.add(server.host)
                self._report(f"host {server.host} no longer resolves; keeping {known}")
            return
        self._lost.discard(server.host)
        # Names with several addresses come in any order: stay where we are as long as that is one of them.
        if known in addresses:
            return
        self._ips[server] = addresses[0]
        if known is not None:
            self._report(f"host {server.host} is now {addresses[0]}")

    async def _refresh_models(self) -> None:
        async with aiohttp.ClientSession() as session:
            for flag in self._flags:
                answers: dict[ServerUrl, tuple[str, ...] | None] = {}
                async with asyncio.TaskGroup() as group:
                    for server in flag.servers:
                        group.create_task(_ask_models(session, server, answers))
                self._learn_target(flag, answers)

    def _learn_target(self, flag: PoolFlag, answers: Mapping[ServerUrl, tuple[str, ...] | None]) -> None:
        target = choose_target(flag.name, [answer for answer in answers.values() if answer is not None])
        if target is None:
            return
        known = self._targets.get(flag.name)
        if target != known:
            self._targets[flag.name] = target
            if known is not None or target != flag.name:
                self._report(f"{flag.name}: the model servers call it {target}")

    def _write_if_changed(self) -> None:
        pools = [
            PoolToServe(
                flag,
                tuple(ResolvedServer(s, self._ips[s]) for s in flag.servers if s in self._ips),
                self._targets.get(flag.name, flag.name),
            )
            for flag in self._flags
        ]
        text = render_manifests(pools)
        if text != self._written:
            self._write(text)
            self._written = text


def choose_target(name: str, answers: Sequence[Sequence[str]]) -> str | None:
    """Return the model that every server in *answers* serves alone, else *name*; None: nobody answered."""
    if not answers:
        return None
    only = {tuple(answer) for answer in answers}
    if len(only) == 1 and len(single := next(iter(only))) == 1:
        return single[0]
    return name


class _Model(BaseModel):
    id: str


class _ModelList(BaseModel):
    data: list[_Model]


async def _ask_models(
    session: aiohttp.ClientSession, server: ServerUrl, answers: dict[ServerUrl, tuple[str, ...] | None]
) -> None:
    """Put the models that *server* lists into *answers*, None if it does not say."""
    answers[server] = None
    try:
        async with asyncio.timeout(_MODELS_SECONDS), session.get(f"{server}/v1/models") as response:
            if response.status != 200:
                return
            page = bytearray()
            async for chunk in response.content.iter_any():
                page += chunk
                if len(page) > _LARGEST_ANSWER_BYTES:
                    return
            answers[server] = tuple(model.id for model in _ModelList.model_validate_json(bytes(page)).data)
    except (aiohttp.ClientError, OSError, TimeoutError, ValidationError):
        return


async def _look_up(host: str) -> list[str]:
    """Return the addresses of *host*, IPv4 first; empty if it has none or nobody answers in time."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return []
    ordered = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return [str(entry[4][0]) for entry in ordered]
