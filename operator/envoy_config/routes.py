"""Route tables: picked routes first, then client-facing ones.

A *picked* route is chosen by the picker through a header and dials the cluster the picker named; it carries its rule's
timeouts and filters. A *client-facing* route carries the HTTP match of a route rule; a request that no picker
answered meets its static fallback: the pool's cluster (FailOpen) or a 503 (FailClose).
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from envoy_config import names
from envoy_config.control_paths import names_control_path, on_control_paths
from envoy_config.fields import Json, duration, typed
from envoy_config.picker_service import picker_service
from envoy_config.refused_requests import refused_requests, without_picker
from envoy_config.settings import EnvoySettings, UsageSource
from inference_resolution.resolved import (
    FailureMode,
    HeaderChange,
    PathMatchType,
    PathRewrite,
    PoolKey,
    Redirect,
    ResolvedBackend,
    ResolvedListener,
    ResolvedPool,
    ResolvedRule,
    RouteEntry,
    RouteMatch,
    ValueMatch,
    VirtualHost,
)

_WELL_KNOWN_PORTS = {"http": 80, "https": 443}
_ATTEMPTS_COVERED = 3
_IDLE_MARGIN_SECONDS = 10.0
_EXT_PROC = "envoy.filters.http.ext_proc"
_EXT_PROC_PER_ROUTE = "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
_MODEL_RESPONSE_HEADER: Json = {
    "header": {
        "key": names.MODEL_HEADER,
        "value": f"%DYNAMIC_METADATA({names.METADATA_NAMESPACE}:{names.MODEL_RESPONSE_VALUE})%",
    },
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}
_REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def _string_match(match: ValueMatch) -> Json:
    value: Json = {"safe_regex": {"regex": match.value}} if match.regex else {"exact": match.value}
    return {"name": match.name, "string_match": value}


def _render_match(match: RouteMatch) -> Json:
    rendered: Json = {}
    match match.path_type:
        case PathMatchType.EXACT:
            rendered["path"] = match.path
        case PathMatchType.REGEX:
            rendered["safe_regex"] = {"regex": match.path}
        case PathMatchType.PREFIX:
            prefix = match.path.rstrip("/")
            rendered.update({"path_separated_prefix": prefix} if prefix else {"prefix": "/"})
    headers = [_string_match(header) for header in match.headers]
    if match.method:
        headers.append({"name": ":method", "string_match": {"exact": match.method}})
    if headers:
        rendered["headers"] = headers
    if match.query:
        rendered["query_parameters"] = [_string_match(parameter) for parameter in match.query]
    return rendered


def _settable(name: str) -> bool:
    return not name.startswith(":") and name != "host"


def _header_values(change: HeaderChange) -> list[Json]:
    def entry(name: str, value: str, action: str) -> Json:
        header = {"key": name, "value": value.replace("%", "%%")}
        return {"header": header, "append_action": action, "keep_empty_value": True}

    return [entry(n, v, "OVERWRITE_IF_EXISTS_OR_ADD") for n, v in change.set if _settable(n)] + [
        entry(n, v, "APPEND_IF_EXISTS_OR_ADD") for n, v in change.add if _settable(n)
    ]


def _host_of(change: HeaderChange) -> str:
    return next((value for name, value in change.set if name == "host"), "")


def _header_changes(rule: ResolvedRule, *, removed: Iterable[str] = (), hidden: Iterable[str] = ()) -> Json:
    """Return the changes of *rule*, without *removed* towards the server and without *hidden* towards the client."""
    rendered: Json = {}
    if added := _header_values(rule.request_headers):
        rendered["request_headers_to_add"] = added
    if remove := [*removed, *(name for name in rule.request_headers.remove if _settable(name))]:
        rendered["request_headers_to_remove"] = remove
    if added := _header_values(rule.response_headers):
        rendered["response_headers_to_add"] = added
    if remove := [*hidden, *(name for name in rule.response_headers.remove if _settable(name))]:
        rendered["response_headers_to_remove"] = remove
    return rendered


def _model_server_headers(rule: ResolvedRule) -> Json:
    return _header_changes(
        rule, removed=(*names.UPSTREAM_REMOVED_HEADERS, "accept-encoding"), hidden=(names.SERVER_HEADER,)
    )


def _prefix_rewrite(match: RouteMatch, replacement: str) -> Json:
    matched = re.escape(match.path.rstrip("/"))
    replaced = replacement.rstrip("/").replace("\\", "\\\\")
    if replaced:
        pattern, substitution = f"^{matched}(/.*)?$", f"{replaced}\\1"
    else:
        pattern, substitution = f"^{matched}/*(.*)$", "/\\1"
    return {"regex_rewrite": {"pattern": {"regex": pattern}, "substitution": substitution}}


def _rewrite(rewrite: PathRewrite | None, match: RouteMatch) -> Json:
    rendered: Json = {}
    if rewrite is None:
        return rendered
    if rewrite.hostname:
        rendered["host_rewrite_literal"] = rewrite.hostname
    if rewrite.full:
        substitution = rewrite.full.replace("\\", "\\\\")
        rendered["regex_rewrite"] = {"pattern": {"regex": "^/.*$"}, "substitution": substitution}
    elif rewrite.prefix is not None:
        rendered.update(_prefix_rewrite(match, rewrite.prefix))
    return rendered


def _redirect(redirect: Redirect, match: RouteMatch) -> Json:
    rendered: Json = {"response_code": _REDIRECT_CODES.get(redirect.status, "FOUND")}
    if redirect.scheme:
        rendered["scheme_redirect"] = redirect.scheme
    if redirect.hostname:
        rendered["host_redirect"] = redirect.hostname
    # a new host name brings no port along; the request's own would stay and not fit the new scheme
    kept = 0 if redirect.hostname else _WELL_KNOWN_PORTS.get(redirect.scheme, 0)
    if port := redirect.port or kept:
        rendered["port_redirect"] = port
    if redirect.full:
        rendered["path_redirect"] = redirect.full
    elif redirect.prefix is not None:
        rendered.update(_prefix_rewrite(match, redirect.prefix))
    return rendered


def _timeouts(rule: ResolvedRule) -> Json:
    return {"timeout": duration(rule.request_timeout_seconds or 0.0)}


def _cluster_without_picker(backend: ResolvedBackend) -> str:
    """Return the cluster that serves *backend* when Envoy chooses alone; one that does not exist gives 500."""
    match backend.target:
        case None:
            return names.NO_BACKEND_CLUSTER
        case PoolKey() as pool:
            return pool.cluster_name + names.OPEN_SUFFIX
        case service:
            return service.cluster_name


def _weighted_clusters(rule: ResolvedRule) -> Json:
    clusters: list[Json] = []
    for backend in rule.backends:
        if backend.weight <= 0:
            continue
        cluster: Json = {"name": _cluster_without_picker(backend), "weight": backend.weight}
        if added := _header_values(backend.request_headers):
            cluster["request_headers_to_add"] = added
        if removed := [n for n in backend.request_headers.remove if _settable(n)]:
            cluster["request_headers_to_remove"] = removed
        clusters.append(cluster)
    return {
        "weighted_clusters": {"clusters": clusters},
        "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR",
    }


class RouteTable:
    """Renders the route table of one listener.

    Args:
        listener: What to render.
        pools: Every pool the listener reaches.
        settings: Limits and switches.
    """

    def __init__(
        self, listener: ResolvedListener, pools: Mapping[PoolKey, ResolvedPool], settings: EnvoySettings
    ) -> None:
        self._listener = listener
        self._pools = pools
        self._settings = settings

    def render(self) -> Json:
        """Return the RouteConfiguration."""
        return typed(
            "envoy.config.route.v3.RouteConfiguration",
            name=self._listener.name,
            virtual_hosts=[self._virtual_host(host) for host in self._listener.virtual_hosts],
            validate_clusters=False,
            ignore_port_in_host_matching=True,  # a wildcard host name would not match `a.example.com:8080`
            response_headers_to_add=[_MODEL_RESPONSE_HEADER],
            response_headers_to_remove=list(names.DOWNSTREAM_REMOVED_HEADERS),
        )

    def _virtual_host(self, host: VirtualHost) -> Json:
        return {
            "name": names.virtual_host_name(host),
            "domains": [host.hostname],
            "routes": [*self._picked_routes(host), *refused_requests(), *self._client_facing_routes(host)],
        }

    def _picked_routes(self, host: VirtualHost) -> Iterator[Json]:
        seen: set[str] = set()
        limited = False  # behind an entry limited to models the picker may fall through to any rule
        for entry in host.entries:
            limited = limited or entry.models is not None
            for streaming in (True, False):
                name = names.picked_route_name(entry, streaming=streaming)
                if (entry.rule.picked or limited) and name not in seen:
                    seen.add(name)
                    yield self._picked_route(name, entry, self._silence_limit(entry.rule, streaming=streaming))

    def _silence_limit(self, rule: ResolvedRule, *, streaming: bool) -> float | None:
        """Return the seconds of silence that end an attempt; None where no pool is concerned."""
        pools = [self._pools[key] for key in rule.pools if key in self._pools]
        return max(
            (p.first_token_timeout_seconds if streaming else p.answer_timeout_seconds for p in pools), default=None
        )

    def _picked_route(self, name: str, entry: RouteEntry, silence_limit: float | None) -> Json:
        rule = entry.rule
        match: Json = {"prefix": "/", "headers": [{"name": names.ROUTE_HEADER, "string_match": {"exact": name}}]}
        if rule.redirect is not None:
            return {"name": name, "match": match, "redirect": _redirect(rule.redirect, entry.match)}
        retries: Json = {
            "retry_on": "connect-failure,refused-stream,reset,5xx,retriable-status-codes",
            "retriable_status_codes": [429],
            "num_retries": 0,  # the picker allows as many as its list is long
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        }
        if silence_limit is not None:
            retries["per_try_idle_timeout"] = duration(silence_limit)
        if rule.backend_timeout_seconds:
            retries["per_try_timeout"] = duration(rule.backend_timeout_seconds)
        action: Json = {
            "cluster_header": names.CLUSTER_HEADER,
            "retry_policy": retries,
            **_timeouts(rule),
            **_rewrite(rule.rewrite, entry.match),
        }
        if silence_limit is not None:
            # the client's stream is silent too while attempts follow each other
            action["idle_timeout"] = duration(
                max(
                    self._settings.stream_idle_timeout_seconds, _ATTEMPTS_COVERED * silence_limit + _IDLE_MARGIN_SECONDS
                )
            )
        if host := _host_of(rule.request_headers):
            action["host_rewrite_literal"] = host
        if "host_rewrite_literal" not in action and any(
            self._pools[key].rewrite_host for key in rule.pools if key in self._pools
        ):
            action["auto_host_rewrite"] = True
        return {
            "name": name,
            "match": match,
            "route": action,
            "request_body_buffer_limit": self._settings.body_buffer_bytes,
            **_model_server_headers(rule),
        }

    def _client_facing_routes(self, host: VirtualHost) -> Iterator[Json]:
        for entry in host.entries:
            match = _render_match(entry.match)
            if self._closes_control_paths(host, entry):
                refusal = self._refusal(names.NO_DECISION_CLUSTER, "SERVICE_UNAVAILABLE")
                yield {"name": entry.name, "match": on_control_paths(match), **refusal}
            yield {"name": entry.name, "match": match, **self._client_facing_action(host, entry)}

    def _client_facing_action(self, host: VirtualHost, entry: RouteEntry) -> Json:
        rule = entry.rule
        if rule.redirect is not None:
            return {"redirect": _redirect(rule.redirect, entry.match), **without_picker()}
        if rule.picked:
            return self._fallback(host, entry)
        if not any(backend.weight > 0 for backend in rule.backends):
            return {"direct_response": {"status": 500}, **without_picker()}
        action: Json = {
            **_weighted_clusters(rule),
            **_timeouts(rule),
            **_rewrite(rule.rewrite, entry.match),
            "upgrade_configs": [{"upgrade_type": "websocket"}],
        }
        if rule.backend_timeout_seconds:
            action["retry_policy"] = {"per_try_timeout": duration(rule.backend_timeout_seconds), "num_retries": 0}
        if host_name := _host_of(rule.request_headers):
            action["host_rewrite_literal"] = host_name
        return {
            "route": action,
            **_header_changes(rule, removed=names.UPSTREAM_REMOVED_HEADERS),
            **without_picker(),
        }

    def _fails_open(self, host: VirtualHost, entry: RouteEntry) -> bool:
        """Return whether Envoy may choose alone: every pool fails open and no body is needed to tell pools apart."""
        keys = set(entry.rule.pools)
        for other in host.entries:
            if other.match == entry.match and (other.models is not None or entry.models is not None):
                keys.update(other.rule.pools)
        modes = {self._pools[key].failure_mode for key in keys if key in self._pools}
        return modes == {FailureMode.FAIL_OPEN} and (entry.models is None or len(keys) == 1)

    def _closes_control_paths(self, host: VirtualHost, entry: RouteEntry) -> bool:
        """Return whether control paths need a route of their own: this one would serve them without a picker."""
        leads_on = entry.rule.picked and any(backend.weight > 0 for backend in entry.rule.backends)
        return leads_on and self._fails_open(host, entry) and not names_control_path(entry.match)

    def _refusal(self, cluster: str, code: str) -> Json:
        """Return an action that answers with *code*: it leads to a cluster that does not exist.

        A direct response would say it more plainly, but Envoy knows no body limit for those: the picker's filter could
        not hold a body larger than the connection's buffer. The request is on this route only while it arrives and is
        decided, so it may be silent for less long than an answer.
        """
        return {
            "route": {
                "cluster": cluster,
                "cluster_not_found_response_code": code,
                "idle_timeout": duration(self._settings.undecided_idle_seconds),
            },
            "request_body_buffer_limit": self._settings.body_buffer_bytes,
        }

    def _fallback(self, host: VirtualHost, entry: RouteEntry) -> Json:
        if not any(backend.weight > 0 for backend in entry.rule.backends):
            return self._refusal(names.NO_BACKEND_CLUSTER, "INTERNAL_SERVER_ERROR")
        if not self._fails_open(host, entry):
            return self._refusal(names.NO_DECISION_CLUSTER, "SERVICE_UNAVAILABLE")
        action: Json = {
            **_weighted_clusters(entry.rule),
            **_timeouts(entry.rule),
            **_rewrite(entry.rule.rewrite, entry.match),
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset",
                "num_retries": 2,
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
                    }
                ],
                "host_selection_retry_max_attempts": 3,
            },
        }
        overrides: Json = {"failure_mode_allow": True, "grpc_service": picker_service(waits=False)}
        if self._settings.usage is UsageSource.PICKER:
            overrides["processing_mode"] = {"response_header_mode": "SKIP", "request_body_mode": "BUFFERED"}
        return {
            "route": action,
            "request_body_buffer_limit": self._settings.body_buffer_bytes,
            "typed_per_filter_config": {_EXT_PROC: typed(_EXT_PROC_PER_ROUTE, overrides=overrides)},
            **_model_server_headers(entry.rule),
        }
