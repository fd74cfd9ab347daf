"""Brings into force what the manifests say; what cannot be used changes nothing but the reports.

Three things can go wrong with an edit: it is not valid, Envoy refuses it, or Envoy's files cannot be written. Each
leaves the last good state in force. The first two end with the next edit; the last is tried again by itself.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from endpoint_picker.datalayer.envoy_files import EnvoyFiles, Outcome
from endpoint_picker.datalayer.files import LoadedManifests, resolve_standalone
from endpoint_picker.datalayer.last_good import LastGood
from endpoint_picker.datalayer.manifest_watch import ManifestWatch
from envoy_config.fields import Json
from inference_resolution.resolved import Resolution

logger = logging.getLogger(__name__)

_TEND_SECONDS: Final = 1.0


class Configuration:
    """What is in force, and the way there.

    Args:
        paths: Manifest files, folders and globs.
        loaded: What they held at the start.
        files: Of Envoy.
        listen_port: Of the one listener.
        render: From resources to the content of Envoy's files.
        remembered: Where the last good manifests are kept.
        route_by: Called once Envoy can dial every cluster: requests are decided by this resolution from now on.
        took_over: Called when a resolution is in force.
        refused: Called with one line per problem when something cannot be used.
    """

    def __init__(
        self,
        paths: Sequence[str],
        loaded: LoadedManifests,
        files: EnvoyFiles,
        *,
        listen_port: int,
        render: Callable[[Resolution], Mapping[str, Json]],
        remembered: LastGood,
        route_by: Callable[[Resolution], None],
        took_over: Callable[[Resolution], None],
        refused: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._paths = tuple(paths)
        self._first = loaded
        self._files = files
        self._listen_port = listen_port
        self._render_files = render
        self._remembered = remembered
        self._route_by = route_by
        self._took_over = took_over
        self._refused = refused
        self._in_force: Resolution | None = None
        self._refusal: tuple[str, ...] = ()
        self._unwritten: LoadedManifests | None = None
        self._unverified = True
        self._editing = asyncio.Lock()

    async def begin(self) -> None:
        """Bring the manifests into force, or what is remembered where they cannot be used.

        Raises:
            OSError: Envoy's files cannot be written and there is nothing to go back to.
        """
        before = self._remembered.recall()
        if before is not None and before.located != self._first.located:
            await self._take_over(before)
        if self._first.problems:
            self._refuse(tuple(str(problem) for problem in self._first.problems))
        elif self._in_force is None:
            await self._take_over(self._first)
        else:
            await self._try(self._first)

    async def follow(self) -> None:
        """Follow the manifests, for ever."""
        async for loaded in ManifestWatch(self._paths, self._first).changes():
            async with self._editing:
                self._unwritten, self._refusal = None, ()
                if loaded.problems:
                    self._refuse(tuple(str(problem) for problem in loaded.problems))
                else:
                    await self._try(loaded)

    async def tend(self) -> None:
        """Finish what takes time, for ever: try again what could not be written, remove what has left."""
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            async with self._editing:
                await self._tend_once()

    async def _tend_once(self) -> None:
        self._remembered.store()
        if self._unverified and (outcome := await self._files.verify()) is not None:
            self._unverified = False
            if not outcome.accepted:
                self._refuse((f"Envoy refused the configuration: {outcome.message}",))
        if self._unwritten is not None:
            await self._try(self._unwritten)
        elif self._files.overdue and self._in_force is not None:
            try:
                await self._render(self._in_force)
            except OSError as error:
                logger.error("what has left cannot be removed from Envoy's files: %s", error)  # noqa: TRY400 - it says all

    async def _try(self, loaded: LoadedManifests) -> None:
        self._unwritten = None
        try:
            await self._take_over(loaded)
        except OSError as error:
            self._unwritten = loaded
            self._refuse((f"Envoy's files cannot be written, which is tried again every second: {error}",))
        except Exception as error:  # an edit is the unit that ends here; what is served goes on
            logger.exception("manifests could not be taken over")
            self._refuse((f"a defect of the gateway: {type(error).__name__}: {error}",))

    def _refuse(self, problems: tuple[str, ...]) -> None:
        if problems == self._refusal:
            return  # of the same edit, tried again
        self._refusal = problems
        self._refused(problems)
        for problem in problems:
            logger.error("configuration refused, the last good one stays in force: %s", problem)

    async def _take_over(self, loaded: LoadedManifests) -> None:
        """Serve *loaded* from now on; if Envoy refuses it, go back to what was served before."""
        resolution = resolve_standalone(loaded.resources, self._listen_port)
        before = self._in_force
        outcome = await self._render(resolution)
        self._unverified = not outcome.running
        if not outcome.accepted:
            if before is not None:
                await self._render(before)
            self._refuse((f"Envoy refused the configuration: {outcome.message}",))
            return
        self._in_force = resolution
        self._refusal = ()
        self._took_over(resolution)
        self._remembered.remember(loaded)
        self._remembered.store()
        logger.info("configuration taken over", extra={"resources": len(loaded.resources)})
        _warn_of(resolution, before)

    async def _render(self, resolution: Resolution) -> Outcome:
        files = self._render_files(resolution)
        outcome = await self._files.apply(files, before_routes=lambda: self._route_by(resolution))
        if outcome.accepted:
            self._files.prune(files)
        return outcome


def _warn_of(resolution: Resolution, before: Resolution | None) -> None:
    """Log every condition that is False now and was not before."""
    known = {(v.subject, v.type, v.status, v.message) for v in before.verdicts} if before is not None else set()
    for verdict in resolution.verdicts:
        key = (verdict.subject, verdict.type, verdict.status, verdict.message)
        if verdict.status == "False" and key not in known:
            subject = f"{verdict.subject.kind} {verdict.subject.namespace}/{verdict.subject.name}"
            logger.warning("%s: %s=False (%s): %s", subject, verdict.type, verdict.reason, verdict.message)
