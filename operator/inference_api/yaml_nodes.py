"""YAML or JSON text as a tree of nodes that know their line; hostile text costs bounded time, memory and depth.

The tree is built from parser events without recursion. Scalars follow kubectl: YAML 1.1 booleans and integers,
timestamps stay strings. A key that stands twice in a mapping is a problem, not a silent choice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_TEXT_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 100
MAX_NODES: Final = 1_000_000
_MAX_DIGITS: Final = 20

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE: Final = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INTEGER: Final = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL_FLOAT: Final = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
_TAG: Final = "tag:yaml.org,2002:"

_Loader: Any = getattr(yaml, "CLoader", yaml.Loader)
"""Only its events are used; the C parser where PyYAML has it."""


class InvalidYaml(ValueError):  # says what the text is
    """The text cannot be read; *line* is 1-based."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(slots=True, eq=False)
class Node:
    """One value of a document.

    Attributes:
        line: 1-based line where it begins.
        value: A scalar, a list of nodes or a mapping from key to node.
        source: The scalar as it was written.
        size: Nodes of the subtree, with aliases expanded.
        height: Levels below it.
        key_lines: Line of each key of a mapping.
    """

    line: int
    value: bool | int | float | str | list["Node"] | dict[str, "Node"] | None
    source: str = ""
    size: int = 1
    height: int = 0
    key_lines: dict[str, int] = field(default_factory=dict)

    def plain(self) -> object:
        """Return the value without lines; recursion is bounded by `MAX_DEPTH`."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value

    def find(self, path: tuple[str | int, ...]) -> tuple["Node", int]:
        """Return the deepest node that *path* reaches, and the line to show for it."""
        node, line = self, self.line
        for part in path:
            if isinstance(node.value, dict) and isinstance(part, str) and part in node.value:
                line = node.key_lines.get(part, node.line)
                node = node.value[part]
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.line
            else:
                break
        return node, line


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been seen."""

    node: Node
    anchor: str | None
    key: Node | None = None
    merges: list[tuple[int, Node]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """One document and what is wrong inside it: (line, message)."""

    root: Node
    problems: tuple[tuple[int, str], ...]


def read_documents(text: str) -> Iterator[Document]:
    """Yield the documents of *text*, empty ones left out.

    Raises:
        InvalidYaml: The text breaks the syntax or a limit; documents before that place have been yielded.
    """
    budget = MAX_NODES
    composer = _Composer()
    for event in _events(text):
        match event:
            case yaml.DocumentStartEvent():
                composer = _Composer(budget)
            case yaml.DocumentEndEvent():
                budget = composer.budget
                root = composer.root
                if root is not None and root.value is not None:
                    budget -= root.size
                    if budget < 0:
                        raise InvalidYaml(root.line, f"aliases expand to more than {MAX_NODES} values")
                    yield Document(root, tuple(composer.problems))
            case _:
                composer.take(event)


def _events(text: str) -> Iterator[Any]:
    try:
        loader = _Loader(text)
    except yaml.YAMLError as exc:
        raise _invalid(exc, text) from exc
    try:
        while loader.check_event():
            yield loader.get_event()
    except yaml.YAMLError as exc:
        raise _invalid(exc, text) from exc
    except (ValueError, OverflowError, UnicodeError) as exc:  # such as \UFFFFFFFF, which is no character
        raise InvalidYaml(1, f"not valid YAML: {exc}") from exc
    finally:
        loader.dispose()


def _invalid(exc: yaml.YAMLError, text: str) -> InvalidYaml:
    if isinstance(exc, yaml.MarkedYAMLError):
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        lines = text.splitlines()
        if 0 < line <= len(lines) and lines[line - 1].lstrip(" ").startswith("\t"):
            return InvalidYaml(line, "not valid YAML: indentation must be spaces, not tabs")
        reason = ", ".join(part for part in (exc.context, exc.problem) if part)
        return InvalidYaml(line, f"not valid YAML: {reason}")
    position = getattr(exc, "position", None)
    line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
    return InvalidYaml(line, "not valid YAML: a control character is not allowed")


class _Composer:
    """Builds one document from its events."""

    def __init__(self, budget: int = MAX_NODES) -> None:
        self.root: Node | None = None
        self.problems: list[tuple[int, str]] = []
        self.budget = budget
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}

    def take(self, event: Any) -> None:  # noqa: ANN401  # PyYAML's events are untyped here
        match event:
            case yaml.ScalarEvent():
                node = self._scalar(event)
                if event.anchor:
                    self._anchors[event.anchor] = node
                self._add(node)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._begin(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end()
            case yaml.AliasEvent():
                self._alias(event)
            case _:
                pass

    def _begin(self, event: Any) -> None:  # noqa: ANN401  # as above
        line = event.start_mark.line + 1
        if len(self._stack) >= MAX_DEPTH:
            raise InvalidYaml(line, f"nested more than {MAX_DEPTH} levels deep")
        if event.tag and event.tag not in {"!", f"{_TAG}map", f"{_TAG}seq"}:
            self.problems.append((line, f"tag {event.tag[:60]} is not supported"))
        node = Node(line, [] if isinstance(event, yaml.SequenceStartEvent) else {})
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(node, event.anchor))

    def _end(self) -> None:
        done = self._stack.pop()
        if isinstance(done.node.value, dict):
            for line, merged in done.merges:
                self._merge(done.node, merged, line)
        if done.anchor:
            self._anchors[done.anchor] = done.node
        self._add(done.node)

    def _alias(self, event: Any) -> None:  # noqa: ANN401  # as above
        line = event.start_mark.line + 1
        if event.anchor not in self._anchors:
            raise InvalidYaml(line, f"not valid YAML: alias *{event.anchor} has no anchor before it")
        node = self._anchors[event.anchor]
        if node is None:
            raise InvalidYaml(line, f"alias *{event.anchor} contains itself")
        self._add(node)

    def _add(self, node: Node) -> None:
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        container = top.node
        if isinstance(container.value, list):
            container.value.append(node)
        elif isinstance(container.value, dict):
            if top.key is None:
                top.key = node
                return
            self._put(top, container.value, top.key, node)
            top.key = None
        container.size += node.size
        container.height = max(container.height, node.height + 1)
        if container.size > self.budget:
            raise InvalidYaml(node.line, f"more than {MAX_NODES} values, aliases expanded")
        if len(self._stack) + node.height > MAX_DEPTH:
            raise InvalidYaml(node.line, f"nested more than {MAX_DEPTH} levels deep")

    def _put(self, top: _Open, mapping: dict[str, Node], key: Node, node: Node) -> None:
        if isinstance(key.value, bool):
            self.problems.append((key.line, f"key {key.source} is a boolean; put it in quotes"))
        if isinstance(key.value, dict | list):
            self.problems.append((key.line, "a key must be a string"))
            return
        name = key.value if isinstance(key.value, str) else key.source
        if key.source == "<<" and key.value == "<<":
            top.merges.append((key.line, node))
            return
        if name in mapping:
            first = top.node.key_lines[name]
            self.problems.append(
                (key.line, f"key {name[:100]!r} stands twice in the same mapping, first on line {first}")
            )
            return
        mapping[name] = node
        top.node.key_lines[name] = key.line

    def _merge(self, node: Node, merged: Node, line: int) -> None:
        """Fill in what *node* lacks from the mapping, or list of mappings, under ``<<``."""
        for part in merged.value if isinstance(merged.value, list) else [merged]:
            if not isinstance(part.value, dict) or not isinstance(node.value, dict):
                self.problems.append((line, "<< needs a mapping or a list of mappings"))
                continue
            self.budget -= len(part.value)
            if self.budget < 0:
                raise InvalidYaml(line, f"more than {MAX_NODES} values, aliases expanded")
            for name, value in part.value.items():
                if name not in node.value:
                    node.value[name] = value
                    node.key_lines[name] = value.line

    def _scalar(self, event: Any) -> Node:  # noqa: ANN401  # as above
        line = event.start_mark.line + 1
        text: str = event.value
        tag = event.tag
        if tag in {f"{_TAG}str", "!"} or (tag is None and not event.implicit[0]):
            return Node(line, text, text)
        if tag is not None and tag.removeprefix(_TAG) not in {"int", "float", "bool", "null"}:
            self.problems.append((line, f"tag {tag[:60]} is not supported"))
            return Node(line, text, text)
        value, problem = _resolve(text)
        if problem:
            self.problems.append((line, problem))
        return Node(line, value, text[:100] if not isinstance(value, str) else text)


def _resolve(text: str) -> tuple[bool | int | float | str | None, str]:
    """Return the value of a plain scalar and what is wrong with it, empty if nothing."""
    if text in _NULLS:
        return None, ""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE, ""
    if _INTEGER.match(text):
        return _integer(text)
    if _FLOAT.match(text):
        return float(text), ""
    if _SPECIAL_FLOAT.match(text):
        return 0, f"{text} is not a number that a resource can hold"
    return text, ""


def _integer(text: str) -> tuple[int, str]:
    digits = text.replace("_", "").lstrip("+")
    if len(digits) > _MAX_DIGITS * 4:
        return 0, f"number {digits[:20]}… is too large"
    sign, digits = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
    if len(digits) > 1 and digits[0] == "0" and digits[1] not in "box":
        digits = f"0o{digits[1:]}"
    try:
        value = sign * int(digits, 0)
    except ValueError:
        return 0, f"{text[:20]!r} is not a number; put it in quotes if it is text"
    if not -(2**63) <= value < 2**64:
        return 0, f"number {text[:20]}… is too large"
    return value, ""
