"""One external-processing stream as a state machine without sockets.

    state       event                                     next
    HEADERS     request headers, nothing follows          DECIDING
                request headers, body withheld from us    DECIDING
                request headers, body to come             BODY
    BODY        chunk, more to come                       BODY
                last chunk, or trailers                   DECIDING
                response headers (not the upstream's)     RESPONSE
    DECIDING    `forwarded`                               RESPONSE
                `answered`                                DONE
    RESPONSE    response headers, body, trailers          RESPONSE
                last of them                              DONE
    DONE        anything                                  DONE, nothing is answered

In full duplex the answer to the headers waits for the decision; everywhere else they are answered at once. A second
end of stream (some releases of Envoy send one for large bodies) changes nothing. The session never ends by itself
while a request is undecided: `receive` either wants a decision or gives the answers to send.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from functools import cached_property
from typing import Final

from endpoint_picker.domain.errors import InvalidRequest, RequestTooLarge, TooManyHeaders
from endpoint_picker.domain.usage import Usage
from endpoint_picker.extproc import messages
from endpoint_picker.extproc.messages import ProcessingRequest, ProcessingResponse
from endpoint_picker.requestcontrol.exchange import Answer, Forward, RequestHead
from endpoint_picker.requestcontrol.sse import is_event_stream
from endpoint_picker.requestcontrol.stream_usage_filter import StreamUsageFilter
from endpoint_picker.requestcontrol.usage_reader import UsageReader, usage_reader_for
from envoy_config import names

_STATUS: Final = re.compile(r"[0-9]{1,3}")


class State(Enum):
    """Where the exchange stands."""

    HEADERS = auto()
    BODY = auto()
    DECIDING = auto()
    RESPONSE = auto()
    DONE = auto()


class BodyMode(IntEnum):
    """How the data plane sends a body; numbers of the protocol."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX = 4


_LONGEST_LENGTH: Final = 19
"""Digits of a content-length; more are no length."""
_BODY_MODES: Final[Mapping[int, BodyMode]] = {mode.value: mode for mode in BodyMode}


@dataclass(frozen=True, slots=True)
class DecisionWanted:
    """The request is complete as far as it will be shown; *body* is None when there is none to see."""

    head: RequestHead
    body: bytes | None


@dataclass(slots=True)
class ResponseFacts:
    """What was seen of the answer.

    Attributes:
        status: HTTP status; 0: none was seen.
        served: Endpoint the data plane says it used.
        body_bytes: Bytes of the body so far.
        complete: The end was seen.
        usage: As read from the body.
    """

    status: int = 0
    served: str = ""
    body_bytes: int = 0
    complete: bool = False
    usage: Usage = field(default_factory=Usage)


class ExtProcSession:
    """One stream; give it every message, send what it returns.

    Args:
        max_body_bytes: Bound on a body that arrives in chunks.
        default_mode: Body mode of a data plane that does not state it.
    """

    def __init__(self, *, max_body_bytes: int, default_mode: BodyMode = BodyMode.FULL_DUPLEX) -> None:
        self._max_body_bytes = max_body_bytes
        self._request_mode = default_mode
        self._chunks: list[bytes] = []

    # There is one session per request and most see no answer: what it begins with stands here, once.
    _response_mode = BodyMode.NONE
    _state = State.HEADERS
    _head = RequestHead()
    _body_bytes = 0
    _at_headers = False
    _trailers = False
    _may_strip = False
    _strip: StreamUsageFilter | None = None
    _reader: UsageReader | None = None

    @cached_property
    def response(self) -> ResponseFacts:
        """What was seen of the answer."""
        return ResponseFacts()

    @property
    def state(self) -> State:
        """Where the exchange stands."""
        return self._state

    @property
    def head(self) -> RequestHead:
        """Head of the request; empty before it arrived."""
        return self._head

    @property
    def request_answered(self) -> bool:
        """Whether the data plane has (or will be given) what it needs to go on without us."""
        return self._state in (State.RESPONSE, State.DONE)

    @property
    def held_bytes(self) -> int:
        """Bytes of the request body held here; 0 once the request is answered."""
        return self._body_bytes if self._chunks else 0

    @property
    def awaits_response(self) -> bool:
        """Whether the data plane will show us anything of the answer."""
        return self._state is State.RESPONSE

    # -- messages in ------------------------------------------------------------------------------------------------

    def receive(  # noqa: PLR0911 - one return per kind of message
        self, message: ProcessingRequest
    ) -> DecisionWanted | list[ProcessingResponse]:
        """Take one message; return the answers to send, or what is to be decided first.

        Raises:
            InvalidRequest: The message does not belong here.
            RequestTooLarge: The body exceeds the bound.
        """
        if self._state is State.DONE:
            return []
        if self._state is State.HEADERS and message.HasField("protocol_config"):
            modes = message.protocol_config
            self._request_mode = _BODY_MODES.get(modes.request_body_mode, BodyMode.NONE)
            self._response_mode = _BODY_MODES.get(modes.response_body_mode, BodyMode.NONE)
        match message.WhichOneof("request"):
            case "request_headers":
                return self._request_headers(message)
            case "request_body":
                return self._request_body(message.request_body.body, end=message.request_body.end_of_stream)
            case "request_trailers":
                return self._request_trailers()
            case "response_headers":
                return self._response_headers(message)
            case "response_body":
                return self._response_body(message.response_body.body, end=message.response_body.end_of_stream)
            case "response_trailers":
                return self._response_trailers()
            case _:
                return []

    def _request_headers(self, message: ProcessingRequest) -> DecisionWanted | list[ProcessingResponse]:
        if self._state is not State.HEADERS:
            return self._unexpected("request headers")
        self._head = messages.read_head(message)
        if len(message.request_headers.headers.headers) > names.MAX_CLIENT_HEADERS:
            msg = f"The request has more than {names.MAX_CLIENT_HEADERS} headers."
            raise TooManyHeaders(msg)
        if message.request_headers.end_of_stream or self._request_mode in (BodyMode.NONE, BodyMode.STREAMED):
            self._state = State.DECIDING
            self._at_headers = True
            return DecisionWanted(self._head, None)
        announced = self._head.headers.get("content-length", "")
        if announced.isdecimal() and (len(announced) > _LONGEST_LENGTH or int(announced) > self._max_body_bytes):
            raise self._too_large()  # before anybody holds a byte of it
        self._state = State.BODY
        return [] if self._request_mode is BodyMode.FULL_DUPLEX else [messages.go_on_request_headers()]

    def _request_body(self, chunk: bytes, *, end: bool) -> DecisionWanted | list[ProcessingResponse]:
        if self._state is not State.BODY:
            if self._state is State.HEADERS:
                return self._unexpected("a request body")
            streamed = self._request_mode is BodyMode.STREAMED and self._state is State.RESPONSE
            return [messages.go_on_request_body()] if streamed else []
        self._body_bytes += len(chunk)
        if self._body_bytes > self._max_body_bytes:
            raise self._too_large()
        if chunk:
            self._chunks.append(chunk)
        if self._request_mode is BodyMode.BUFFERED_PARTIAL and not end:
            msg = "The request body is larger than the data plane shows to its endpoint picker."
            raise RequestTooLarge(msg, limit_bytes=self._body_bytes)
        if end or self._request_mode is BodyMode.BUFFERED:
            return self._want_decision()
        return []

    def _request_trailers(self) -> DecisionWanted | list[ProcessingResponse]:
        if self._state is State.BODY:
            if self._request_mode is not BodyMode.FULL_DUPLEX:
                msg = "Trailers without a body are not supported."
                raise InvalidRequest(msg)
            self._trailers = True
            return self._want_decision()
        if self._state is State.HEADERS:
            return self._unexpected("request trailers")
        return [messages.go_on_request_trailers()]

    def _want_decision(self) -> DecisionWanted:
        self._state = State.DECIDING
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = [body]
        return DecisionWanted(self._head, body)

    def _too_large(self) -> RequestTooLarge:
        msg = f"The request body is larger than {self._max_body_bytes} bytes."
        return RequestTooLarge(msg, limit_bytes=self._max_body_bytes)

    @staticmethod
    def _unexpected(what: str) -> list[ProcessingResponse]:
        msg = f"The data plane sent {what} out of order."
        raise InvalidRequest(msg)

    # -- decisions in -----------------------------------------------------------------------------------------------

    def forwarded(self, forward: Forward) -> list[ProcessingResponse]:
        """Return the answers that send the request on; if they cannot be made, the request stays undecided."""
        answers = self._answers_of(forward)
        self._state = State.RESPONSE
        self._may_strip = forward.strip_usage
        self._chunks = []
        return answers

    def _answers_of(self, forward: Forward) -> list[ProcessingResponse]:
        if self._at_headers:
            return [messages.forward_at_headers(forward)]
        if self._request_mode is not BodyMode.FULL_DUPLEX:
            return [messages.forward_at_body(forward, sized="content-length" in self._head.headers)]
        body = forward.body if forward.body is not None else self._chunks[0]
        answers = [messages.forward_at_headers(forward, content_length=len(body))]
        answers.extend(messages.streamed_request_body(body, end_of_stream=not self._trailers))
        if self._trailers:
            answers.append(messages.go_on_request_trailers())
        return answers

    def answered(self, answer: Answer) -> list[ProcessingResponse]:
        """Return the message that answers the request here; nothing once the answer is under way."""
        if self._state in (State.RESPONSE, State.DONE):
            return []
        self._state = State.DONE
        self._chunks = []
        return [messages.immediate(answer)]

    # -- the answer passing by --------------------------------------------------------------------------------------

    def _response_headers(self, message: ProcessingRequest) -> list[ProcessingResponse]:
        self._state = State.RESPONSE  # before a decision: the data plane itself answers, such as 413
        self._chunks = []
        headers = messages.read_headers(message.response_headers.headers)
        status = headers.get(":status", "")
        self.response.status = int(status) if _STATUS.fullmatch(status) else 0
        self.response.served = messages.read_served(message)
        kind = headers.get("content-type", "")
        self._reader = usage_reader_for(kind)
        if self._may_strip and is_event_stream(kind):
            self._strip = StreamUsageFilter()
        if message.response_headers.end_of_stream:
            self._complete()
        elif self._response_mode is BodyMode.NONE:
            self.response.complete = True  # as far as it is shown; trailers may follow
        return [messages.go_on_response_headers(remove=("content-length",) if self._strip is not None else ())]

    def _response_body(self, chunk: bytes, *, end: bool) -> list[ProcessingResponse]:
        if self._state is not State.RESPONSE:
            return []
        self.response.body_bytes += len(chunk)
        self.response.complete = False
        if self._reader is not None:
            self._reader.feed(chunk)
            self.response.usage = self._reader.usage  # a client may leave before the end
        out: bytes | None = None
        if self._strip is not None:
            out = self._strip.feed(chunk) + (self._strip.finish() if end else b"")
        if end:
            self._complete()
        if self._response_mode is BodyMode.FULL_DUPLEX:
            return list(messages.streamed_response_body(chunk if out is None else out, end_of_stream=end))
        return [messages.response_chunk(out)]

    def _response_trailers(self) -> list[ProcessingResponse]:
        if self._state is not State.RESPONSE:
            return []
        answers: list[ProcessingResponse] = []
        rest = self._strip.finish() if self._strip is not None else b""
        if rest and self._response_mode is BodyMode.FULL_DUPLEX:
            answers.extend(messages.streamed_response_body(rest, end_of_stream=False))
        self._complete()
        return [*answers, messages.go_on_response_trailers()]

    def _complete(self) -> None:
        if self._reader is not None:
            self.response.usage = self._reader.finish()
        self.response.complete = True
        self._state = State.DONE
