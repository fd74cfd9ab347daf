"""HTTPRoute filters: what is done to a matched request besides forwarding it."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from inference_api.schema import HeaderName, ObjectName, OpenModel, PortNumber, PreciseHostname, first_repeated

FilterType = Literal[
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "ExtensionRef",
    "CORS",
    "ExternalAuth",
]

_ONCE: Final = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "CORS")
_FIELDS: Final = {
    "RequestHeaderModifier": ("request_header_modifier", "requestHeaderModifier"),
    "ResponseHeaderModifier": ("response_header_modifier", "responseHeaderModifier"),
    "RequestMirror": ("request_mirror", "requestMirror"),
    "RequestRedirect": ("request_redirect", "requestRedirect"),
    "URLRewrite": ("url_rewrite", "urlRewrite"),
    "ExtensionRef": ("extension_ref", "extensionRef"),
    "CORS": ("cors", "cors"),
    "ExternalAuth": ("external_auth", "externalAuth"),
}


class HTTPHeader(OpenModel):
    """A header to set or add."""

    name: HeaderName
    value: Annotated[str, Field(min_length=1, max_length=4096)]

    @field_validator("value")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if any(character in value for character in "\r\n\0"):
            msg = "header value must not contain line breaks or NUL"
            raise ValueError(msg)
        return value


class HeaderModifier(OpenModel):
    """Headers to set, add and remove."""

    set: Annotated[tuple[HTTPHeader, ...], Field(max_length=16)] = ()
    add: Annotated[tuple[HTTPHeader, ...], Field(max_length=16)] = ()
    remove: Annotated[tuple[HeaderName, ...], Field(max_length=16)] = ()

    @field_validator("set", "add")
    @classmethod
    def _names_differ(cls, headers: tuple[HTTPHeader, ...]) -> tuple[HTTPHeader, ...]:
        if (repeated := first_repeated(header.name for header in headers)) is not None:
            msg = f"{repeated!r} is listed twice"
            raise ValueError(msg)
        return headers


class PathModifier(OpenModel):
    """A new path: the whole, or what replaces the matched prefix."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Field(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Field(max_length=1024)] | None = None

    @model_validator(mode="after")
    def _value_fits_type(self) -> Self:
        values = {
            "ReplaceFullPath": ("replaceFullPath", self.replace_full_path),
            "ReplacePrefixMatch": ("replacePrefixMatch", self.replace_prefix_match),
        }
        for type_, (name, value) in values.items():
            if type_ == self.type and value is None:
                msg = f"{name} must be specified when type is set to '{type_}'"
                raise ValueError(msg)
            if type_ != self.type and value is not None:
                msg = f"type must be '{type_}' when {name} is set"
                raise ValueError(msg)
        return self


class RequestRedirect(OpenModel):
    """A redirect; unset parts are taken from the request."""

    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class URLRewrite(OpenModel):
    """A new host and path towards the backend."""

    hostname: PreciseHostname | None = None
    path: PathModifier | None = None


class LocalObjectReference(OpenModel):
    """An object of the route's namespace."""

    group: str
    kind: str
    name: ObjectName


class HTTPRouteFilter(OpenModel):
    """One filter; exactly the field that `type` names is set."""

    type: FilterType
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: URLRewrite | None = Field(default=None, alias="urlRewrite")
    request_mirror: dict[str, object] | None = None
    extension_ref: LocalObjectReference | None = None
    cors: dict[str, object] | None = None
    external_auth: dict[str, object] | None = None

    @model_validator(mode="after")
    def _field_fits_type(self) -> Self:
        for type_, (attribute, name) in _FIELDS.items():
            given = getattr(self, attribute) is not None
            if type_ == self.type and not given:
                msg = f"filter.{name} must be specified for {type_} filter.type"
                raise ValueError(msg)
            if type_ != self.type and given:
                msg = f"filter.{name} must be nil if the filter.type is not {type_}"
                raise ValueError(msg)
        return self


def replaces_prefix(filters: Sequence[HTTPRouteFilter]) -> str:
    """Return the type of the filter that replaces the matched prefix, empty if none does."""
    for item in filters:
        target = item.request_redirect or item.url_rewrite
        if target is not None and target.path is not None and target.path.type == "ReplacePrefixMatch":
            return item.type
    return ""


def filters_problem(filters: Sequence[HTTPRouteFilter]) -> str:
    """Return what forbids *filters* side by side, empty if nothing."""
    types = [item.type for item in filters]
    if "RequestRedirect" in types and "URLRewrite" in types:
        return "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both"
    for type_ in _ONCE:
        if types.count(type_) > 1:
            return f"{type_} filter cannot be repeated"
    return ""
