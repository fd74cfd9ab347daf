"""What the commands print: results on standard output, events and failures on standard error."""

import contextlib
import time
from collections.abc import Iterable, Iterator

import typer
from rich.console import Console

from igw.errors import CommandError

OUT = Console(highlight=False, markup=False, emoji=False)
ERR = Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_event(message: str) -> None:
    """Print one dated line on standard error; a terminal that has gone away is no error."""
    with contextlib.suppress(OSError):
        ERR.print(f"{time.strftime('%H:%M:%S')} igw: {message}", soft_wrap=True)


def print_failure(message: str) -> None:
    """Print the one line that says why a command fails."""
    with contextlib.suppress(OSError):
        ERR.print(f"igw: {message}", soft_wrap=True)


def print_problem(problem: str) -> None:
    """Print one thing that is wrong with the input, on a line of its own."""
    with contextlib.suppress(OSError):
        ERR.print(problem, soft_wrap=True)


def print_fields(title: str, fields: Iterable[tuple[str, str]]) -> None:
    """Print a title and, indented below it, names with their values in one column; long values wrap there."""
    for line in field_lines(title, fields):
        OUT.print(line, soft_wrap=True)


def field_lines(title: str, fields: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of `print_fields`."""
    yield title
    width = max(20, OUT.width - 14)
    for name, value in fields:
        for index, line in enumerate(_wrapped(value, width)):
            yield f"  {name if index == 0 else '':<12}{line}"


def joined(items: Iterable[str], *, limit: int = 8) -> str:
    """Join *items* by commas, naming only the first *limit* of them."""
    names = list(items)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


@contextlib.contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn a `CommandError` into its line and exit code."""
    try:
        yield
    except CommandError as failure:
        print_failure(str(failure))
        raise typer.Exit(failure.exit_code) from None


def _wrapped(value: str, width: int) -> list[str]:
    lines = [""]
    for word in value.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
