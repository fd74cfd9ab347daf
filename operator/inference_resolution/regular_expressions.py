"""Regular expressions of routes: those that Envoy (RE2) and Python read alike and evaluate in bounded time."""

import re
import warnings
from functools import lru_cache
from typing import Final, NamedTuple

_UNSUPPORTED_GROUP: Final = re.compile(r"\(\?(?!:|P<[A-Za-z_]\w*>|i\))")
_UNSUPPORTED_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\(?![dDwWsSbBnrtfva]|x[0-9A-Fa-f]{2}|[!-/:-@\[-`{-~])")
_CLASS: Final = re.compile(r"\[\^?(\]?[^\]]*)\]")
_NESTED_SET: Final = re.compile(r"\[|--|&&|~~|\|\|")
_COUNT: Final = re.compile(r"\{(\d+),?(\d*)\}")
_MAX_PROGRAM: Final = 2500
"""Characters times repetitions; RE2's memory limit is at some ten times as many instructions."""
_MAX_REPETITIONS: Final = 2
_MAX_OPTIONAL: Final = 4
_MAX_VALUE_CHARACTERS: Final = 2048
_MAX_TWICE_REPEATED: Final = 1024
"""The same for a pattern with two repetitions, whose time grows with the square of the value."""


class _Shape(NamedTuple):
    """What the time to match a pattern depends on."""

    problem: str = ""
    repetitions: int = 0
    optional: int = 0


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return *pattern* compiled, from a cache; it must have passed `regex_problem`."""
    return re.compile(pattern)


def fully_matches(pattern: str, value: str) -> bool:
    """Tell whether *pattern* matches all of *value*, within some ten milliseconds.

    A value never matches when it has more than 2048 characters, or more than 1024 where the pattern repeats twice;
    every second optional part or choice halves that.
    """
    return len(value) <= _longest_value(pattern) and compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=4096)
def _longest_value(pattern: str) -> int:
    shape = _shape_of(_without_classes(_without_escapes(pattern)))
    if shape.repetitions < _MAX_REPETITIONS:
        return _MAX_VALUE_CHARACTERS
    return _MAX_TWICE_REPEATED >> (shape.optional + 1) // 2


def regex_problem(pattern: str) -> str:
    """Return why *pattern* is not supported, empty if it is.

    RE2 runs in linear time, Python's engine does not: repetition of what itself repeats or chooses is refused, and so
    are more than two repetitions of varying length, or four optional parts and groups of alternatives.
    """
    unescaped = _without_escapes(pattern)
    bare = _without_classes(unescaped)
    if problem := _unsupported(pattern, unescaped, bare):
        return problem
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python warns of, RE2 reads differently
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as exc:
        return f"not a regular expression: {exc}"
    return _shape_of(bare).problem


def _unsupported(pattern: str, unescaped: str, bare: str) -> str:
    """Return what in *pattern* RE2 refuses or reads otherwise than Python, empty if nothing."""
    if re.search(r"\[[^\]]*\\b", pattern) or re.search(r"\{,\d*\}", unescaped):
        return r"[\b] and {,n} are not supported"
    if any(_NESTED_SET.search(found[1]) for found in _CLASS.finditer(unescaped)):
        return "sets within character classes are not supported"
    if _UNSUPPORTED_ESCAPE.search(pattern) or _UNSUPPORTED_GROUP.search(bare):
        return "look-around, back-references and special escapes are not supported"
    if re.search(r"[*+?}][+]|\(\?>", bare):
        return "possessive repetition is not supported"
    counts = sum(int(most or least) for least, most in _COUNT.findall(bare))
    return "it is too large" if len(bare) * (1 + counts) > _MAX_PROGRAM else ""


def _without_escapes(pattern: str) -> str:
    return re.sub(r"\\.", "_", pattern, flags=re.DOTALL)


def _without_classes(pattern: str) -> str:
    return _CLASS.sub("_", pattern)


def _shape_of(bare: str) -> _Shape:
    repetitions = optional = 0
    varying, choosing = [False], [False]
    index = 0
    while index < len(bare):
        character = bare[index]
        repeat = re.match(r"[*+?]|\{\d*,?\d*\}", bare[index:])
        if character == "(":
            varying.append(False)
            choosing.append(False)
            index = index + 2 if bare.startswith("(?", index) else index
        elif character == ")" and len(varying) > 1:
            group_varies = varying.pop()
            optional += choosing.pop()
            after = re.match(r"[*+]|\{\d*,?\d*\}", bare[index + 1 :])
            if after and group_varies:
                return _Shape("a repeated group must not itself repeat or choose")
            varying[-1] = varying[-1] or group_varies
        elif character == "|":
            varying[-1] = choosing[-1] = True
        elif repeat:
            varying[-1] = True
            optional += repeat[0] == "?"
            repetitions += repeat[0] in {"*", "+"} or "," in repeat[0]
            index += len(repeat[0]) - 1
        index += 1
    if repetitions > _MAX_REPETITIONS:
        return _Shape(f"more than {_MAX_REPETITIONS} repetitions of varying length are not supported")
    if optional > _MAX_OPTIONAL:
        return _Shape(f"more than {_MAX_OPTIONAL} optional parts and groups of alternatives are not supported")
    return _Shape("", repetitions, optional)
