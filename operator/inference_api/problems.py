"""What is wrong with a resource: path and message, in words for the person who wrote it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

PathTuple = tuple[str | int, ...]


def dotted(path: Sequence[str | int]) -> str:
    """Return *path* as ``spec.targetPorts[0].number``."""
    text = ""
    for part in path:
        if isinstance(part, int) or "." in part or "/" in part:
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field and what is wrong with it; an empty path means the whole document."""

    path: PathTuple
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


class ValidationProblems(ValueError):  # it carries several problems, and is named for them
    """A resource is invalid.

    Attributes:
        problems: Every problem found, at least one.
    """

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def problems_of(error: ValidationError) -> tuple[FieldProblem, ...]:
    """Translate pydantic's *error*; values are shown only for closed sets of words, so no secret can leak."""
    details = error.errors(include_url=False, include_context=True)
    # A list whose only item is invalid is also called too short: that second complaint is left out.
    inner = {detail["loc"][:depth] for detail in details for depth in range(len(detail["loc"]))}
    kept = [detail for detail in details if not (detail["type"] == "too_short" and detail["loc"] in inner)]
    return tuple(FieldProblem(_path(detail["loc"]), _message(detail)) for detail in kept)


def _path(location: Sequence[str | int]) -> PathTuple:
    parts = list(location)
    if parts and parts[-1] == "[key]":
        parts.pop()
    if parts[-2:] == ["targetPort", "str"]:  # a number or a name: pydantic appends the branch it tried
        parts.pop()
    return tuple(parts)


def type_name(value: object) -> str:
    """Name the type of a decoded *value* as YAML users call it."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


def _supported(context: dict[str, Any]) -> str:
    words = str(context["expected"]).replace(" or ", ", ").replace("'", '"')
    return f"supported values: {words}"


_Detail = dict[str, Any]
_MESSAGES: Final[dict[str, Callable[[_Detail], str]]] = {
    "missing": lambda _: "is required",
    "extra_forbidden": lambda _: "unknown field",
    "string_type": lambda d: f"must be a string, not {type_name(d['input'])}; put the value in quotes",
    "int_type": lambda d: f"must be an integer, not {type_name(d['input'])}",
    "int_from_float": lambda _: "must be an integer",
    "bool_type": lambda d: f"must be true or false, not {type_name(d['input'])}",
    "tuple_type": lambda d: f"must be a list, not {type_name(d['input'])}",
    "dict_type": lambda d: f"must be a mapping, not {type_name(d['input'])}",
    "model_type": lambda d: f"must be a mapping, not {type_name(d['input'])}",
    "model_attributes_type": lambda d: f"must be a mapping, not {type_name(d['input'])}",
    "literal_error": lambda d: f"Unsupported value: {_shown(d['input'])}: {_supported(d['ctx'])}",
    "greater_than_equal": lambda d: f"must be greater than or equal to {d['ctx']['ge']}",
    "less_than_equal": lambda d: f"must be less than or equal to {d['ctx']['le']}",
    "string_too_short": lambda d: f"must have at least {d['ctx']['min_length']} characters",
    "string_too_long": lambda d: f"must have at most {d['ctx']['max_length']} characters",
    "too_short": lambda d: f"must have at least {d['ctx']['min_length']} items",
    "too_long": lambda d: f"must have at most {d['ctx']['max_length']} items",
    "string_pattern_mismatch": lambda d: f"must match {d['ctx']['pattern']}",
    "value_error": lambda d: str(d["ctx"]["error"]),
}


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 100 else f'"{value[:100]}…"'
    return type_name(value)


def _message(detail: Any) -> str:  # noqa: ANN401  # pydantic's ErrorDetails, a TypedDict with optional keys
    translate = _MESSAGES.get(detail["type"])
    return translate(detail) if translate else str(detail["msg"])
