"""Rules of an HTTPRoute: what happens to a matched request, and the entries that lead there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inference_api.duration import parse_duration
from inference_api.http_route import HTTPRoute, HTTPRouteRule
from inference_api.http_route_match import HTTPRouteMatch
from inference_api.names import MODEL_HEADERS
from inference_resolution.backends import BackendProblems, resolve_backend
from inference_resolution.filters import header_change, path_rewrite, redirect, reserved_headers, unsupported_filters
from inference_resolution.inventory import Inventory, object_key
from inference_resolution.pools import PoolOutcome
from inference_resolution.precedence import RankedEntry
from inference_resolution.regular_expressions import regex_problem
from inference_resolution.resolved import (
    ObjectKey,
    PathMatchType,
    PathRewrite,
    PoolKey,
    ResolvedRule,
    RouteEntry,
    RouteMatch,
    ValueMatch,
)


@dataclass(frozen=True, slots=True)
class RouteOutcome:
    """An HTTPRoute without its parents.

    Attributes:
        subject: The HTTPRoute.
        entries: Every match of every rule.
        problems: What is wrong with its references and values.
    """

    subject: ObjectKey
    entries: tuple[RankedEntry, ...]
    problems: BackendProblems


def resolve_route(route: HTTPRoute, inventory: Inventory, outcomes: Mapping[PoolKey, PoolOutcome]) -> RouteOutcome:
    """Resolve rules, matches and backends of *route*; where it attaches is decided elsewhere."""
    subject = object_key(route)
    problems = BackendProblems()
    entries: list[RankedEntry] = []
    for index, rule in enumerate(route.spec.rules):
        name = f"httproute/{subject.namespace}/{subject.name}/{index}"
        resolved = _resolve_rule(name, f"rules[{index}]", subject, rule, inventory, outcomes, problems)
        for number, match in enumerate(rule.matches):
            where = f"rules[{index}].matches[{number}]"
            if problem := _match_problem(match):
                problems.values.append(f"{where} is left out: {problem}.")
                continue
            models, model_headers = _models(match)
            entry = RouteEntry(f"{name}/{number}", _route_match(match), resolved, models)
            entries.append(RankedEntry(entry, inventory.rank[subject], index, number, model_headers))
    return RouteOutcome(subject, tuple(entries), problems)


def _resolve_rule(  # one caller; a context object would only rename these
    name: str,
    where: str,
    subject: ObjectKey,
    rule: HTTPRouteRule,
    inventory: Inventory,
    outcomes: Mapping[PoolKey, PoolOutcome],
    problems: BackendProblems,
) -> ResolvedRule:
    unsupported = unsupported_filters(rule.filters)
    if unsupported:
        problems.values.append(f"{where} answers 500: filters of type {', '.join(unsupported)} are not supported.")
        return ResolvedRule(name, ())
    if reserved := reserved_headers(rule.filters):
        problems.values.append(f"{where}: headers {', '.join(reserved)} are the gateway's own and stay as they are.")
    rewrite, filters = path_rewrite(rule.filters), rule.filters
    timeouts = rule.timeouts
    return ResolvedRule(
        name=name,
        backends=tuple(resolve_backend(subject, ref, inventory, outcomes, problems) for ref in rule.backend_refs),
        request_timeout_seconds=parse_duration(timeouts.request) if timeouts and timeouts.request else None,
        backend_timeout_seconds=(
            parse_duration(timeouts.backend_request) if timeouts and timeouts.backend_request else None
        ),
        request_headers=header_change(filters, "request_header_modifier"),
        response_headers=header_change(filters, "response_header_modifier"),
        rewrite=None if rewrite == PathRewrite() else rewrite,
        redirect=redirect(filters),
    )


def _is_model_header(name: str) -> bool:
    return name.lower() in MODEL_HEADERS


def _match_problem(match: HTTPRouteMatch) -> str:
    patterns = [match.path.value] if match.path.type == "RegularExpression" else []
    for header in match.headers:
        if header.type == "RegularExpression":
            if _is_model_header(header.name):
                return f"header {header.name} can only be matched with type Exact"
            patterns.append(header.value)
    patterns.extend(param.value for param in match.query_params if param.type == "RegularExpression")
    return next((problem for pattern in patterns if (problem := regex_problem(pattern))), "")


def _models(match: HTTPRouteMatch) -> tuple[frozenset[str] | None, int]:
    """Return the model names that *match* asks for, None for any, and how many headers say so."""
    values = [header.value for header in match.headers if _is_model_header(header.name)]
    if not values:
        return None, 0
    return frozenset(values) if len(set(values)) == 1 else frozenset(), len(values)


def _route_match(match: HTTPRouteMatch) -> RouteMatch:
    path_type = PathMatchType(match.path.type)
    path = match.path.value
    if path_type is PathMatchType.PREFIX:
        path = path.rstrip("/") or "/"
    headers = (item for item in match.headers if not _is_model_header(item.name))
    return RouteMatch(
        path_type=path_type,
        path=path,
        method=match.method or "",
        headers=_first_of_each(
            ValueMatch(item.name.lower(), item.value, item.type == "RegularExpression") for item in headers
        ),
        query=tuple(ValueMatch(item.name, item.value, item.type == "RegularExpression") for item in match.query_params),
    )


def _first_of_each(matches: Iterable[ValueMatch]) -> tuple[ValueMatch, ...]:
    """Keep the first match of each name, as Gateway API asks for names that differ only in case."""
    first: dict[str, ValueMatch] = {}
    for match in matches:
        first.setdefault(match.name, match)
    return tuple(first.values())
