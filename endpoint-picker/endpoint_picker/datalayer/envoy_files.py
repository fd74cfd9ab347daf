"""Writes Envoy's files in an order in which no request can meet a name that Envoy does not know yet.

File-based discovery has no order across kinds. So: endpoints and secrets first, then clusters; once Envoy's admin
interface shows the clusters, routes and listeners. What has disappeared stays until nothing can refer to it any more.
Every file is replaced by rename; Envoy ignores edits in place.
"""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, cast

from endpoint_picker.datalayer.departing_endpoints import DepartingEndpoints
from endpoint_picker.datalayer.envoy_admin import EnvoyVersions
from envoy_config import names
from envoy_config.fields import Json

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.02
_ACCEPT_SECONDS: Final = 5.0
_ENDPOINTS_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 60.0
_SILENT_LOOKS: Final = 3


class Versions(Protocol):
    """The part of Envoy's admin interface that is needed here."""

    async def versions(self) -> EnvoyVersions | None:
        """Return what Envoy has taken over; None when it does not run."""

    async def refusals(self) -> tuple[str, ...]:
        """Return Envoy's own words about what it refused."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one set of files.

    Attributes:
        accepted: Envoy has taken them over, or does not run yet and will read them at its start.
        running: Envoy answered.
        message: Envoy's words where it refused.
    """

    accepted: bool
    running: bool
    message: str = ""


def _route_version(listener: str, versions: EnvoyVersions) -> str:
    return dict(versions.routes).get(listener, "")


def _cluster_of(endpoint_file: Json) -> str:
    return cast("str", cast("list[Json]", endpoint_file["resources"])[0]["cluster_name"])


def _statistic_name(cluster: str) -> str:
    """Return *cluster* as Envoy spells it in the names of its statistics."""
    return cluster.replace(":", "_")


class EnvoyFiles:
    """The files of one Envoy; the only writer of its directory.

    Args:
        directory: Absolute folder; made with access for its owner only.
        admin: Envoy's admin interface.
        clock: Monotonic seconds.
    """

    def __init__(self, directory: str, admin: Versions, *, clock: Callable[[], float]) -> None:
        self._directory = Path(directory)
        self._admin = admin
        self._clock = clock
        self._written: dict[str, Json] = {}
        self._departed: dict[str, tuple[Json, float]] = {}  # cluster name -> (cluster, when it may go)
        self._departing = DepartingEndpoints(clock)
        self._refused: dict[str, tuple[Json, str]] = {}  # by path, what Envoy refused last and its words

    async def apply(self, files: Mapping[str, Json], *, before_routes: Callable[[], None]) -> Outcome:
        """Bring Envoy to *files*; *before_routes* is called when every cluster can be dialled.

        At the first file that Envoy refuses it stops, and puts back what was in force: a restarted Envoy must not find
        a refused file.

        Raises:
            OSError: A file cannot be written; what Envoy has stays in force.
        """
        running = await self._admin.versions()
        clusters = self._with_departed(files)
        changed: list[Json] = []
        for path, content in files.items():
            if path.startswith("eds/"):
                endpoints = self._departing.merge(path, self._written.get(path), content)
                if self._write(path, endpoints):
                    changed.append(endpoints)
            elif path.startswith("sds/") or path == names.BOOTSTRAP_FILE:
                self._write(path, content)
        refused = await self._bring(names.CLUSTERS_FILE, clusters, lambda v: v.clusters, running)
        if not refused:
            if running is not None:
                await self._await_endpoints(changed)
            before_routes()
        for path, content in files.items():
            if path.startswith("rds/") and not refused:
                listener = cast("str", cast("list[Json]", content["resources"])[0]["name"])
                refused = await self._bring(path, content, partial(_route_version, listener), running)
        if not refused:
            listeners = files[names.LISTENERS_FILE]
            refused = await self._bring(names.LISTENERS_FILE, listeners, lambda v: v.listeners, running)
        return Outcome(accepted=not refused, running=running is not None, message=refused)

    async def _await_endpoints(self, contents: Sequence[Json]) -> None:
        """Wait until Envoy has read these endpoint files: what it does not know yet must not be chosen.

        A cluster that it does not have, or that never says so, holds up nothing for long.
        """
        wanted = {_statistic_name(_cluster_of(content)): cast("str", content["version_info"]) for content in contents}
        deadline = self._clock() + _ENDPOINTS_SECONDS
        while wanted and self._clock() < deadline:
            now = await self._admin.versions()
            if now is None:
                return
            known = dict(now.endpoints)
            wanted = {name: version for name, version in wanted.items() if known.get(name) != version}
            if wanted:
                await asyncio.sleep(_POLL_SECONDS)

    async def _bring(
        self, path: str, content: Json, read: Callable[[EnvoyVersions], str], running: EnvoyVersions | None
    ) -> str:
        """Write one file and wait until Envoy has it; return its objection."""
        refused, objection = self._refused.get(path, (None, ""))
        if running is not None and refused == content:
            return objection
        self._refused.pop(path, None)
        before = await self._admin.versions() if running is not None else None
        previous = self._written.get(path)
        if not self._write(path, content) or before is None:
            return ""
        objection = await self._await_version(read, content, before)
        if objection and previous is not None:
            self._write(path, previous)
            self._refused[path] = (content, objection)
        return objection

    async def verify(self) -> Outcome | None:
        """Return what an Envoy that started after the files were written made of them; None while it does not say."""
        now = await self._admin.versions()
        if now is None:
            return None
        routes = dict(now.routes)
        wanted = [(now.clusters, names.CLUSTERS_FILE), (now.listeners, names.LISTENERS_FILE)]
        for path, content in self._written.items():
            if path.startswith("rds/"):
                listener = cast("str", cast("list[Json]", content["resources"])[0]["name"])
                wanted.append((routes.get(listener, ""), path))
        if all(version == self._written[path]["version_info"] for version, path in wanted):
            return Outcome(accepted=True, running=True)
        if now.rejected:
            return Outcome(accepted=False, running=True, message=await self._refusal())
        return None

    async def _refusal(self) -> str:
        return "; ".join(await self._admin.refusals()) or "its log says why"

    async def _await_version(self, read: Callable[[EnvoyVersions], str], content: Json, before: EnvoyVersions) -> str:
        """Wait until Envoy has taken over *content*; return why not, empty if it has."""
        deadline = self._clock() + _ACCEPT_SECONDS
        silent = 0
        while self._clock() < deadline:
            now = await self._admin.versions()
            if now is None:
                silent += 1
                if silent > _SILENT_LOOKS:
                    return ""  # it is gone and will read the files when it comes back
                await asyncio.sleep(_POLL_SECONDS)
                continue
            if read(now) == content["version_info"] and not now.warming:
                return ""
            if now.rejected > before.rejected:
                return await self._refusal()
            await asyncio.sleep(_POLL_SECONDS)
        return f"Envoy did not take over version {content['version_info']} within {_ACCEPT_SECONDS:g} s"

    def _with_departed(self, files: Mapping[str, Json]) -> Json:
        """Return the cluster file with clusters that requests under way may still use."""
        now = self._clock()
        wanted = cast("list[Json]", files[names.CLUSTERS_FILE]["resources"])
        present = {cast("str", cluster["name"]) for cluster in wanted}
        old = cast("list[Json]", self._written.get(names.CLUSTERS_FILE, {}).get("resources", []))
        for cluster in old:
            name = cast("str", cluster["name"])
            if name not in present:
                self._departed.setdefault(name, (cluster, now + _LINGER_SECONDS))
        for name in [n for n, (_, until) in self._departed.items() if n in present or until <= now]:
            del self._departed[name]
        if not self._departed:
            return files[names.CLUSTERS_FILE]
        lingering = [cluster for cluster, _ in self._departed.values()]
        digest = hashlib.sha256(repr(sorted(self._departed)).encode()).hexdigest()[:8]
        version = f"{files[names.CLUSTERS_FILE]['version_info']}+{digest}"
        return {**files[names.CLUSTERS_FILE], "version_info": version, "resources": [*wanted, *lingering]}

    def prune(self, files: Mapping[str, Json]) -> None:
        """Remove files of endpoints and secrets that nothing refers to any more."""
        keep = set(files) | {names.endpoints_file(name) for name in self._departed}
        kept_secrets = {names.cluster_hash(name) for name in self._departed}
        for path in [p for p in self._written if p.startswith(("eds/", "sds/", "rds/")) and p not in keep]:
            if Path(path).name.partition("-")[0] not in kept_secrets:
                (self._directory / path).unlink(missing_ok=True)
                self._departing.forget(path)
                del self._written[path]

    @property
    def lingering(self) -> bool:
        """Whether there are departed clusters to be removed later."""
        return bool(self._departed)

    @property
    def overdue(self) -> bool:
        """Whether some of them, or endpoints that have left, may go now."""
        return self._departing.overdue or any(until <= self._clock() for _, until in self._departed.values())

    def _write(self, path: str, content: Json) -> bool:
        """Replace one file if its content differs; return whether it did."""
        if self._written.get(path) == content:
            return False
        target = self._directory / path
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = target.with_name(target.name + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, separators=(",", ":"))
        temporary.rename(target)
        self._written[path] = content
        return True
