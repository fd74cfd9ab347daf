"""Writes Envoy's files in an order in which no request can meet a name that Envoy does not know yet.

File-based discovery has no order across kinds. So: endpoints and secrets first, then clusters; once Envoy's admin
interface shows the clusters, routes and listeners. What has disappeared stays until nothing can refer to it any more.
Every file is replaced by rename (Envoy ignores edits in place), and only once all of them have been written.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, cast

from endpoint_picker.datalayer.departing_endpoints import DepartingEndpoints
from endpoint_picker.datalayer.envoy_admin import EnvoyVersions
from endpoint_picker.datalayer.staged_files import StagedFiles
from envoy_config import names
from envoy_config.fields import Json

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.02
_ACCEPT_SECONDS: Final = 5.0
_ENDPOINTS_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 60.0
_SILENT_LOOKS: Final = 3
_PATTERNS: Final = (
    *(names.BOOTSTRAP_FILE, names.CLUSTERS_FILE, names.LISTENERS_FILE),
    *("eds/*.json", "sds/*.json", "rds/*.json"),
)


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
        self._files = StagedFiles(Path(directory), _PATTERNS)
        self._admin = admin
        self._clock = clock
        self._confirmed: set[str] = set()  # paths whose content Envoy has shown to us
        self._departed: dict[str, tuple[Json, float]] = {}  # cluster name -> (cluster, when it may go)
        self._departing = DepartingEndpoints(clock)
        self._refused: dict[str, tuple[Json, str]] = {}  # by path, what Envoy refused last and its words

    async def apply(self, files: Mapping[str, Json], *, before_routes: Callable[[], None]) -> Outcome:
        """Bring Envoy to *files*; *before_routes* is called when every cluster can be dialled.

        At the first file that Envoy refuses it stops, and puts back what was in force: a restarted Envoy must not find
        a refused file.

        Raises:
            OSError: A file cannot be written; nothing has changed then.
        """
        running = await self._admin.versions()
        contents = self._with_departed(files)
        self._files.stage(contents)
        try:
            return await self._publish(contents, running, before_routes)
        finally:
            self._files.discard()

    async def _publish(
        self, contents: Mapping[str, Json], running: EnvoyVersions | None, before_routes: Callable[[], None]
    ) -> Outcome:
        """Move staged files to their places in order, each after Envoy has taken over what it needs."""
        changed: list[Json] = []
        for path, content in contents.items():
            if path.startswith("eds/"):
                if self._files.publish(path):
                    changed.append(content)
            elif path.startswith("sds/") or path == names.BOOTSTRAP_FILE:
                self._files.publish(path)
        refused = await self._bring(names.CLUSTERS_FILE, contents, lambda v: v.clusters, running)
        if not refused:
            if running is not None:
                await self._await_endpoints(changed)
            before_routes()
        for path, content in contents.items():
            if path.startswith("rds/") and not refused:
                listener = cast("str", cast("list[Json]", content["resources"])[0]["name"])
                refused = await self._bring(path, contents, partial(_route_version, listener), running)
        if not refused:
            refused = await self._bring(names.LISTENERS_FILE, contents, lambda v: v.listeners, running)
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
        self,
        path: str,
        contents: Mapping[str, Json],
        read: Callable[[EnvoyVersions], str],
        running: EnvoyVersions | None,
    ) -> str:
        """Publish one file and wait until Envoy has it; return its objection."""
        content = contents[path]
        refused, objection = self._refused.get(path, (None, ""))
        if running is not None and refused == content:
            return objection
        self._refused.pop(path, None)
        before = await self._admin.versions() if running is not None else None
        if self._files.publish(path, on_trial=before is not None):
            self._confirmed.discard(path)
        if before is None or path in self._confirmed:
            return ""
        objection = await self._await_version(read, content, before)
        if objection:
            self._refused[path] = (content, objection)
            self._files.put_back(path)
        else:
            self._confirmed.add(path)
            self._files.keep(path)
        return objection

    async def verify(self) -> Outcome | None:
        """Return what an Envoy that started after the files were written made of them; None while it does not say."""
        now = await self._admin.versions()
        if now is None:
            return None
        routes = dict(now.routes)
        wanted = [(now.clusters, names.CLUSTERS_FILE), (now.listeners, names.LISTENERS_FILE)]
        for path in self._files.paths:
            if path.startswith("rds/"):
                listener = cast("str", cast("list[Json]", self._files[path]["resources"])[0]["name"])
                wanted.append((routes.get(listener, ""), path))
        if all(version == self._files[path]["version_info"] for version, path in wanted):
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

    def _with_departed(self, files: Mapping[str, Json]) -> Mapping[str, Json]:
        """Return *files* with the clusters and endpoints that requests under way may still use."""
        contents = dict(files)
        for path, content in files.items():
            if path.startswith("eds/"):
                contents[path] = self._departing.merge(path, self._files.get(path), content)
        contents[names.CLUSTERS_FILE] = self._with_departed_clusters(files[names.CLUSTERS_FILE])
        return contents

    def _with_departed_clusters(self, content: Json) -> Json:
        now = self._clock()
        wanted = cast("list[Json]", content["resources"])
        present = {cast("str", cluster["name"]) for cluster in wanted}
        old = cast("list[Json]", (self._files.get(names.CLUSTERS_FILE) or {}).get("resources", []))
        for cluster in old:
            name = cast("str", cluster["name"])
            if name not in present:
                self._departed.setdefault(name, (cluster, now + _LINGER_SECONDS))
        for name in [n for n, (_, until) in self._departed.items() if n in present or until <= now]:
            del self._departed[name]
        if not self._departed:
            return content
        lingering = [cluster for cluster, _ in self._departed.values()]
        digest = hashlib.sha256(repr(sorted(self._departed)).encode()).hexdigest()[:8]
        version = f"{content['version_info']}+{digest}"
        return {**content, "version_info": version, "resources": [*wanted, *lingering]}

    def prune(self, files: Mapping[str, Json]) -> None:
        """Remove files of endpoints and secrets that nothing refers to any more."""
        keep = set(files) | {names.endpoints_file(name) for name in self._departed}
        kept_secrets = {names.cluster_hash(name) for name in self._departed}
        for path in [p for p in self._files.paths if p.startswith(("eds/", "sds/", "rds/")) and p not in keep]:
            if Path(path).name.partition("-")[0] not in kept_secrets:
                self._files.remove(path)
                self._departing.forget(path)

    @property
    def lingering(self) -> bool:
        """Whether there are departed clusters to be removed later."""
        return bool(self._departed)

    @property
    def overdue(self) -> bool:
        """Whether some of them, or endpoints that have left, may go now."""
        return self._departing.overdue or any(until <= self._clock() for _, until in self._departed.values())
