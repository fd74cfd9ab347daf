"""Every request is decided once and settled once, however its end is reported."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from endpoint_picker.domain.circuit import CircuitState
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.errors import (
    BackendInvalid,
    EndpointPickerError,
    InvalidRequest,
    ModelNotFound,
    NoReadyEndpoints,
    RouteNotFound,
)
from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.body.kinds import canonical_path
from endpoint_picker.requestcontrol.director import LARGE_BODY_BYTES
from endpoint_picker.requestcontrol.exchange import Forward, RequestHead
from envoy_config import names
from inference_resolution.resolved import (
    ObjectKey,
    Redirect,
    ResolvedRewrite,
    RouteMatch,
    ServiceKey,
    TargetModel,
)
from picker_world import LIMIT_SECONDS, OTHER_POOL, POOL, World, entry_to, model_of, pool_of, resolution_of

REWRITE_KEY = ObjectKey("inference.networking.x-k8s.io", "InferenceModelRewrite", "default", "w")


def chat(model: str = "m", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **more}).encode()


def decide(world: World, body: bytes | None = None, head: RequestHead | None = None) -> Forward:
    return decided(world.director.decide(head or world.head(), chat() if body is None else body))


def decided(decision: Forward | Awaitable[Forward]) -> Forward:
    """Return a decision that may take time."""

    async def wait(decision: Awaitable[Forward]) -> Forward:
        return await decision

    return decision if isinstance(decision, Forward) else asyncio.run(wait(decision))


def refused(world: World, body: bytes | None = None, head: RequestHead | None = None) -> EndpointPickerError:
    with pytest.raises(EndpointPickerError) as raised:
        decide(world, body, head)
    return raised.value


def world_of(**pool: Any) -> World:
    return World(resolution_of(entry_to(POOL), pools=[pool_of(**pool)]))


# -- models and priorities --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "target", "priority"),
    [
        pytest.param({}, "m", -1, id="no-models-means-any-and-sheddable"),
        pytest.param({"models": {"m": model_of("m", TargetModel("t"), priority=5)}}, "t", 5, id="the-model-says"),
        pytest.param(
            {
                "models": {"m": model_of("m", TargetModel("t"), priority=5)},
                "rewrites": (ResolvedRewrite(REWRITE_KEY, frozenset({"m"}), (TargetModel("w"),)),),
            },
            "w",
            5,
            id="a-rewrite-speaks-first",
        ),
        pytest.param(
            {
                "models": {"x": model_of("x")},
                "rewrites": (ResolvedRewrite(REWRITE_KEY, frozenset(), (TargetModel("w"),)),),
            },
            "w",
            0,
            id="a-generic-rewrite-takes-any-model",
        ),
    ],
)
def test_models(pool: dict[str, Any], target: str, priority: int) -> None:
    world = world_of(**pool)
    forward = decide(world)
    (request,) = world.scheduling.requests
    assert (request.model, request.target_model, request.priority) == ("m", target, priority)
    assert json.loads(forward.body or chat())["model"] == target


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    error = refused(world_of(models={"b": model_of("b"), "a": model_of("a")}))
    assert isinstance(error, ModelNotFound)
    assert error.known == ("a", "b")


@pytest.mark.parametrize(
    ("headers", "priority"),
    [
        pytest.param({"x_gateway_inference_objective": "gold"}, 10, id="ours"),
        pytest.param({"x_llm_d_inference_objective": "gold"}, 10, id="the-other-name"),
        pytest.param({"x_gateway_inference_objective": "none"}, 0, id="unknown-means-default"),
        pytest.param({}, -1, id="no-objective"),
    ],
)
def test_an_objective_sets_the_priority(headers: dict[str, str], priority: int) -> None:
    world = world_of(objectives={"gold": 10})
    decide(world, head=world.head(**headers))
    assert world.scheduling.requests[0].priority == priority


# -- what is forwarded ------------------------------------------------------------------------------------------------


def test_the_way_to_a_pool() -> None:
    world = World()
    forward = decide(world, head=world.head(x_request_id="client-1"))
    assert (forward.cluster, forward.addresses) == (POOL.cluster_name, ("10.0.0.1:80", "10.0.0.2:80"))
    assert (forward.request_id, forward.body, forward.strip_usage) == ("client-1", None, False)
    assert dict(forward.metadata)[names.MODEL] == "m"
    assert world.ledger.address_of(forward.correlation_id) == "10.0.0.1:80"


def test_usage_is_asked_for_on_streams_whose_client_did_not() -> None:
    forward = decide(World(), chat(stream=True))
    assert json.loads(forward.body or b"{}")["stream_options"] == {"include_usage": True}
    assert (forward.strip_usage, dict(forward.metadata)[names.INCLUDE_USAGE_ADDED]) == (True, True)
    asked = decide(World(), chat(stream=True, stream_options={"include_usage": True}))
    assert (asked.body, asked.strip_usage) == (None, False)


def test_an_unsafe_request_id_is_replaced() -> None:
    world = World()
    assert decide(world, head=world.head(x_request_id="a b\n")).request_id == "made-1"


def test_a_model_name_unfit_for_a_header_stays_out_of_it() -> None:
    assert names.MODEL_RESPONSE_VALUE not in dict(decide(World(), chat("é")).metadata)
    assert dict(decide(World(), chat("m")).metadata)[names.MODEL_RESPONSE_VALUE] == "m"


def test_a_large_body_is_decided_like_a_small_one() -> None:
    forward = decide(World(), chat(padding="x" * LARGE_BODY_BYTES))
    assert forward.cluster == POOL.cluster_name


def test_ways_that_need_no_endpoint() -> None:
    service = ServiceKey("default", "web", 80)
    world = World(resolution_of(entry_to(service)))
    forward = decide(world, b"not json")
    assert (forward.cluster, forward.addresses) == (service.cluster_name, ())
    world = World(resolution_of(entry_to(redirect=Redirect())))
    assert (decide(world).cluster, decide(world).route[:1]) == ("", "r")


def test_a_request_without_body_goes_to_a_pool_too() -> None:
    world = World()
    forward = decided(world.director.decide(world.head("/", method="GET"), None))
    assert forward.cluster == POOL.cluster_name
    assert world.scheduling.requests[0].model == ""


@pytest.mark.parametrize(
    ("world", "body", "error"),
    [
        pytest.param(world_of(endpoints=0), None, NoReadyEndpoints, id="no-endpoints"),
        pytest.param(World(resolution_of(entry_to())), None, BackendInvalid, id="no-backend"),
        pytest.param(World(resolution_of(entry_to(None))), None, BackendInvalid, id="invalid-reference"),
        pytest.param(World(resolution_of(entry_to(OTHER_POOL))), None, NoReadyEndpoints, id="pool-gone"),
        pytest.param(World(), b"{", InvalidRequest, id="broken-body"),
    ],
)
def test_refusals_are_remembered_until_they_are_reported(
    world: World, body: bytes | None, error: type[EndpointPickerError]
) -> None:
    raised = refused(world, body)
    assert type(raised) is error
    assert world.ledger.totals.requests == 0
    world.director.completed(CompletedRequest(correlation_id=raised.correlation_id, status=503))
    assert len(world.observer.finished) == 1
    assert world.idle


def test_no_route_is_no_route() -> None:
    assert isinstance(refused(World(), head=RequestHead(method="POST", path="/x")), RouteNotFound)


def test_no_route_is_known_before_the_body() -> None:
    director = World().director
    with pytest.raises(RouteNotFound, match="POST /x"):
        director.check_head(RequestHead(method="POST", path="/x?secret=1"))
    director.check_head(RequestHead(method="GET", path="/v1/models"))
    director.check_head(World().head())


@pytest.mark.parametrize(
    ("pool", "passes"),
    [
        pytest.param({}, True, id="any-model"),
        pytest.param({"models": {"m": model_of("m")}}, False, id="named-models"),
        pytest.param(
            {"rewrites": (ResolvedRewrite(REWRITE_KEY, frozenset(), (TargetModel("w"),)),)},
            False,
            id="rewritten-models",
        ),
    ],
)
def test_a_model_that_only_the_server_could_read_passes_where_any_may(pool: dict[str, Any], passes: bool) -> None:
    world = world_of(**pool)
    head = world.head("/v1/chat/completions/custom")
    body = b'{"model":"m","model":"other"}'
    if passes:
        assert decide(world, body, head).body is None
    else:
        assert isinstance(refused(world, body, head), InvalidRequest)
    assert decide(world, b"no object", head).body is None


@pytest.mark.parametrize("path", ["/sleep", "/v1/load_lora_adapter", "/v1%2fMETRICS", "/v2/repository/index/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_control_path_of_a_model_server_needs_a_route_that_names_it(path: str, method: str) -> None:
    body = chat() if method == "POST" else None
    world = World()
    with pytest.raises(RouteNotFound):
        decided(world.director.decide(world.head(path, method=method), body))
    match = RouteMatch(path=canonical_path(path))
    named = World(resolution_of(entry_to(POOL, match=match), pools=[pool_of()]))
    assert decided(named.director.decide(named.head(path, method=method), body)).addresses


def test_a_defect_while_deciding_leaves_nothing() -> None:
    world = World()

    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError

    world.scheduling.schedule = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(ZeroDivisionError):
        decide(world)
    assert world.idle


# -- the list of models -----------------------------------------------------------------------------------------------


def listed(world: World, path: str = "/v1/models", *, virtual_host: bool = True) -> Any:
    head = world.head(path, method="GET")
    if not virtual_host:
        head = RequestHead(method="GET", path=path, authority="h:8080")
    answer = world.director.answer_early(head)
    return None if answer is None else json.loads(answer.body)


@pytest.mark.parametrize("virtual_host", [True, False])
def test_the_list_names_configured_and_served_models(virtual_host: bool) -> None:
    named = entry_to(POOL, name="a")
    anything = entry_to(OTHER_POOL, name="b", models=frozenset({"z"}))
    pools = [pool_of(models={"m": model_of("m")}), pool_of(OTHER_POOL)]
    world = World(resolution_of(named, anything, pools=pools))
    world.models = {"10.0.0.1:80": ["served"]}
    assert [m["id"] for m in listed(world, virtual_host=virtual_host)["data"]] == ["m", "served", "z"]


def test_one_model_and_none() -> None:
    world = world_of(models={"a/b c": model_of("a/b c")})
    assert listed(world, "/v1/models/a%2Fb%20c?x=1")["id"] == "a/b c"
    with pytest.raises(ModelNotFound):
        listed(world, "/v1/models/other")
    assert listed(World(resolution_of(entry_to(ServiceKey("d", "s", 80))))) is None
    assert world.director.answer_early(world.head("/v1/models")) is None


# -- settling ---------------------------------------------------------------------------------------------------------


def test_the_end_carries_what_only_the_director_knows() -> None:
    world = World()
    forward = decide(world, chat(stream=True))
    world.director.note_usage(forward.correlation_id, Usage(prompt_tokens=1))
    world.director.completed(CompletedRequest(correlation_id=forward.correlation_id, status=200))
    (completed,) = world.observer.finished
    assert (completed.model, completed.pool, completed.streaming, completed.usage.prompt_tokens) == (
        "m",
        POOL.cluster_name,
        True,
        1,
    )


def test_usage_of_the_report_goes_before_our_own_reading() -> None:
    world = World()
    forward = decide(world)
    world.director.note_usage(forward.correlation_id, Usage(prompt_tokens=1))
    world.director.completed(CompletedRequest(correlation_id=forward.correlation_id, usage=Usage(prompt_tokens=2)))
    assert world.observer.finished[0].usage.prompt_tokens == 2


def test_strangers_count_each_time_and_repeated_ends_once() -> None:
    world = World()
    for correlation_id in ("", "", "b-77", "b-77"):
        world.director.completed(CompletedRequest(correlation_id=correlation_id))
    assert [c.correlation_id for c in world.observer.finished] == ["", "", "b-77"]


def test_the_memory_of_ends_is_bounded() -> None:
    world = World()
    for number in range(20_000):
        world.director.completed(CompletedRequest(correlation_id=str(number)))
    assert len(world.director._settled) <= 16_384


def test_a_live_attempt_moves_the_request() -> None:
    world = World()
    forward = decide(world)
    world.director.attempt(Attempt(forward.request_id, "10.0.0.2:80", live=True))
    assert world.ledger.address_of(forward.correlation_id) == "10.0.0.2:80"


@pytest.mark.parametrize(
    ("attempt", "moved"),
    [
        pytest.param({"flags": "UF"}, True, id="refused"),
        pytest.param({"status": 503}, True, id="server-error"),
        pytest.param({"status": 429}, True, id="too-many-requests"),
        pytest.param({"status": 200, "started": True}, False, id="served"),
        pytest.param({"status": 404}, False, id="answered"),
        pytest.param({"flags": "DC"}, False, id="client-left"),
        pytest.param({"status": 503, "started": True}, True, id="error-with-a-body"),
        pytest.param({"status": 200, "flags": "UPE", "started": True}, False, id="begun-answers-are-not-retried"),
    ],
)
def test_a_failed_attempt_moves_the_request_to_the_next_of_its_list(attempt: dict[str, Any], moved: bool) -> None:
    world = world_of()
    forward = decide(world)
    first, second = forward.addresses
    world.director.attempt(Attempt(forward.request_id, first, **attempt))
    assert world.ledger.address_of(forward.correlation_id) == (second if moved else first)


def test_a_request_that_two_endpoints_answer_with_an_error_counts_at_the_first_only() -> None:
    world = world_of()
    for _ in range(5):
        forward = decide(world)
        for address in forward.addresses:
            world.director.attempt(Attempt(forward.request_id, address, 500, started=True))
    states = [world.store.circuit(address) for address in ("10.0.0.1:80", "10.0.0.2:80")]
    assert [circuit.state for circuit in states if circuit] == [CircuitState.OPEN, CircuitState.CLOSED]


def test_the_first_choice_alone_probes_a_half_open_endpoint() -> None:
    world = world_of()
    world.director.attempt(Attempt("other", "10.0.0.1:80", flags="UF"))
    assert decide(world).addresses == ("10.0.0.2:80",)
    world.now += 1.0
    probe = decide(world)
    assert probe.addresses[0] == "10.0.0.1:80"
    assert decide(world).addresses == ("10.0.0.2:80",)
    world.director.attempt(Attempt(probe.request_id, "10.0.0.1:80", 200, started=True))
    assert decide(world).addresses == ("10.0.0.1:80", "10.0.0.2:80")


def test_a_probe_is_answered_with_its_first_byte() -> None:
    world = world_of()
    world.director.attempt(Attempt("other", "10.0.0.1:80", flags="UF"))
    world.now += 1.0
    probe = decide(world)
    for _ in range(9):
        world.now += 10.0
        world.director.attempt(Attempt(probe.request_id, "10.0.0.1:80", live=True))
        assert decide(world).addresses == ("10.0.0.2:80",)
    world.director.attempt(Attempt(probe.request_id, "10.0.0.1:80", live=True, started=True))
    assert decide(world).addresses == ("10.0.0.1:80", "10.0.0.2:80")


def test_a_running_stream_speaks_well_of_its_endpoint_once() -> None:
    world = world_of()
    stream = decide(world)
    for _ in range(2):
        world.director.attempt(Attempt("other", stream.addresses[0], 500))
    world.director.attempt(Attempt(stream.request_id, stream.addresses[0], live=True, started=True))
    for _ in range(2):
        world.director.attempt(Attempt("other", stream.addresses[0], 500))
    world.director.attempt(Attempt(stream.request_id, stream.addresses[0], live=True, started=True))
    world.director.attempt(Attempt("other", stream.addresses[0], 500))
    assert stream.addresses[0] not in decide(world).addresses


def test_an_attempt_elsewhere_under_the_same_id_moves_nothing() -> None:
    world = world_of()
    forward = decide(world)
    world.director.attempt(Attempt(forward.request_id, "203.0.113.9:1", flags="UF"))
    world.director.attempt(Attempt(forward.request_id, "203.0.113.9:1", live=True))
    assert world.ledger.address_of(forward.correlation_id) == forward.addresses[0]


def test_a_request_that_is_reported_to_run_outlives_the_time_limit() -> None:
    world = world_of()
    long, lost = decide(world), decide(world)
    world.now += LIMIT_SECONDS - 1
    world.director.attempt(Attempt(long.request_id, long.addresses[0], live=True))
    world.now += 1
    assert world.director.sweep() == 1
    assert world.ledger.address_of(long.correlation_id) is not None
    assert world.ledger.address_of(lost.correlation_id) is None


def test_progress_is_joined_by_our_own_id_where_the_report_has_it() -> None:
    world = world_of()
    first = decide(world, head=world.head(x_request_id="same"))
    second = decide(world, head=world.head(x_request_id="same"))
    assert first.addresses == second.addresses
    progress = Attempt("same", first.addresses[1], live=True, correlation_id=first.correlation_id)
    world.director.attempt(progress)
    assert world.ledger.address_of(first.correlation_id) == first.addresses[1]
    assert world.ledger.address_of(second.correlation_id) == first.addresses[0]
    pending = world.director.pending
    assert (pending[first.correlation_id].renewed, pending[second.correlation_id].renewed) == (True, False)


def test_a_request_that_ended_before_our_answer_came_is_settled_by_its_stream() -> None:
    world = world_of()
    forward = decide(world, chat(stream=True), world.head(x_request_id="mine", stream_id="s-1"))
    world.director.completed(CompletedRequest(request_id="mine", stream_id="s-1", client_gone=True))
    assert world.idle
    (completed,) = world.observer.finished
    assert (completed.correlation_id, completed.model, completed.client_gone) == (forward.correlation_id, "m", True)
    world.director.completed(CompletedRequest(correlation_id=forward.correlation_id, status=200))
    assert len(world.observer.finished) == 1


def test_an_id_that_clients_share_releases_nothing() -> None:
    world = world_of()
    stays = decide(world, head=world.head(x_request_id="same", stream_id="s-1"))
    leaves = decide(world, head=world.head(x_request_id="same", stream_id="s-2"))
    world.director.completed(CompletedRequest(request_id="same", stream_id="s-0", client_gone=True))
    assert world.ledger.totals.requests == 2
    world.director.completed(CompletedRequest(request_id="same", stream_id="s-2", client_gone=True))
    assert world.ledger.address_of(leaves.correlation_id) is None
    assert world.ledger.address_of(stays.correlation_id) is not None


def test_the_end_of_a_request_of_another_process_is_counted_as_a_strangers() -> None:
    world = world_of()
    world.director.completed(CompletedRequest(correlation_id="elder-1", status=200))
    assert world.observer.strangers == 1


@pytest.mark.parametrize(
    ("completed", "left"),
    [
        pytest.param({"correlation_id": "elder-1", "last_address": "10.0.0.1:80"}, 1, id="of-an-earlier-process"),
        pytest.param({"correlation_id": "elder-1", "last_address": "10.0.0.2:80"}, 2, id="elsewhere"),
        pytest.param({"correlation_id": "elder-1"}, 2, id="nowhere"),
        pytest.param(
            {"cluster": POOL.cluster_name + names.OPEN_SUFFIX, "last_address": "10.0.0.1:80"}, 1, id="of-no-picker"
        ),
        pytest.param({"cluster": "default/web:80", "last_address": "10.0.0.1:80"}, 2, id="of-a-service"),
    ],
)
def test_the_end_of_a_request_we_did_not_place_releases_an_adopted_one(completed: dict[str, Any], left: int) -> None:
    world = world_of()
    world.ledger.correct("10.0.0.1:80", 2)
    world.director.completed(CompletedRequest(**completed))
    assert world.ledger.counters("10.0.0.1:80").requests == left


def test_the_end_of_a_request_of_ours_leaves_adopted_ones_alone() -> None:
    service = ServiceKey("default", "web", 80)
    world = World(resolution_of(entry_to(POOL), entry_to(service, name="s"), pools=[pool_of()]))
    world.ledger.correct("10.0.0.1:80", 2)
    for entry in (0, 1):
        forward = decide(world, head=world.head(entry=entry))
        ended = CompletedRequest(correlation_id=forward.correlation_id, last_address="10.0.0.1:80")
        world.director.completed(ended)
        world.director.completed(ended)
    assert world.ledger.counters("10.0.0.1:80").requests == 2


def test_the_end_of_a_request_that_was_taken_for_lost_releases_an_adopted_one() -> None:
    world = world_of()
    forward = decide(world)
    world.ledger.release(forward.correlation_id)
    world.ledger.correct("10.0.0.1:80", 1)  # it was there, after all
    world.director.completed(CompletedRequest(correlation_id=forward.correlation_id, last_address="10.0.0.1:80"))
    assert world.ledger.totals.requests == 0
    assert (world.observer.strangers, world.observer.finished[0].model) == (0, "m")


@pytest.mark.parametrize(("stream_id", "audited"), [("s-1", 1), ("", 0)])
def test_only_requests_of_our_own_data_plane_are_audited(stream_id: str, audited: int) -> None:
    world = world_of()
    forward = decide(world, head=world.head(stream_id=stream_id))
    assert world.ledger.known()[forward.addresses[0]].requests == audited


class Settling(RuleBasedStateMachine):
    """Requests are decided, tried, reported, reported again, abandoned and forgotten in any order."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(resolution_of(entry_to(POOL), pools=[pool_of(models={"m": model_of("m")})]))
        self.counted: list[str] = []
        self.reported: set[str] = set()
        self.streams = 0

    @rule(target=requests, model=st.sampled_from(["m", "m", "unknown"]), shared_id=st.booleans(), own=st.booleans())
    def decides(self, model: str, shared_id: bool, own: bool) -> tuple[str, str]:
        self.streams += own
        stream_id = f"s-{self.streams}" if own else ""
        head = self.world.head(stream_id=stream_id, **({"x_request_id": "same"} if shared_id else {}))
        try:
            forward = decide(self.world, chat(model), head)
        except ModelNotFound as error:
            return error.correlation_id, "same" if shared_id else "none"
        return forward.correlation_id, forward.request_id

    @rule(request=requests, number=st.integers(1, 3), live=st.booleans(), flags=st.sampled_from(["", "UF", "UT"]))
    def is_tried(self, request: tuple[str, str], number: int, live: bool, flags: str) -> None:
        self.world.director.attempt(Attempt(request[1], f"10.0.0.{number}:80", flags=flags, live=live))

    @rule(request=requests)
    def shows_its_first_token(self, request: tuple[str, str]) -> None:
        self.world.director.first_token(request[0])

    @rule(request=requests)
    def is_reported(self, request: tuple[str, str]) -> None:
        self.world.director.completed(CompletedRequest(correlation_id=request[0], status=200))
        self.reported.add(request[0])

    @rule(request=requests)
    def is_reported_by_its_stream(self, request: tuple[str, str]) -> None:
        pending = self.world.director.pending.get(request[0])
        if pending is not None and pending.stream_id:
            self.world.director.completed(CompletedRequest(stream_id=pending.stream_id, client_gone=True))
            self.reported.add(request[0])

    @rule(request=consumes(requests))
    def is_abandoned(self, request: tuple[str, str]) -> None:
        self.world.director.abandon(request[0])

    @rule(seconds=st.sampled_from([1.0, LIMIT_SECONDS / 2, LIMIT_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.director.sweep()

    @rule(endpoints=st.integers(0, 3))
    def the_pool_changes(self, endpoints: int) -> None:
        pool = pool_of(models={"m": model_of("m")}, endpoints=max(1, endpoints))
        self.world.take(resolution_of(entry_to(POOL), pools=[pool]))

    @invariant()
    def each_end_counts_once(self) -> None:
        assert sorted(c.correlation_id for c in self.world.observer.finished) == sorted(self.reported)

    @invariant()
    def what_is_remembered_fits_together(self) -> None:
        director, observer = self.world.director, self.world.observer
        assert set(observer.running) <= set(director.pending)
        assert set(director._open._by_request_id.values()) <= set(director.pending)
        assert {p.stream_id: c for c, p in director.pending.items() if p.stream_id} == director._open._by_stream_id
        assert self.world.ledger.totals.requests <= len(director.pending)

    def teardown(self) -> None:
        self.world.now += LIMIT_SECONDS
        self.world.director.sweep()
        assert self.world.idle


TestSettling = Settling.TestCase
TestSettling.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
