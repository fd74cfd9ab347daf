"""Resources from manifest files: files, folders, globs and standard input."""

import glob
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inference_api.manifests import (
    IgnoredDocument,
    LocatedResource,
    Problem,
    find_duplicates,
    parse_manifests,
)
from inference_api.resources import Resource
from inference_resolution.inventory import object_key
from inference_resolution.resolution import resolve
from inference_resolution.resolved import ObjectKey, Resolution
from inference_resolution.targets import GatewayTarget, ListenerTarget

STDIN: Final = "-"
LISTENER_NAME: Final = "http"
STANDALONE_GATEWAY: Final = ObjectKey("gateway.networking.k8s.io", "Gateway", "default", "standalone")
"""The Gateway that takes everything where there is no Kubernetes."""

_SUFFIXES: Final = (".yaml", ".yml", ".json")
MAX_FILE_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadedManifests:
    """What a set of paths holds.

    Attributes:
        located: Valid resources with their places, in file order, which stands for creation time.
        problems: Everything wrong, in file order.
        ignored: Documents of kinds that play no part here.
        files: Files that were read.
        streams: Paths that cannot be read again.
        texts: What was read, by its name in problems.
    """

    located: tuple[LocatedResource, ...] = ()
    problems: tuple[Problem, ...] = ()
    ignored: tuple[IgnoredDocument, ...] = ()
    files: tuple[str, ...] = ()
    streams: frozenset[str] = frozenset()
    texts: tuple[tuple[str, bytes], ...] = field(default=(), repr=False, compare=False)

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The resources alone."""
        return tuple(entry.resource for entry in self.located)


@dataclass(slots=True)
class _Findings:
    located: list[LocatedResource] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[IgnoredDocument] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    texts: list[tuple[str, bytes]] = field(default_factory=list)

    def fail(self, source: str, message: str) -> None:
        self.problems.append(Problem(source, 0, "", "", (), message))

    def take(self, source: str, text: bytes) -> None:
        """Take over what *text* holds."""
        parsed = parse_manifests(text, source)
        self.located.extend(parsed.resources)
        self.problems.extend(parsed.problems)
        self.ignored.extend(parsed.ignored)
        self.texts.append((source, text))

    def loaded(self, what: str, streams: frozenset[str]) -> LoadedManifests:
        """Return all that was found, with what is wrong with it as a whole; *what* names it."""
        self.problems.extend(find_duplicates(self.located))
        if not self.problems:
            self.problems.extend(_unusable(self.located))
        if not self.problems and not self.located and what:
            self.fail(what, "there is no resource of the gateway in it")
        return LoadedManifests(
            tuple(self.located),
            tuple(self.problems),
            tuple(self.ignored),
            tuple(self.files),
            streams,
            tuple(self.texts),
        )

    def keep(self, path: str, earlier: LoadedManifests) -> None:
        """Take over what a stream held when it was read."""
        source = _source_of(path)
        self.located.extend(entry for entry in earlier.located if entry.source == source)
        self.ignored.extend(entry for entry in earlier.ignored if entry.source == source)
        self.texts.extend(entry for entry in earlier.texts if entry[0] == source)
        self.files.append(path)


def _source_of(path: str) -> str:
    """Return the name of a path in problems."""
    return "<stdin>" if path == STDIN else path


def is_stream(path: str) -> bool:
    """Return whether *path* can be read only once: standard input, a pipe or the like."""
    if path == STDIN:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def expand(path: str) -> tuple[list[str], str]:
    """Return the files that *path* (file, folder or glob) stands for, sorted, and what is wrong, empty if nothing.

    In a folder, names that begin with a dot are left out: editors' files, and the copies behind a mounted ConfigMap.
    """
    try:
        return _expand(path)
    except (OSError, ValueError) as error:
        return [], f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _files_below(folder: Path) -> Iterator[str]:
    """Yield the manifest files of a folder tree; hidden folders are not entered."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "node_modules"]
        for name in files:
            file = Path(parent, name)
            if file.suffix in _SUFFIXES and not name.startswith(".") and file.is_file():
                yield str(file)


def _expand(path: str) -> tuple[list[str], str]:
    folder = Path(path)
    if folder.is_dir():
        files = sorted(_files_below(folder))
        return files, "" if files else "the folder holds no .yaml, .yml or .json file"
    if folder.exists():
        return [path], ""
    if glob.has_magic(path):
        files = sorted(p for p in glob.glob(path, recursive=True) if Path(p).is_file())  # noqa: PTH207 - absolute globs
        return files, "" if files else "nothing matches"
    return [], "no such file or folder"


def _read(source: str, findings: _Findings, *, named: bool) -> None:
    """Read one file; one that was not *named* but found in a folder may be gone again by now."""
    try:
        if source == STDIN:
            text = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        if named:
            findings.fail(source, f"cannot be read: {error.strerror}")
        return
    except OSError as error:
        findings.fail(source, f"cannot be read: {error.strerror or error}")
        return
    if len(text) > MAX_FILE_BYTES:
        findings.fail(source, f"larger than {MAX_FILE_BYTES} bytes")
        return
    findings.take(_source_of(source), text)
    findings.files.append(source)


def _unusable(located: Sequence[LocatedResource]) -> Iterator[Problem]:
    """Yield what is wrong with pools beyond their schema: annotations and the Secrets they name."""
    places = {object_key(entry.resource): entry for entry in located}
    for verdict in resolve_standalone([entry.resource for entry in located], 0).verdicts:
        entry = places.get(verdict.subject)
        if verdict.status == "False" and verdict.reason == "InvalidParameters" and entry is not None:
            subject = verdict.subject
            yield Problem(entry.source, entry.line, subject.kind, subject.name, ("metadata",), verdict.message)


def load_manifests(paths: Sequence[str], *, earlier: LoadedManifests | None = None) -> LoadedManifests:
    """Read every manifest that *paths* stand for (``-``: standard input) and report every problem at once.

    Streams can be read once only; what they held is taken from *earlier* where that is given.
    """
    findings = _Findings()
    seen: set[str] = set()
    for path in paths:
        if earlier is not None and path in earlier.streams:
            if path not in seen:
                seen.add(path)
                findings.keep(path, earlier)
            continue
        files, problem = ([STDIN], "") if path == STDIN else expand(path)
        if problem:
            findings.fail(path, problem)
        for file in files:
            if file not in seen:
                seen.add(file)
                _read(file, findings, named=file == path)
    streams = earlier.streams if earlier is not None else frozenset(path for path in paths if is_stream(path))
    return findings.loaded(", ".join(paths), streams)


def load_texts(texts: Sequence[tuple[str, bytes]]) -> LoadedManifests:
    """Return what *texts* hold, each with its name, as `load_manifests` does for files."""
    findings = _Findings()
    for source, text in texts:
        findings.take(source, text)
    return findings.loaded("what is remembered", frozenset())


def resolve_standalone(resources: Sequence[Resource], listen_port: int) -> Resolution:
    """Return what *resources* mean on the one implicit Gateway that takes every route and model."""
    gateway = GatewayTarget(STANDALONE_GATEWAY, (ListenerTarget(LISTENER_NAME, listen_port),))
    return resolve(resources, gateways=[gateway], attach_all=True)
