"""HTTPRoute matches: path, headers, query parameters and method of one match of a rule."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from inference_api.schema import HeaderName, OpenModel, first_repeated

PathType = Literal["Exact", "PathPrefix", "RegularExpression"]
ValueType = Literal["Exact", "RegularExpression"]
Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]

_FORBIDDEN_IN_PATH: Final = ("//", "/./", "/../", "%2f", "%2F", "#")
_FORBIDDEN_AT_END: Final = ("/..", "/.")
_PATH_CHARACTERS: Final = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+\Z")


class PathMatch(OpenModel):
    """What the path must be; PathPrefix compares whole path elements."""

    type: PathType = "PathPrefix"
    value: Annotated[str, Field(max_length=1024)] = "/"

    @model_validator(mode="after")
    def _normalised(self) -> Self:
        if problem := self._problem():
            raise ValueError(problem)
        return self

    def _problem(self) -> str:
        if self.type == "RegularExpression":
            return "" if self.value else "value must not be empty when type is RegularExpression"
        where = "when type one of ['Exact', 'PathPrefix']"
        if not self.value.startswith("/"):
            return f"value must be an absolute path and start with '/' {where}"
        for part in _FORBIDDEN_IN_PATH:
            if part in self.value:
                return f"must not contain '{part}' {where}"
        for end in _FORBIDDEN_AT_END:
            if self.value.endswith(end):
                return f"must not end with '{end}' {where}"
        if not _PATH_CHARACTERS.match(self.value):
            return f"must only contain valid characters {where}"
        return ""


class HeaderMatch(OpenModel):
    """What one request header must be."""

    type: ValueType = "Exact"
    name: HeaderName
    value: Annotated[str, Field(min_length=1, max_length=4096)]


class QueryParamMatch(OpenModel):
    """What one query parameter must be."""

    type: ValueType = "Exact"
    name: HeaderName
    value: Annotated[str, Field(min_length=1, max_length=1024)]


class HTTPRouteMatch(OpenModel):
    """One match; all its parts must hold."""

    path: PathMatch = PathMatch()
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=16)] = ()
    query_params: Annotated[tuple[QueryParamMatch, ...], Field(max_length=16)] = ()
    method: Method | None = None

    @field_validator("headers", "query_params")
    @classmethod
    def _names_differ(
        cls, matches: tuple[HeaderMatch, ...] | tuple[QueryParamMatch, ...]
    ) -> tuple[HeaderMatch, ...] | tuple[QueryParamMatch, ...]:
        if (repeated := first_repeated(match.name for match in matches)) is not None:
            msg = f"{repeated!r} is matched twice"
            raise ValueError(msg)
        return matches
