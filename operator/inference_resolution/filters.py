"""Filters of a rule in resolved form, and which of them are not supported."""

from collections.abc import Sequence
from typing import Final, Literal

from inference_api.http_route_filter import HTTPRouteFilter
from inference_api.names import INTERNAL_HEADER_PREFIXES
from inference_resolution.resolved import HeaderChange, PathRewrite, Redirect

_SUPPORTED: Final = frozenset({"RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite"})
_SUPPORTED_ON_BACKEND: Final = frozenset({"RequestHeaderModifier"})


def unsupported_filters(filters: Sequence[HTTPRouteFilter]) -> list[str]:
    """Return the types of a rule's filters that are not supported, sorted."""
    return sorted({item.type for item in filters} - _SUPPORTED)


def unsupported_backend_filters(filters: Sequence[HTTPRouteFilter]) -> list[str]:
    """Return the types of a backendRef's filters that are not supported, sorted."""
    return sorted({item.type for item in filters} - _SUPPORTED_ON_BACKEND)


def header_change(
    filters: Sequence[HTTPRouteFilter], name: Literal["request_header_modifier", "response_header_modifier"]
) -> HeaderChange:
    """Return the header changes of the filter *name*, names in lower case, without reserved headers."""
    for item in filters:
        modifier = item.request_header_modifier if name == "request_header_modifier" else item.response_header_modifier
        if modifier is not None:
            return HeaderChange(
                set=tuple((h.name.lower(), h.value) for h in modifier.set if not _is_reserved(h.name)),
                add=tuple((h.name.lower(), h.value) for h in modifier.add if not _is_reserved(h.name)),
                remove=tuple(h.lower() for h in modifier.remove if not _is_reserved(h)),
            )
    return HeaderChange()


def _is_reserved(name: str) -> bool:
    return name.lower().startswith((*INTERNAL_HEADER_PREFIXES, "x-envoy-", ":"))


def reserved_headers(filters: Sequence[HTTPRouteFilter]) -> list[str]:
    """Return the headers that a filter may not change, because they steer the gateway itself; sorted."""
    modifiers = [m for item in filters for m in (item.request_header_modifier, item.response_header_modifier) if m]
    touched = {h.name for m in modifiers for h in (*m.set, *m.add)} | {h for m in modifiers for h in m.remove}
    return sorted(name for name in touched if _is_reserved(name))


def path_rewrite(filters: Sequence[HTTPRouteFilter]) -> PathRewrite | None:
    """Return the URLRewrite among *filters*, None without one."""
    for item in filters:
        if (rewrite := item.url_rewrite) is not None:
            path = rewrite.path
            return PathRewrite(
                hostname=rewrite.hostname or "",
                full=(path.replace_full_path or "/") if path and path.type == "ReplaceFullPath" else "",
                prefix=path.replace_prefix_match if path and path.type == "ReplacePrefixMatch" else None,
            )
    return None


def redirect(filters: Sequence[HTTPRouteFilter]) -> Redirect | None:
    """Return the RequestRedirect among *filters*, None without one."""
    for item in filters:
        if (target := item.request_redirect) is not None:
            path = target.path
            return Redirect(
                scheme=target.scheme or "",
                hostname=target.hostname or "",
                full=(path.replace_full_path or "/") if path and path.type == "ReplaceFullPath" else "",
                prefix=path.replace_prefix_match if path and path.type == "ReplacePrefixMatch" else None,
                port=target.port or 0,
                status=target.status_code,
            )
    return None
