"""Tables that can be printed to a terminal or written as Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.text_table import table

_NUMBER: Final = re.compile(r"[-+≤]?[\d ]|$")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under a title; *note* stands below."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """Return it for a terminal."""
        return "\n".join((self.title, table(self.heads, self.rows), *([self.note] if self.note else [])))

    def markdown(self) -> str:
        """Return it for a page; the title is left to the page."""
        columns = [[row[at] for row in self.rows] for at in range(len(self.heads))]
        marks = ["---:" if all(_NUMBER.match(cell) for cell in column) else "---" for column in columns]
        lines = [list(self.heads), marks, *self.rows]
        body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"{body}\n\n{self.note}\n" if self.note else f"{body}\n"
