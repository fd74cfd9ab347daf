"""HTTPRoute: which requests of a Gateway go where; the part of it that is served."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from inference_api.duration import Duration, parse_duration
from inference_api.http_route_filter import HTTPRouteFilter, filters_problem, replaces_prefix
from inference_api.http_route_match import HTTPRouteMatch
from inference_api.metadata import OpenObject
from inference_api.parent_reference import ParentReference, parent_reference_problem
from inference_api.schema import (
    Group,
    Hostname,
    Kind,
    ObjectName,
    OpenModel,
    PortNumber,
    RouteWeight,
    Subdomain,
    first_repeated,
)

Filters = Annotated[tuple[HTTPRouteFilter, ...], Field(max_length=16)]
MAX_MATCHES = 128


class HTTPBackendRef(OpenModel):
    """A Service or InferencePool and its share; `namespace` unset means the route's own."""

    group: Group = ""
    kind: Kind = "Service"
    name: ObjectName
    namespace: Subdomain | None = None
    port: PortNumber | None = None
    weight: RouteWeight = 1
    filters: Filters = ()

    @model_validator(mode="after")
    def _service_has_port(self) -> Self:
        if self.group == "" and self.kind == "Service" and self.port is None:
            msg = "Must have port for Service reference"
            raise ValueError(msg)
        if problem := filters_problem(self.filters):
            raise ValueError(problem)
        return self


class HTTPRouteTimeouts(OpenModel):
    """Limits of the whole request and of one attempt; ``0s`` disables."""

    request: Duration | None = None
    backend_request: Duration | None = None

    @model_validator(mode="after")
    def _attempt_fits_request(self) -> Self:
        if self.request is None or self.backend_request is None:
            return self
        whole, attempt = parse_duration(self.request), parse_duration(self.backend_request)
        if whole != 0 and attempt > whole:
            msg = "backendRequest timeout cannot be longer than request timeout"
            raise ValueError(msg)
        return self


class HTTPRouteRule(OpenModel):
    """Alternatives to match, and what then happens; experimental fields such as `retry` pass unread."""

    name: Subdomain | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], Field(max_length=64)] = (HTTPRouteMatch(),)
    filters: Filters = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], Field(max_length=16)] = ()
    timeouts: HTTPRouteTimeouts | None = None

    @field_validator("matches")
    @classmethod
    def _default_match(cls, matches: tuple[HTTPRouteMatch, ...]) -> tuple[HTTPRouteMatch, ...]:
        return matches or (HTTPRouteMatch(),)

    @model_validator(mode="after")
    def _filters_fit(self) -> Self:
        if problem := filters_problem(self.filters):
            raise ValueError(problem)
        if self.backend_refs and any(item.type == "RequestRedirect" for item in self.filters):
            msg = "RequestRedirect filter must not be used together with backendRefs"
            raise ValueError(msg)
        for filters in (self.filters, *(ref.filters for ref in self.backend_refs)):
            kind = replaces_prefix(filters)
            if kind and not (len(self.matches) == 1 and self.matches[0].path.type == "PathPrefix"):
                msg = (
                    f"When using {kind} filter with path.replacePrefixMatch, "
                    "exactly one PathPrefix match must be specified"
                )
                raise ValueError(msg)
        return self


class HTTPRouteSpec(OpenModel):
    """Parents, hosts and rules."""

    parent_refs: Annotated[tuple[ParentReference, ...], Field(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], Field(min_length=1, max_length=16)] = (HTTPRouteRule(),)

    @field_validator("rules")
    @classmethod
    def _matches_in_bounds(cls, rules: tuple[HTTPRouteRule, ...]) -> tuple[HTTPRouteRule, ...]:
        if sum(len(rule.matches) for rule in rules) > MAX_MATCHES:
            msg = (
                "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a "
                "route must be less than 128"
            )
            raise ValueError(msg)
        if first_repeated(rule.name for rule in rules if rule.name) is not None:
            msg = "Rule name must be unique within the route"
            raise ValueError(msg)
        return rules


class HTTPRoute(OpenObject):
    """A route, ``gateway.networking.k8s.io/v1`` or ``v1beta1``."""

    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
    kind: Literal["HTTPRoute"]
    spec: HTTPRouteSpec = HTTPRouteSpec()

    @model_validator(mode="after")
    def _parents_differ(self) -> Self:
        if problem := parent_reference_problem(self.spec.parent_refs, self.metadata.namespace):
            raise ValueError(problem)
        return self
