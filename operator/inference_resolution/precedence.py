"""Precedence of matches: which of two entries that both match a request serves it.

Exact path, regular expression (implementation-specific in Gateway API), longest prefix, method, most headers, most
query parameters; then the oldest object, then namespace and name, then rule and match order. A match on a model header
counts as a header although Envoy does not see it.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from inference_resolution.resolved import PathMatchType, RouteEntry

_PATH_ORDER: Final = {PathMatchType.EXACT: 0, PathMatchType.REGEX: 1, PathMatchType.PREFIX: 2}


class PrecedenceKey(NamedTuple):
    """Sorts the best match first; a total order, since *name* is unique."""

    path_type: int
    path_length: int
    without_method: bool
    headers: int
    query: int
    rank: int
    rule: int
    match: int
    name: str


@dataclass(frozen=True, slots=True)
class RankedEntry:
    """An entry with what its precedence depends on beyond its match.

    Attributes:
        entry: The entry.
        rank: Age of its object; less is older.
        rule: Index of its rule within the route.
        match: Index of its match within the rule.
        model_headers: Matches on model headers, which are not among the headers of the match.
    """

    entry: RouteEntry
    rank: int
    rule: int = 0
    match: int = 0
    model_headers: int = 0

    @property
    def precedence(self) -> PrecedenceKey:
        """Sort key; the least is the best."""
        match = self.entry.match
        return PrecedenceKey(
            path_type=_PATH_ORDER[match.path_type],
            path_length=-len(match.path),
            without_method=not match.method,
            headers=-(len(match.headers) + self.model_headers),
            query=-len(match.query),
            rank=self.rank,
            rule=self.rule,
            match=self.match,
            name=self.entry.name,
        )
