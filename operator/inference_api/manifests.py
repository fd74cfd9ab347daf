"""Manifest files: YAML or JSON text to resources, every problem with file, line and path, all of them at once."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from inference_api.names import GATEWAY_GROUP
from inference_api.problems import PathTuple, ValidationProblems, dotted
from inference_api.resources import Resource, parse_resource
from inference_api.yaml_nodes import MAX_DEPTH, MAX_NODES, MAX_TEXT_BYTES, Document, InvalidYaml, Node, read_documents

_YAML_LINE_ENDS: Final = re.compile("[\x85\u2028\u2029]")
"""Line ends to YAML, which folds them; to JSON they are characters of a string like any other."""
_CLUSTER_SCOPED: Final = frozenset({(GATEWAY_GROUP, "GatewayClass")})


@dataclass(frozen=True, slots=True)
class LocatedResource:
    """A resource and where it was read; *line* is 1-based."""

    resource: Resource
    source: str
    line: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a manifest.

    Attributes:
        source: File name or other name of the text.
        line: 1-based; 0 where there is none.
        kind: Kind of the object, empty if unknown.
        name: Name of the object, empty if unknown.
        path: Path to the field, empty for the whole.
        message: What is wrong.
    """

    source: str
    line: int
    kind: str
    name: str
    path: PathTuple
    message: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        subject = f"{self.kind}/{self.name}" if self.kind and self.name else self.kind or self.name
        return ": ".join(part for part in (place, subject, dotted(self.path), self.message) if part)


@dataclass(frozen=True, slots=True)
class IgnoredDocument:
    """An object of a kind that is not read, such as a Deployment that stands in the same file."""

    source: str
    line: int
    api_version: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.kind}/{self.name}: ignored ({self.api_version} is not read)"


@dataclass(frozen=True, slots=True)
class ParsedManifests:
    """What one text holds; resources in the order of the text, valid ones also when others are not."""

    resources: tuple[LocatedResource, ...] = ()
    problems: tuple[Problem, ...] = ()
    ignored: tuple[IgnoredDocument, ...] = ()


def parse_manifests(text: bytes | str, source: str) -> ParsedManifests:
    """Parse *text*, YAML or JSON with any number of documents and lists; *source* names it in problems.

    Never raises for what the text holds: everything wrong is a problem.
    """
    reader = _Reader(source)
    decoded = reader.decode(text)
    if decoded is not None:
        reader.read(decoded)
    return ParsedManifests(tuple(reader.resources), tuple(reader.problems), tuple(reader.ignored))


def find_duplicates(located: Iterable[LocatedResource]) -> tuple[Problem, ...]:
    """Return one problem for every object that was there before, whatever the version of its group."""
    first: dict[tuple[str, str, str, str], LocatedResource] = {}
    problems = []
    for item in located:
        resource = item.resource
        meta = resource.metadata
        namespace = "" if (resource.group, resource.kind) in _CLUSTER_SCOPED else meta.namespace
        earlier = first.setdefault((resource.group, resource.kind, namespace, meta.name), item)
        if earlier is not item:
            where = f"in namespace {namespace} " if namespace else ""
            message = f"the same object {where}stands already at {earlier.source}:{earlier.line}"
            problems.append(Problem(item.source, item.line, resource.kind, meta.name, (), message))
    return tuple(problems)


class _Reader:
    """Collects what one text holds."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.resources: list[LocatedResource] = []
        self.problems: list[Problem] = []
        self.ignored: list[IgnoredDocument] = []

    def decode(self, text: bytes | str) -> str | None:
        if len(text) > MAX_TEXT_BYTES:
            self._problem(0, f"larger than {MAX_TEXT_BYTES // (1024 * 1024)} MiB")
            return None
        if isinstance(text, bytes):
            try:
                text = text.decode("utf-8")
            except UnicodeDecodeError as exc:
                self._problem(exc.object.count(b"\n", 0, exc.start) + 1, "not UTF-8 text")
                return None
        text = text.removeprefix("\ufeff")
        for position, character in enumerate(text) if not text.isprintable() else ():
            if character == "\0" or "\ud800" <= character <= "\udfff":
                self._problem(text.count("\n", 0, position) + 1, f"character U+{ord(character):04X} is not allowed")
                return None
        return text

    def read(self, text: str) -> None:
        try:
            for document in _documents(text):
                self._document(document)
        except InvalidYaml as exc:
            self._problem(exc.line, exc.message)

    def _document(self, document: Document) -> None:
        broken = bool(document.problems)
        kind, name = _names(document.root)
        for line, message in document.problems:
            self.problems.append(Problem(self.source, line, kind, name, (), message))
        for node, api_version, item_kind in _objects(document.root):
            self._object(node, api_version, item_kind, broken=broken)

    def _object(self, node: Node, api_version: str, kind: str, *, broken: bool) -> None:
        """Take one object; of a document with duplicate keys and the like only the problems are kept."""
        value = node.plain()
        if not isinstance(value, dict):
            self._problem(node.line, "a resource must be a mapping with apiVersion and kind")
            return
        if api_version:
            value = {"apiVersion": api_version, "kind": kind, **value}
        try:
            resource = parse_resource(value)
        except ValidationProblems as exc:
            shown_kind, name = _names(node)
            found_at = [(problem, *node.find(problem.path)) for problem in exc.problems]
            for problem, found, line in sorted(found_at, key=lambda item: item[2]):
                message = problem.message
                if isinstance(found.value, bool | int | float) and message.startswith("must be a string"):
                    message = f'{message}: "{found.source}"'
                self.problems.append(Problem(self.source, line, shown_kind or kind, name, problem.path, message))
            return
        if broken:
            return
        if resource is None:
            _, name = _names(node)
            self.ignored.append(
                IgnoredDocument(self.source, node.line, str(value["apiVersion"]), str(value["kind"]), name)
            )
        else:
            self.resources.append(LocatedResource(resource, self.source, node.line))

    def _problem(self, line: int, message: str) -> None:
        self.problems.append(Problem(self.source, line, "", "", (), message))


def _child(node: Node, key: str) -> object:
    return node.value[key].value if isinstance(node.value, dict) and key in node.value else None


def _names(node: Node) -> tuple[str, str]:
    """Return kind and name of an object as far as they can be read, for messages."""
    kind = _child(node, "kind")
    name = _child(node.value["metadata"], "name") if isinstance(node.value, dict) and "metadata" in node.value else None
    return kind[:100] if isinstance(kind, str) else "", name[:253] if isinstance(name, str) else ""


def _objects(root: Node) -> Iterator[tuple[Node, str, str]]:
    """Yield the objects under *root*, lists flattened, each with the apiVersion and kind it takes from a typed list."""
    pending = [(root, "", "")]
    while pending:
        node, api_version, kind = pending.pop()
        own_kind, own_version = _child(node, "kind"), _child(node, "apiVersion")
        items = _child(node, "items")
        is_list = isinstance(own_kind, str) and own_kind.endswith("List") and isinstance(own_version, str)
        if is_list and (items is None or isinstance(items, list)):
            item_kind = str(own_kind).removesuffix("List")
            given = (str(own_version), item_kind) if item_kind else ("", "")
            pending.extend((item, *given) for item in reversed(items or []))
        else:
            yield node, api_version, kind


def _documents(text: str) -> Iterator[Document]:
    """Yield the documents of *text*: read as YAML, for its lines, unless it is JSON that YAML reads differently.

    Raises:
        InvalidYaml: It is neither, or goes beyond the limits.
    """
    differing = _YAML_LINE_ENDS.search(text) and _json_document(text)
    if differing:
        yield differing
        return
    try:
        yield from read_documents(text)
    except InvalidYaml:
        recovered = _json_document(text)
        if recovered is None:
            raise
        yield recovered


def _json_document(text: str) -> Document | None:
    """Read *text* as JSON where YAML cannot (escaped surrogate pairs); lines are lost, None if it is no JSON."""
    if not text.lstrip().startswith("{") or sum(map(text.count, "[{,")) > MAX_NODES:
        return None
    problems: list[tuple[int, str]] = []

    def take(pairs: list[tuple[str, object]]) -> dict[str, object]:
        taken = dict(pairs)
        if len(taken) < len(pairs):
            problems.append((1, "a key stands twice in the same mapping"))
        return taken

    try:
        return Document(_json_node(json.loads(text, object_pairs_hook=take), 0), tuple(problems))
    except (ValueError, RecursionError):
        return None


def _json_node(value: object, depth: int) -> Node:
    if depth > MAX_DEPTH:
        msg = "too deep"
        raise ValueError(msg)
    if isinstance(value, Mapping):
        return Node(1, {str(key): _json_node(item, depth + 1) for key, item in value.items()})
    if isinstance(value, list):
        return Node(1, [_json_node(item, depth + 1) for item in value])
    if isinstance(value, str):
        value.encode()  # a lone surrogate is no text: UnicodeEncodeError is a ValueError
        return Node(1, value, value)
    if value is None or isinstance(value, bool | int | float):
        return Node(1, value, str(value))
    msg = f"not JSON: {type(value).__name__}"
    raise ValueError(msg)
