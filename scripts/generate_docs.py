"""Write docs/configuration.md from the code it describes; `--check` only compares."""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from types import NoneType
from typing import Literal, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.models import ParameterInfo

from endpoint_picker.config.settings import API_VERSION, KIND, PickerSettings, file_key
from endpoint_picker.scheduling.catalog import PARAMETERS, PICKERS
from endpoint_picker.telemetry.metrics import PickerMetrics
from igw.__main__ import app
from inference_api import names

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "configuration.md"

_INTRODUCTION = """\
# Configuration

Everything that can be set and everything that is measured. This page is generated from the code by
`make docs`; do not edit it.

- [Endpoint picker](#endpoint-picker)
- [Commands](#commands)
- [Scheduling plugins](#scheduling-plugins)
- [Annotations](#annotations)
- [Metrics](#metrics)
"""


def cell(text: object) -> str:
    """Return *text* as one cell of a table."""
    return " ".join(str(text).split()).replace("``", "`").replace("|", "\\|")


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return lines + ["| " + " | ".join(cell(item) for item in row) + " |" for row in rows]


def type_name(kind: object) -> str:
    """Return how a person would name the type *kind*."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    if get_origin(kind) is list:
        return "list"
    present = [item for item in get_args(kind) if item is not NoneType]
    if present and get_origin(kind) is not dict:
        return type_name(present[0])
    simple: Mapping[object, str] = {str: "text", int: "integer", float: "number", bool: "switch"}
    return simple.get(get_origin(kind) or kind, str(kind))


def value_text(value: object) -> str:
    """Return a default; empty if there is none."""
    if value is PydanticUndefined or value is dataclasses.MISSING or value in (None, "", [], (), {}):
        return ""
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    return f"`{value}`"


# -- endpoint picker --------------------------------------------------------------------------------------------------


def _flag(name: str, field: FieldInfo) -> str:
    long = "--" + name.replace("_", "-")
    if field.annotation is bool:
        return f"`{long}`, `--no-{long[2:]}`"
    short = PickerSettings.model_config.get("cli_shortcuts") or {}
    return f"`{long}`, `-{short[name]}`" if name in short else f"`{long}`"


def picker_section() -> list[str]:
    """Return the settings of the endpoint picker."""
    rows = [
        (
            _flag(name, field),
            f"`IGW_{name.upper()}`",
            f"`{file_key(name)}`" if name != "config" else "",
            type_name(field.annotation),
            value_text(field.default),
            field.description or "",
        )
        for name, field in PickerSettings.model_fields.items()
    ]
    return [
        "## Endpoint picker",
        "",
        "Settings of `endpoint-picker`. The command line goes before the environment, the environment before the",
        "configuration file, the file before the default. All problems are reported at once.",
        "",
        *table(("Flag", "Environment", "File", "Type", "Default", "Meaning"), rows),
        "",
        "A configuration file is named by `--config` and begins like this:",
        "",
        "```yaml",
        f"apiVersion: {API_VERSION}",
        f"kind: {KIND}",
        "```",
        "",
    ]


# -- commands ---------------------------------------------------------------------------------------------------------


def _commands(commands: typer.Typer, path: str) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the function behind every command; the declarations are the same in all releases of the library."""
    for command in commands.registered_commands:
        if command.callback is not None:
            yield f"{path} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, f"{path} {group.name}")


def _option_rows(callback: Callable[..., object]) -> Iterator[tuple[str, ...]]:
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, *extras = get_args(hints[name])
        option = next(extra for extra in extras if isinstance(extra, ParameterInfo))
        first = (option.default,) if isinstance(option.default, str) and option.default.startswith("-") else ()
        flags = (*first, *(option.param_decls or ())) or ("--" + name.replace("_", "-"),)
        if kind is bool and not first and not option.param_decls:
            flags = (*flags, "--no-" + name.replace("_", "-"))
        environment = option.envvar if isinstance(option.envvar, str) else ""
        yield (
            ", ".join(f"`{part}`" for flag in flags for part in flag.split("/")),
            f"`{environment}`" if environment else "",
            f"`{option.metavar}`" if option.metavar else type_name(kind),
            value_text(parameter.default),
            option.help or "",
        )


def command_section() -> list[str]:
    """Return the commands of `igw` with their options."""
    lines = ["## Commands", ""]
    for path, callback in sorted(_commands(app, "igw"), key=itemgetter(0)):
        lines += [f"### `{path}`", "", inspect.getdoc(callback) or "", ""]
        rows = list(_option_rows(callback))
        if rows:
            lines += [*table(("Option", "Environment", "Type", "Default", "Meaning"), rows), ""]
    return lines


# -- scheduling plugins -----------------------------------------------------------------------------------------------


def _description(subject: type) -> str:
    """Return a docstring up to its sections."""
    text = inspect.getdoc(subject) or ""
    return re.split(r"\n\n(?:Attributes|Args|Raises|Source)\b", text)[0].replace("``", "`")


def _attributes(subject: type) -> dict[str, str]:
    """Return what the docstring of *subject* says of each attribute."""
    section = re.search(r"\nAttributes:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(subject) or "", re.DOTALL)
    found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", section[1] if section else "", re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _default(field: "dataclasses.Field[object]") -> object:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def plugin_section() -> list[str]:
    """Return every scheduling plugin with its parameters."""
    lines = ["## Scheduling plugins", "", "Types for an EndpointPickerConfig, by `--scheduling-config`.", ""]
    for kind, parameters in sorted(PARAMETERS.items()):
        described = PICKERS.get(kind, parameters)
        subject = described if isinstance(described, type) else parameters
        lines += [f"### `{kind}`", "", _description(subject), ""]
        texts = _attributes(parameters)
        rows = [
            (f"`{file_key(field.name)}`", value_text(_default(field)), texts.get(field.name, ""))
            for field in dataclasses.fields(parameters)
        ]
        if rows:
            lines += [*table(("Parameter", "Default", "Meaning"), rows), ""]
    return lines


# -- annotations ------------------------------------------------------------------------------------------------------


def _documented_constants() -> Iterator[tuple[str, str]]:
    """Yield every constant of `inference_api.names` that a docstring follows."""
    body = ast.parse(inspect.getsource(names)).body
    for statement, following in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield statement.target.id, text.value


def annotation_section() -> list[str]:
    """Return the annotations of a pool."""
    rows = [
        (f"`{getattr(names, name)}`", text) for name, text in _documented_constants() if name.endswith("_ANNOTATION")
    ]
    return [
        "## Annotations",
        "",
        "Annotations on an InferencePool; each is optional. A value that cannot be used refuses the pool.",
        "",
        *table(("Annotation", "Meaning"), rows),
        "",
    ]


# -- metrics ----------------------------------------------------------------------------------------------------------


def metric_section() -> list[str]:
    """Return every metric of the picker."""
    families = PickerMetrics(clock=lambda: 0.0).families
    rows = [(f"`{f.name}`", f.type, ", ".join(f"`{label}`" for label in f.labels), f.documentation) for f in families]
    return [
        "## Metrics",
        "",
        "On `/metrics` of the picker's admin address.",
        "",
        *table(("Name", "Type", "Labels", "Meaning"), sorted(rows)),
        "",
    ]


def render() -> str:
    """Return the whole page."""
    sections = [picker_section(), command_section(), plugin_section(), annotation_section(), metric_section()]
    return _INTRODUCTION + "\n" + "\n".join(line for section in sections for line in section).rstrip() + "\n"


def main() -> int:
    """Write the page, or with ``--check`` return 1 when it is out of date."""
    text = render()
    if "--check" in sys.argv[1:]:
        if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET.relative_to(ROOT)} is out of date: make docs", file=sys.stderr)
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
