"""The director: from a request's head and body to a decision, and from its end back to the ledger."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.errors import EndpointPickerError, InvalidRequest, NoReadyEndpoints, RouteNotFound
from endpoint_picker.domain.request import InferenceRequest, SchedulingDecision
from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.body.kinds import BodyKind, canonical_path
from endpoint_picker.requestcontrol.body.parsed import BodyLimits, ParsedBody
from endpoint_picker.requestcontrol.body.reading import read_body
from endpoint_picker.requestcontrol.body.rewriting import rewrite
from endpoint_picker.requestcontrol.exchange import NO_CHANGE, Answer, Forward, RequestHead
from endpoint_picker.requestcontrol.ledger import InFlightLedger
from endpoint_picker.requestcontrol.model_list import model_list, model_request
from endpoint_picker.requestcontrol.open_requests import OpenRequests, PendingRequest
from endpoint_picker.requestcontrol.ports import Clock, EndpointSource, Observer, Scheduling
from endpoint_picker.requestcontrol.request_ids import safe_request_id
from endpoint_picker.requestcontrol.routing import ModelChoice, Routing
from envoy_config import names
from envoy_config.control_paths import is_control_path, names_control_path
from inference_resolution.resolved import ResolvedBackend, ResolvedPool, RouteEntry, ServiceKey

LARGE_BODY_BYTES = 1024 * 1024
"""Bodies from this size on are read in a thread."""
_USAGE_STREAMS = frozenset({BodyKind.CHAT, BodyKind.COMPLETIONS})
"""Kinds whose streams carry usage only when asked for."""
_RESPONSE_VALUE_LENGTH = 256
_RECENT_DECISIONS = 20
_SETTLED_KEPT = 16_384
"""Ends remembered, so that one that is reported twice counts once."""


@dataclass(frozen=True, slots=True)
class DirectorSettings:
    """Limits and defaults of the director.

    Attributes:
        limits: Bounds on request bodies.
        add_include_usage: Ask model servers for usage on streams whose client did not.
        expected_output_tokens: Output expected of a request without a limit.
        boot_id: Distinguishes this process in correlation ids.
        in_flight_limit_seconds: What is remembered of a request goes when nothing was reported of it for so long.
    """

    limits: BodyLimits
    add_include_usage: bool = True
    expected_output_tokens: int = 256
    boot_id: str = "0"
    in_flight_limit_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class _Draft:
    """One request while it is being decided."""

    correlation_id: str
    pending: PendingRequest
    head: RequestHead
    body: bytes | None
    parsed: ParsedBody | None


class Director:
    """Decides every request and settles it at its end.

    Decisions are synchronous and touch no network. A pick counts in the ledger at once; the end of the request,
    however it comes, releases it exactly once, and the ledger's time limit is the safety net.

    Args:
        routing: Which pool a request belongs to.
        endpoints: Endpoints of the pools.
        scheduling: Chooses among them.
        ledger: In-flight work, written here only.
        observer: Hears of everything that is counted or logged.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch.
        settings: Limits and defaults.
    """

    def __init__(
        self,
        *,
        routing: Routing,
        endpoints: EndpointSource,
        scheduling: Scheduling,
        ledger: InFlightLedger,
        observer: Observer,
        clock: Clock,
        wall_clock: Clock,
        settings: DirectorSettings,
        new_request_id: Callable[[], str],
    ) -> None:
        self._routing = routing
        self._endpoints = endpoints
        self._scheduling = scheduling
        self._ledger = ledger
        self._observer = observer
        self._clock = clock
        self._wall_clock = wall_clock
        self._settings = settings
        self._new_request_id = new_request_id
        self._sequence = 0
        self._open = OpenRequests()
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._recent: deque[tuple[InferenceRequest, SchedulingDecision]] = deque(maxlen=_RECENT_DECISIONS)

    # -- the way in -------------------------------------------------------------------------------------------------

    def answer_early(self, head: RequestHead) -> Answer | None:
        """Return the answer that needs no body: the list of models. None: go on.

        Raises:
            ModelNotFound: A single model was asked for and is not served.
        """
        wanted = model_request(head.method, head.path)
        if wanted is None:
            return None
        host = head.virtual_host or self._routing.virtual_host_of(head.authority)
        pools = self._routing.pools_of_host(host)
        if not pools:
            return None
        models = set(self._routing.model_names(host))
        for pool in pools:
            if not pool.models:
                models.update(self._endpoints.served_models(pool.key))
        body = model_list(models, wanted=wanted, created=int(self._wall_clock()))
        return Answer(200, body, self._next_correlation_id())

    def check_head(self, head: RequestHead) -> None:
        """Refuse what needs no body to be refused, so that none is waited for; for data planes that name their routes.

        Raises:
            RouteNotFound: No route matched.
        """
        if not head.virtual_host and model_request(head.method, head.path) is None:
            raise _no_route(head)

    def decide(self, head: RequestHead, body: bytes | None) -> Forward | Awaitable[Forward]:
        """Return where the request goes; *body* is None when it has none.

        A large body is read in a thread, so that it does not hold up small requests: then the answer is to be awaited.

        Raises:
            EndpointPickerError: One of its leaves, when the request cannot go anywhere; also when awaited.
        """
        pending = PendingRequest(self._request_id(head), self._clock(), stream_id=head.stream_id)
        correlation_id = self._next_correlation_id()
        if body is not None and len(body) >= LARGE_BODY_BYTES:
            return self._decide_large(correlation_id, pending, head, body)
        return self._settle_decision(correlation_id, pending, head, body, lambda: self._read(head, body))

    async def _decide_large(
        self, correlation_id: str, pending: PendingRequest, head: RequestHead, body: bytes
    ) -> Forward:
        reading = await asyncio.to_thread(_outcome, self._read, head, body)
        return self._settle_decision(correlation_id, pending, head, body, reading)

    def _settle_decision(
        self,
        correlation_id: str,
        pending: PendingRequest,
        head: RequestHead,
        body: bytes | None,
        read: Callable[[], ParsedBody | None],
    ) -> Forward:
        """Decide, and remember the request whether it goes anywhere or is refused."""
        try:
            parsed = read()
            if parsed is not None:
                pending.model, pending.streaming = parsed.model, parsed.streaming
            forward = self._decide(_Draft(correlation_id, pending, head, body, parsed))
        except EndpointPickerError as error:
            error.correlation_id = correlation_id
            self._open.add(correlation_id, pending)
            raise
        except Exception:
            self._forget(correlation_id)
            raise
        self._open.add(correlation_id, pending)
        return forward

    def _read(self, head: RequestHead, body: bytes | None) -> ParsedBody | None:
        if (body is None and head.method != "POST") or not self._routing.reaches_pools(head):
            return None
        return read_body(
            body or b"",
            path=head.path,
            content_type=head.headers.get("content-type", ""),
            content_encoding=head.headers.get("content-encoding", ""),
            limits=self._settings.limits,
        )

    def _decide(self, draft: _Draft) -> Forward:
        head = draft.head
        if not head.virtual_host:
            raise _no_route(head)
        entry = self._routing.find(head, draft.pending.model)
        if entry.rule.redirect is not None:
            return self._to_route(draft, entry)
        backend = self._routing.choose_backend(entry.rule)
        if isinstance(backend.target, ServiceKey) or backend.target is None:
            return self._to_route(draft, entry, backend)
        pool = self._routing.pools.get(backend.target)
        if pool is None:
            msg = "The pool of this route is gone."
            raise NoReadyEndpoints(msg)
        return self._to_pool(draft, entry, backend, pool)

    @staticmethod
    def _to_route(draft: _Draft, entry: RouteEntry, backend: ResolvedBackend | None = None) -> Forward:
        """Return the way to something that needs no endpoint of ours: a Service or a redirect."""
        target = backend.target if backend is not None else None
        return Forward(
            correlation_id=draft.correlation_id,
            request_id=draft.pending.request_id,
            route=names.picked_route_name(entry, streaming=draft.pending.streaming),
            cluster=target.cluster_name if target is not None else "",
            changes=backend.request_headers if backend is not None else NO_CHANGE,
        )

    def _to_pool(self, draft: _Draft, entry: RouteEntry, backend: ResolvedBackend, pool: ResolvedPool) -> Forward:
        pending = draft.pending
        self._keep_off_control_paths(draft, entry)
        if draft.parsed is not None and draft.parsed.unreadable and (pool.models or pool.rewrites):
            # the model server might read the name of a model that may not be asked for here
            raise InvalidRequest(draft.parsed.unreadable)
        choice = self._routing.choose_model(pool, pending.model)
        request = self._inference_request(draft, pool, choice)
        pending.target_model, pending.priority = request.target_model, request.priority
        pending.pool = pool.key.cluster_name
        new_body, strip = self._new_body(draft.body, draft.parsed, choice)
        decision = self._schedule(pool, request)
        pending.addresses = decision.addresses
        expected = request.max_output_tokens or self._settings.expected_output_tokens
        self._ledger.place(
            draft.correlation_id,
            decision.addresses[0],
            request.prompt_tokens,
            expected,
            self._clock(),
            elsewhere=not pending.stream_id,
        )
        self._observer.began(draft.correlation_id, request.model)
        self._recent.append((request, decision))
        return Forward(
            correlation_id=draft.correlation_id,
            request_id=request.request_id,
            route=names.picked_route_name(entry, streaming=draft.pending.streaming),
            cluster=pending.pool,
            addresses=decision.addresses,
            body=new_body,
            metadata=_metadata(request.model, request.target_model, pending.pool, strip=strip),
            changes=backend.request_headers,
            strip_usage=strip,
            decision=decision,
        )

    @staticmethod
    def _keep_off_control_paths(draft: _Draft, entry: RouteEntry) -> None:
        """Refuse a request that would control or inspect a model server, unless its route names the path."""
        known = draft.parsed is not None and draft.parsed.kind is not BodyKind.OTHER
        if not known and is_control_path(canonical_path(draft.head.path)) and not names_control_path(entry.match):
            raise _no_route(draft.head)

    @staticmethod
    def _inference_request(draft: _Draft, pool: ResolvedPool, choice: ModelChoice) -> InferenceRequest:
        head, parsed = draft.head, draft.parsed
        return InferenceRequest(
            request_id=draft.pending.request_id,
            model=draft.pending.model,
            target_model=choice.target,
            headers=head.headers,
            prompt=parsed.prompt if parsed is not None else b"",
            prompt_tokens=parsed.prompt_tokens if parsed is not None else 0,
            max_output_tokens=parsed.max_output_tokens if parsed is not None else None,
            streaming=draft.pending.streaming,
            priority=_priority(head.headers, pool, choice.priority),
            subset=head.subset,
        )

    def _schedule(self, pool: ResolvedPool, request: InferenceRequest) -> SchedulingDecision:
        started = self._clock()
        candidates, every = self._endpoints.candidates(pool.key), self._endpoints.endpoints(pool.key)
        try:
            if not every:
                msg = "No model server is ready for this model; try again later."
                raise NoReadyEndpoints(msg)
            try:
                decision = self._scheduling.schedule(request, candidates, pool.scheduling_profile)
            except NoReadyEndpoints:
                if len(candidates) == len(every):
                    raise
                # filters took the rest: an endpoint that failed lately is better than none
                candidates = every
                decision = self._scheduling.schedule(request, candidates, pool.scheduling_profile)
        except EndpointPickerError:
            self._observer.scheduled(request, None, None, self._clock() - started)
            raise
        self._endpoints.chosen(decision.addresses[0], request.request_id)
        chosen = next(endpoint for endpoint in candidates if endpoint.address == decision.addresses[0])
        self._observer.scheduled(request, chosen, decision, self._clock() - started)
        return decision

    def _new_body(
        self, body: bytes | None, parsed: ParsedBody | None, choice: ModelChoice
    ) -> tuple[bytes | None, bool]:
        """Return the body to send if it must differ from what came, and whether usage was asked for on our behalf."""
        if body is None or parsed is None:
            return None, False
        add_usage = (
            self._settings.add_include_usage
            and parsed.streaming
            and not parsed.wants_usage
            and parsed.kind in _USAGE_STREAMS
        )
        new_model = choice.target if choice.target != parsed.model else None
        if new_model is None and not add_usage:
            return None, False
        return rewrite(body, parsed, model=new_model, add_include_usage=add_usage), add_usage

    def _request_id(self, head: RequestHead) -> str:
        return safe_request_id(head.headers.get(names.REQUEST_ID_HEADER, "")) or self._new_request_id()

    def _next_correlation_id(self) -> str:
        self._sequence += 1
        return f"{self._settings.boot_id}-{self._sequence:x}"

    # -- the way back -----------------------------------------------------------------------------------------------

    def attempt(self, attempt: Attempt) -> None:
        """Learn how one attempt went; the request moves on to the endpoint that is tried next."""
        self._observer.attempted(attempt)
        correlation_id = attempt.correlation_id or self._open.of_request_id(attempt.request_id)
        pending = self._open.get(correlation_id)
        if pending is None or attempt.address not in pending.addresses:
            tells = not attempt.live
        elif attempt.live:
            tells = self._follow(correlation_id, pending, attempt)
        else:
            tells = self._move_on(correlation_id, pending, attempt)
        if tells:
            self._endpoints.attempted(attempt)

    def _follow(self, correlation_id: str, pending: PendingRequest, attempt: Attempt) -> bool:
        """Keep the ledger at the endpoint that a request is at; return whether that is news of the endpoint."""
        self._ledger.move(correlation_id, attempt.address)
        self._renew(correlation_id)
        if not attempt.started:
            return True
        self._ledger.first_token(correlation_id)
        known, pending.started = pending.started, True
        return not known

    def _move_on(self, correlation_id: str, pending: PendingRequest, attempt: Attempt) -> bool:
        """Follow a request to its next endpoint; return whether its attempt says something of the endpoint.

        A request that a second endpoint answers with an error is suspected itself: it counts once, so that a request
        that no model server can stand does not open the circuits of all it is tried at.
        """
        if not attempt.passed_on:
            return True
        position = pending.addresses.index(attempt.address) + 1
        if position < len(pending.addresses):
            self._ledger.move(correlation_id, pending.addresses[position])
        if attempt.status is None or not attempt.failed:
            return True
        pending.errors += 1
        return pending.errors == 1

    def _renew(self, correlation_id: str) -> None:
        """Remember a request for another time limit, because it was reported to be under way."""
        now = self._clock()
        self._ledger.renew(correlation_id, now)
        self._open.renew(correlation_id, now)

    def note_usage(self, correlation_id: str, usage: Usage) -> None:
        """Keep usage that the picker itself read from the answer, for the end of the request."""
        pending = self._open.get(correlation_id)
        if pending is not None and usage.known:
            pending.usage = usage

    def first_token(self, correlation_id: str) -> None:
        """Learn that the first byte of the answer was seen."""
        self._ledger.first_token(correlation_id)

    def completed(self, completed: CompletedRequest) -> None:
        """Settle one request: release the ledger, count and log. A second report of one end counts for nothing.

        The report of a request that ended before our answer reached the data plane names no correlation id of ours.
        """
        correlation_id = completed.correlation_id or self._open.of_stream_id(completed.stream_id)
        if not correlation_id:
            if completed.cluster.endswith(names.OPEN_SUFFIX):
                self._ledger.release_adopted(completed.last_address)
            self._observer.completed(completed)
            return
        if correlation_id in self._settled:
            return
        self._settled[correlation_id] = None
        if len(self._settled) > _SETTLED_KEPT:
            self._settled.popitem(last=False)
        released = self._ledger.release(correlation_id)
        pending = self._drop(correlation_id)
        if not released and (pending is None or pending.addresses):
            # of an earlier process, or taken for lost: it is counted without being known
            self._ledger.release_adopted(completed.last_address)
        if pending is not None:
            completed.correlation_id = correlation_id
            _complete(completed, pending)
        else:
            self._observer.stranger_ended()
        if (attempt := completed.answered_attempt) is not None:
            self._observer.attempted(attempt)
            self._endpoints.attempted(attempt)
        self._observer.completed(completed)

    def abandon(self, correlation_id: str) -> None:
        """Release a request that will have no end to report."""
        self._forget(correlation_id)

    def _forget(self, correlation_id: str) -> PendingRequest | None:
        self._ledger.release(correlation_id)
        return self._drop(correlation_id)

    def _drop(self, correlation_id: str) -> PendingRequest | None:
        self._observer.ended(correlation_id)
        return self._open.remove(correlation_id)

    def sweep(self) -> int:
        """Release what has outlived the time limit; return how many requests left the ledger."""
        now = self._clock()
        expired = self._ledger.expire(now)
        latest = now - self._settings.in_flight_limit_seconds
        for correlation_id in self._open.seen_until(latest):
            self._drop(correlation_id)
        if expired:
            self._observer.expired(expired)
        return expired

    @property
    def recent(self) -> tuple[tuple[InferenceRequest, SchedulingDecision], ...]:
        """The latest decisions, oldest first; for the debug page."""
        return tuple(self._recent)

    @property
    def pending(self) -> Mapping[str, PendingRequest]:
        """Requests whose end has not been reported, by correlation id; for the debug page."""
        return self._open.pending


def _no_route(head: RequestHead) -> RouteNotFound:
    return RouteNotFound(f"No route matches {head.method} {head.path.partition('?')[0][:200]}.")


def _outcome(
    read: Callable[[RequestHead, bytes | None], ParsedBody | None], head: RequestHead, body: bytes
) -> Callable[[], ParsedBody | None]:
    """Read now; return what gives the result, or raises what was raised, later."""
    reading: Future[ParsedBody | None] = Future()
    try:
        reading.set_result(read(head, body))
    except Exception as error:  # noqa: BLE001 - raised where the result is asked for
        reading.set_exception(error)
    return reading.result


def _priority(headers: Mapping[str, str], pool: ResolvedPool, default: int) -> int:
    for header in names.OBJECTIVE_HEADERS:
        objective = headers.get(header)
        if objective is not None:
            return pool.objectives.get(objective, 0)
    return default


@lru_cache(maxsize=1024)
def _metadata(model: str, target_model: str, pool: str, *, strip: bool) -> tuple[tuple[str, str | bool], ...]:
    """Return what later stages of the data plane are told of a request."""
    metadata: list[tuple[str, str | bool]] = [
        (names.MODEL, model),
        (names.TARGET_MODEL, target_model),
        (names.POOL, pool),
    ]
    if strip:
        metadata.append((names.INCLUDE_USAGE_ADDED, True))
    if value := _header_value(model):
        metadata.append((names.MODEL_RESPONSE_VALUE, value))
    return tuple(metadata)


def _header_value(model: str) -> str:
    """Return *model* if it may stand in a response header, else nothing."""
    fits = len(model) <= _RESPONSE_VALUE_LENGTH and model.isascii() and model.isprintable()
    return model if fits else ""


def _complete(completed: CompletedRequest, pending: PendingRequest) -> None:
    """Fill in what only the director knows."""
    completed.model = pending.model
    completed.target_model = pending.target_model
    completed.pool = pending.pool
    completed.priority = pending.priority
    completed.streaming = pending.streaming
    if pending.usage is not None and not completed.usage.known:
        completed.usage = pending.usage
