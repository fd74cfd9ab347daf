"""The ext-proc session: whatever comes in whatever order, each mode has its answers and nothing stays undecided."""

import random
from collections import Counter

from google.protobuf.message import DecodeError

from endpoint_picker.domain.errors import EndpointPickerError, InternalFailure, NoReadyEndpoints
from endpoint_picker.extproc.errors import error_answer
from endpoint_picker.extproc.messages import ProcessingRequest, ProcessingResponse, read_headers
from endpoint_picker.extproc.session import BodyMode, DecisionWanted, ExtProcSession, State
from endpoint_picker.requestcontrol.exchange import Answer, Forward
from endpoint_picker.requestcontrol.stream_usage_filter import StreamUsageFilter
from envoy_config import names
from fuzz import protobuf_values
from fuzz.target import Draws, Target, bounded

MODES = (*BodyMode, None, 99)
BOUNDS = (10_000_000, 0, 10, 200_000)
_FORWARD = Forward("c-1", "req-1", "route", "cluster", addresses=("10.0.0.1:80", "10.0.0.2:80"))
FORWARDS = (
    _FORWARD,
    Forward("c-1", "req-1", "route", "cluster", body=b"new"),
    Forward("c-1", "req-1", "route", "cluster", strip_usage=True),
    Forward("c-1", "req-1", "route", "", body=b"n" * 62_001, strip_usage=True, metadata=(("a", "b"), ("c", True))),
    Forward("c-1", "req-1", "route", "cluster", body=b""),
    Forward("c-1", "\ud800", "route", "cluster"),  # cannot be written
)
HEADERS = (
    (":status", "200"), (":status", "503"), (":status", ""), (":status", "²"), (":status", "9" * 5000),
    (":status", "-1"),
    ("content-type", "text/event-stream"), ("content-type", "Text/Event-Stream ; charset=utf-8"),
    ("content-type", "application/json"), ("content-type", "\xff;;"),
    ("content-length", "3"), ("x-a", "b"), ("", ""),
)  # fmt: skip
EVENTS = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n', b'data: {"choices":[{}]}\n\n', b"data: [DONE]\r\n\r\n",
    b"\n", b"x",
    b'{"usage":{"prompt_tokens":1}}', b"", b"a" * 300, b"a" * 130_000,
)  # fmt: skip

_PHASES = (
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
)
_RANK = {phase: rank for rank, phase in enumerate(_PHASES)}


class _DataPlane:
    """Sends messages, decides at once as the server does, and checks each answer."""

    def __init__(self, draws: Draws) -> None:
        self.max_body = draws.pick(BOUNDS)
        self.mode, self.response_mode = draws.pick(MODES), draws.pick(MODES)
        self.outcome = draws.byte()
        own = draws.flag()
        default = BodyMode.BUFFERED if own else BodyMode.FULL_DUPLEX
        self.session = ExtProcSession(max_body_bytes=self.max_body, default_mode=default)
        self.request_mode = default
        self.shown_mode = BodyMode.NONE
        self.received = Counter[str]()
        self.answered = Counter[str]()
        self.in_order = True
        self.rank = -1
        self.request_ended = False
        self.response_ended = False
        self.wanted: bytes | None = None
        self.body = b""
        self.response_body = b""
        self.shown: list[bytes] = []
        self.forward: Forward | None = None
        self.over = False
        self.stripping = False
        self.immediate = False

    def send(self, message: ProcessingRequest) -> None:
        kind = message.WhichOneof("request") or ""
        if self.session.state is State.HEADERS and message.HasField("protocol_config"):
            self.request_mode, self.shown_mode = map(
                _mode, (message.protocol_config.request_body_mode, message.protocol_config.response_body_mode)
            )
        self._follow(kind, message)
        if self.session.state is State.DONE:
            facts = repr(self.session.response)
            assert self.session.receive(message) == [], "an answer after the end"
            assert (self.session.state, repr(self.session.response)) == (State.DONE, facts)
            return
        answers = self._answers(message)
        if self.over:
            return
        self._check(kind, answers)

    def _answers(self, message: ProcessingRequest) -> list[ProcessingResponse]:
        """Do as the server does with one message."""
        session = self.session
        try:
            step = session.receive(message)
            assert session.held_bytes <= self.max_body
            if isinstance(step, DecisionWanted):
                return self._decide(step)
        except EndpointPickerError as error:
            if session.request_answered:
                self.over = True  # the server ends the stream
                return []
            return self._refuse(error_answer(error))
        except UnicodeEncodeError:
            assert self.forward is not None
            assert self.forward.request_id == "\ud800", "only what cannot be written"
            assert not session.request_answered, "an answer that was not made counts as given"
            return self._refuse(error_answer(InternalFailure("failed")))
        return step

    def _decide(self, wanted: DecisionWanted) -> list[ProcessingResponse]:
        assert self.session.state is State.DECIDING
        assert not self.session.request_answered
        assert wanted.head is self.session.head
        if wanted.body is not None and self.in_order:
            assert wanted.body == self.body
        self.wanted = wanted.body
        if self.outcome % 4 == 3:
            return self._refuse(error_answer(NoReadyEndpoints("none")))
        self.forward = FORWARDS[(self.outcome >> 2) % len(FORWARDS)]
        answers = self.session.forwarded(self.forward)
        assert self.session.state is State.RESPONSE
        return answers

    def _refuse(self, answer: Answer) -> list[ProcessingResponse]:
        answers = self.session.answered(answer)
        assert [a.WhichOneof("response") for a in answers] == ["immediate_response"]
        assert self.session.state is State.DONE
        self.immediate = True
        assert self.session.answered(answer) == [], "answered twice"
        return answers

    # -- what a data plane that keeps to the protocol would send ------------------------------------------------------

    def _follow(self, kind: str, message: ProcessingRequest) -> None:
        """Note what was sent, and whether the order is still one that a data plane keeps to."""
        self.received[kind] += 1
        self.in_order &= bool(kind) and self._may_follow(kind)
        if not kind:
            return
        if kind == "response_headers" and self.forward is not None and self.forward.strip_usage:
            content_type = read_headers(message.response_headers.headers).get("content-type", "")
            self.stripping = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self.rank = max(self.rank, _RANK[kind])
        part = getattr(message, kind)
        ends = kind.endswith("trailers") or part.end_of_stream
        if _is_request(kind):
            self.request_ended |= ends
            self.body += part.body if kind == "request_body" else b""
        else:
            self.response_ended |= ends
            if kind == "response_body" and self.session.awaits_response:
                self.response_body += part.body

    def _may_follow(self, kind: str) -> bool:
        rank = _RANK[kind]
        repeated = kind in ("request_body", "response_body")
        if rank < self.rank or (rank == self.rank and not repeated) or (self.rank < 0 and rank):
            return False
        if _is_request(kind):
            at_once = self.request_mode in (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL)
            hidden = rank > 0 and self.request_mode is BodyMode.NONE
            again = kind == "request_body" and at_once and self.received[kind] > 1
            return not (self.request_ended or hidden or again)
        begun = self.rank >= _RANK["response_headers"] or kind == "response_headers"
        hidden = kind != "response_headers" and self.shown_mode is BodyMode.NONE
        return begun and not hidden and self.session.awaits_response and not self.response_ended

    # -- answers ------------------------------------------------------------------------------------------------------

    def _check(self, kind: str, answers: list[ProcessingResponse]) -> None:
        session = self.session
        given = [str(answer.WhichOneof("response")) for answer in answers]
        for answer in answers:
            answer.SerializeToString()
        self.answered.update(given)
        assert self.answered["immediate_response"] <= 1
        assert self.answered["request_headers"] <= 1
        if self.immediate:
            assert given == ["immediate_response"]
            assert session.held_bytes == 0
            return
        if self.request_mode is not BodyMode.FULL_DUPLEX:
            assert all(self.answered[k] <= self.received[k] for k in _PHASES[:3])
        if self.shown_mode is not BodyMode.FULL_DUPLEX:
            assert all(self.answered[k] <= self.received[k] for k in _PHASES[3:])
        if session.request_answered:
            assert session.held_bytes == 0
        if self.in_order:
            self._check_in_order(kind, given, answers)

    def _check_in_order(self, kind: str, given: list[str], answers: list[ProcessingResponse]) -> None:
        """A data plane that keeps to the protocol waits for just these answers."""
        if self.request_ended:
            assert self.session.request_answered, "undecided although the request is complete"
        full = self.request_mode is BodyMode.FULL_DUPLEX
        if kind.startswith("request") and full:
            if not self.request_ended:
                assert given == []
            elif kind == "request_headers":
                assert given == ["request_headers"]
            else:
                self._check_full_duplex(kind, given, answers)
        elif kind == "response_body":
            self._check_response(given, answers, end=self.session.state is State.DONE)
        elif kind == "response_trailers" and self.shown_mode is BodyMode.FULL_DUPLEX:
            assert given[-1] == kind
            self._check_response(given[:-1], answers[:-1], end=False)
            assert b"".join(self.shown) == self._expected_response()
        else:
            assert given == [kind], f"{kind} answered by {given}"

    def _check_full_duplex(self, kind: str, given: list[str], answers: list[ProcessingResponse]) -> None:
        assert self.forward is not None
        trailers = kind == "request_trailers"
        bodies = answers[1 : len(answers) - trailers]
        assert given == ["request_headers", *["request_body"] * len(bodies), *["request_trailers"] * trailers]
        chunks = [answer.request_body.response.body_mutation.streamed_response for answer in bodies]
        expected = self.body if self.forward.body is None else self.forward.body
        assert b"".join(chunk.body for chunk in chunks) == expected
        assert [chunk.end_of_stream for chunk in chunks] == [False] * (len(chunks) - 1) + [not trailers]
        assert all(len(chunk.body) <= 65_536 for chunk in chunks)
        mutation = answers[0].request_headers.response.header_mutation
        lengths = [o.header.raw_value for o in mutation.set_headers if o.header.key == "content-length"]
        assert lengths == [str(len(expected)).encode()]

    def _check_response(self, given: list[str], answers: list[ProcessingResponse], *, end: bool) -> None:
        assert set(given) <= {"response_body"}
        if self.shown_mode is BodyMode.FULL_DUPLEX:
            chunks = [answer.response_body.response.body_mutation.streamed_response for answer in answers]
            self.shown += [chunk.body for chunk in chunks]
            assert all(not chunk.end_of_stream for chunk in chunks[:-1])
            assert not chunks or chunks[-1].end_of_stream == end
        else:
            assert len(given) == 1
            changed = answers[0].response_body.response
            kept = not changed.HasField("body_mutation")
            self.shown.append(self._last_chunk if kept else changed.body_mutation.body)
        if self.session.state is State.DONE:
            assert b"".join(self.shown) == self._expected_response()

    @property
    def _last_chunk(self) -> bytes:
        return self.response_body[len(b"".join(self.shown)) :] if not self.stripping else b""

    def _expected_response(self) -> bytes:
        if not self.stripping:
            return self.response_body
        stream_filter = StreamUsageFilter()
        return stream_filter.feed(self.response_body) + stream_filter.finish()


def _is_request(kind: str) -> bool:
    return kind.startswith("request")


def _mode(number: int) -> BodyMode:
    return next((mode for mode in BodyMode if mode == number), BodyMode.NONE)


def check(data: bytes) -> None:
    """Play one stream: the first bytes are the setting, each next few bytes a message."""
    draws = Draws(data)
    plane = _DataPlane(draws)
    with bounded(len(data) * 300, seconds=2.0):
        for _ in range(200):
            if not draws.left or plane.over:
                break
            message = _message(draws, plane)
            if message is not None:
                plane.send(message)


def _message(draws: Draws, plane: _DataPlane) -> ProcessingRequest | None:
    how = draws.byte()
    message = ProcessingRequest()
    match how & 7:
        case 0 | 7 if how & 8 or how & 7:
            try:
                return ProcessingRequest.FromString(draws.take(draws.number() % 2000))
            except DecodeError:
                return None
        case 1 | 2 | 3:
            _fill_request(message, how, draws, plane)
        case 4:
            message.response_headers.end_of_stream = bool(how & 16)
            _fill_headers(message.response_headers.headers, draws)
        case 5:
            message.response_body.body, message.response_body.end_of_stream = _body(draws), bool(how & 16)
        case 6:
            message.response_trailers.SetInParent()
        case _:
            return message
    return message


def _fill_request(message: ProcessingRequest, how: int, draws: Draws, plane: _DataPlane) -> None:
    match how & 7:
        case 1:
            message.request_headers.end_of_stream = bool(how & 16)
            _fill_headers(message.request_headers.headers, draws)
            if plane.mode is not None:
                message.protocol_config.request_body_mode = int(plane.mode)  # type: ignore[assignment]
                if plane.response_mode is not None:
                    message.protocol_config.response_body_mode = int(plane.response_mode)  # type: ignore[assignment]
        case 2:
            message.request_body.body, message.request_body.end_of_stream = _body(draws), bool(how & 16)
        case _:
            message.request_trailers.SetInParent()


def _fill_headers(target: object, draws: Draws) -> None:
    for _ in range(draws.byte() % 8):
        name, value = draws.pick(HEADERS)
        header = target.headers.add()  # type: ignore[attr-defined]
        header.key, header.raw_value = name, value.encode("latin-1", "replace")


def _body(draws: Draws) -> bytes:
    how = draws.byte()
    return EVENTS[how % len(EVENTS)] if how & 128 else draws.take(draws.byte())


def generate(rng: random.Random) -> bytes:
    """Return a stream that most often keeps to the protocol."""
    head = bytes(rng.randrange(256) for _ in range(5))
    ops = b""

    def headers() -> bytes:
        count = rng.randrange(4)
        return bytes((count, *(rng.randrange(len(HEADERS)) for _ in range(count))))

    def body() -> bytes:
        if rng.random() < 0.7:
            return bytes((128 + rng.randrange(128),))
        text = rng.randbytes(rng.randrange(20))
        return bytes((0, len(text))) + text

    end = 16
    if rng.random() < 0.2:
        ops += bytes((1 | end,)) + headers()
    else:
        ops += b"\x01" + headers()
        for _ in range(rng.randrange(3)):
            ops += b"\x02" + body()
        ops += b"\x03" if rng.random() < 0.3 else bytes((2 | end,)) + body()
    ops += bytes((4 | (end if rng.random() < 0.2 else 0),)) + headers()
    for _ in range(rng.randrange(4)):
        ops += b"\x05" + body()
    ops += b"\x06" if rng.random() < 0.3 else bytes((5 | end,)) + body()
    if rng.random() < 0.3:
        raw = protobuf_values.encoded(
            protobuf_values.fill(ProcessingRequest(), rng, (names.SUBSET_NAMESPACE, names.SUBSET_KEY))
        )
        raw = raw[:1999]
        at = rng.randrange(len(ops) + 1)
        ops = ops[:at] + b"\x07" + len(raw).to_bytes(2, "big") + raw + ops[at:]
    return head + ops


TARGET = Target(
    "session",
    check,
    generate,
    seeds=tuple(generate(random.Random(seed)) for seed in range(40)),
    tokens=(
        b"\x01\x00", b"\x11\x00", b"\x02\x80", b"\x12\x80", b"\x03", b"\x04\x02\x00\x06", b"\x14\x00", b"\x05\x80",
        b"\x15\x80",
        b"\x06", b"\x10", b"\x07\x00\x04",
    ),
)  # fmt: skip
