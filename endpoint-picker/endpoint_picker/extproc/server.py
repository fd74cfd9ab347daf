"""The gRPC side of external processing: moves messages between Envoy and sessions, and asks the director."""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import grpc
from google.protobuf.message import DecodeError

from endpoint_picker.domain.completion import CompletedRequest
from endpoint_picker.domain.errors import EndpointPickerError, InternalFailure, PickerOverloaded
from endpoint_picker.domain.usage import Usage
from endpoint_picker.extproc.errors import error_answer
from endpoint_picker.extproc.messages import ProcessingRequest, ProcessingResponse
from endpoint_picker.extproc.session import BodyMode, DecisionWanted, ExtProcSession, State
from endpoint_picker.localgrpc.streams import Answers, Status
from endpoint_picker.requestcontrol.exchange import Answer, Forward, RequestHead
from endpoint_picker.requestcontrol.ports import Clock
from endpoint_picker.requestcontrol.request_ids import safe_request_id
from envoy_config import names

logger = logging.getLogger(__name__)

SERVICE_NAME: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD: Final = f"/{SERVICE_NAME}/Process"


class Deciding(Protocol):
    """What the server needs of the director."""

    def answer_early(self, head: RequestHead) -> Answer | None:
        """Return the answer that needs no body, None to go on."""

    def check_head(self, head: RequestHead) -> None:
        """Refuse what needs no body to be refused."""

    def decide(self, head: RequestHead, body: bytes | None) -> Forward | Awaitable[Forward]:
        """Return where the request goes, at once unless that takes time."""

    def completed(self, completed: CompletedRequest) -> None:
        """Settle a request."""

    def note_usage(self, correlation_id: str, usage: Usage) -> None:
        """Keep usage read from the answer."""

    def first_token(self, correlation_id: str) -> None:
        """Learn that the first byte of the answer was seen."""

    def abandon(self, correlation_id: str) -> None:
        """Release a request that will have no end to report."""


@dataclass(slots=True)
class _Exchange:
    """One stream with what must be settled when it ends."""

    session: ExtProcSession
    own: bool
    started: float
    correlation_id: str = ""
    forward: Forward | None = None
    answer: Answer | None = None
    sent: bool = False
    first_byte: float | None = None
    held_bytes: int = 0


class ExternalProcessor:
    """Serves ``Process`` streams.

    For our own Envoy the stream ends with the request's answer: the rest of the request does not depend on this
    process, and its end is reported by the access log. For other data planes the stream stays and is the report.

    Args:
        director: Decides and settles.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch.
        max_body_bytes: Bound on request bodies.
        max_held_bytes: Bound on all bodies held at once; what would exceed it is refused with PickerOverloaded.
        reads_answers: Whether our own Envoy shows us answers (one position of the usage switch).
    """

    def __init__(
        self,
        director: Deciding,
        *,
        clock: Clock,
        wall_clock: Clock,
        max_body_bytes: int,
        max_held_bytes: int = 256 * 1024 * 1024,
        reads_answers: bool = False,
    ) -> None:
        self._director = director
        self._clock = clock
        self._wall_clock = wall_clock
        self._max_body_bytes = max_body_bytes
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._reads_answers = reads_answers
        self.streams = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to register with a gRPC server."""
        method = grpc.stream_stream_rpc_method_handler(
            self._process,
            request_deserializer=ProcessingRequest.FromString,
            response_serializer=ProcessingResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {"Process": method})

    async def _process(
        self,
        _requests: object,
        context: "grpc.aio.ServicerContext[ProcessingRequest, ProcessingResponse]",
    ) -> None:
        own = (names.PROFILE_METADATA, names.OWN_PROFILE) in (context.invocation_metadata() or ())
        exchange = self._begin(own=own)
        try:
            # not `async for`: the iterator would keep the last message, maybe a large body, until a garbage collection
            while isinstance(message := await context.read(), ProcessingRequest):
                step = self._step(exchange, message)
                for answer in step if isinstance(step, Sequence) else await self._decided_later(exchange, step):
                    await context.write(answer)
                if self._is_over(exchange):
                    return
        finally:
            self._end(exchange)

    def open_local(
        self, answers: Answers, headers: Mapping[str, str], *, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> "LocalExchange":
        """Serve one stream of the Envoy beside this process.

        Args:
            answers: Where answers go.
            headers: Of the stream.
            spawn: Runs what takes time.
        """
        own = headers.get(names.PROFILE_METADATA) == names.OWN_PROFILE
        return LocalExchange(self, answers, self._begin(own=own), spawn)

    def _begin(self, *, own: bool) -> _Exchange:
        self.streams += 1
        session = ExtProcSession(
            max_body_bytes=self._max_body_bytes,
            default_mode=BodyMode.BUFFERED if own else BodyMode.FULL_DUPLEX,
        )
        return _Exchange(session, own, self._clock())

    def _is_over(self, exchange: _Exchange) -> bool:
        """Return whether the stream may end, once the answers so far were sent."""
        session = exchange.session
        if not session.request_answered:
            return False
        exchange.sent = True
        return not session.awaits_response or (exchange.own and not self._reads_answers)

    def _end(self, exchange: _Exchange) -> None:
        self.streams -= 1
        self._hold(exchange, 0)
        self._settle(exchange)

    def _hold(self, exchange: _Exchange, held_bytes: int) -> None:
        """Account for the body that *exchange* holds now."""
        if held_bytes != exchange.held_bytes:
            self._held_bytes += held_bytes - exchange.held_bytes
            exchange.held_bytes = held_bytes

    def _step(
        self, exchange: _Exchange, message: ProcessingRequest
    ) -> Sequence[ProcessingResponse] | Awaitable[Forward]:
        """Take one message; return the answers to send, or the decision to wait for."""
        step = self._received(exchange, message)
        return self._decided(exchange, step) if isinstance(step, DecisionWanted) else step

    def _received(
        self, exchange: _Exchange, message: ProcessingRequest
    ) -> DecisionWanted | Sequence[ProcessingResponse]:
        """Give the session one message; return what it wants decided, or the answers to send."""
        session = exchange.session
        try:
            step = session.receive(message)
            if exchange.own and session.state is State.BODY and not session.held_bytes:
                self._director.check_head(session.head)
            self._hold(exchange, session.held_bytes)
            if self._held_bytes > self._max_held_bytes and exchange.held_bytes:
                msg = "The gateway holds as many request bodies as it may; try again."
                raise PickerOverloaded(msg)  # noqa: TRY301 - answered like every other refusal
            if exchange.forward is not None:
                self._note_progress(exchange)
        except Exception as error:  # noqa: BLE001 - one stream is the unit that ends here
            return self._failed(exchange, error)
        return step

    def _decided(
        self, exchange: _Exchange, wanted: DecisionWanted
    ) -> Sequence[ProcessingResponse] | Awaitable[Forward]:
        """Return the answers to a request that is known as far as it will be shown, or the decision to wait for."""
        try:
            if (answer := self._director.answer_early(wanted.head)) is not None:
                return self._answer(exchange, answer)
            # what another data plane sends under the name of our id may be a client's
            head = wanted.head if exchange.own or not wanted.head.stream_id else replace(wanted.head, stream_id="")
            decision = self._director.decide(head, wanted.body)
            return self._forwarded(exchange, decision) if isinstance(decision, Forward) else decision
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(exchange, error)

    async def _decided_later(self, exchange: _Exchange, decision: Awaitable[Forward]) -> Sequence[ProcessingResponse]:
        try:
            return self._forwarded(exchange, await decision)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(exchange, error)

    @staticmethod
    def _forwarded(exchange: _Exchange, forward: Forward) -> Sequence[ProcessingResponse]:
        exchange.correlation_id = forward.correlation_id
        answers = exchange.session.forwarded(forward)
        exchange.forward = forward
        return answers

    def _failed(self, exchange: _Exchange, error: Exception) -> Sequence[ProcessingResponse]:
        """Return the refusal; raise when it is too late for one, because the data plane must not wait for it."""
        refused = isinstance(error, EndpointPickerError)
        if not refused:
            logger.error("request could not be handled", exc_info=error)
        if exchange.session.request_answered:
            raise error
        if not isinstance(error, EndpointPickerError):
            error = InternalFailure("The gateway failed to handle the request.")
        return self._answer(exchange, error_answer(error))

    @staticmethod
    def _answer(exchange: _Exchange, answer: Answer) -> list[ProcessingResponse]:
        """Return the messages that answer the request here, joined to the decision if there was one."""
        exchange.correlation_id = answer.correlation_id or exchange.correlation_id
        exchange.answer = replace(answer, correlation_id=exchange.correlation_id)
        return exchange.session.answered(exchange.answer)

    def _note_progress(self, exchange: _Exchange) -> None:
        response = exchange.session.response
        if not response.body_bytes:
            return
        if exchange.first_byte is None:
            exchange.first_byte = self._clock()
            self._director.first_token(exchange.correlation_id)
        if exchange.own:
            # now, because the access log may report the end of the request before this stream ends
            self._director.note_usage(exchange.correlation_id, response.usage)

    def _settle(self, exchange: _Exchange) -> None:
        if not exchange.sent:
            if exchange.correlation_id:
                self._director.abandon(exchange.correlation_id)
        elif not exchange.own:
            self._director.completed(self._completed(exchange))

    def _completed(self, exchange: _Exchange) -> CompletedRequest:
        """Return the end of a request as this stream saw it."""
        now = self._clock()
        head, forward, answer = exchange.session.head, exchange.forward, exchange.answer
        seen = CompletedRequest(
            correlation_id=exchange.correlation_id,
            request_id=safe_request_id(head.headers.get(names.REQUEST_ID_HEADER, "")),
            method=head.method,
            path=head.path.partition("?")[0],
            duration_seconds=now - exchange.started,
            started_at=self._wall_clock() - (now - exchange.started),
        )
        if answer is not None:
            return replace(
                seen, status=answer.status, details=names.ANSWERED_BY_PICKER, response_bytes=len(answer.body)
            )
        response, first = exchange.session.response, exchange.first_byte
        seen = replace(
            seen,
            status=response.status,
            details="" if response.complete else "stream_ended_early",
            client_gone=not response.complete,
            usage=response.usage,
            ttft_seconds=None if first is None else first - exchange.started,
            body_seconds=None if first is None else now - first,
            response_bytes=response.body_bytes,
        )
        if forward is None:
            return seen
        return replace(
            seen,
            request_id=forward.request_id,
            route=forward.route,
            cluster=forward.cluster,
            address=response.served or (forward.addresses[0] if forward.addresses else ""),
            attempts=1 if forward.addresses else 0,
        )


class LocalExchange:
    """One stream of the Envoy beside this process, message by message; made by `ExternalProcessor.open_local`."""

    __slots__ = ("_answers", "_exchange", "_over", "_processor", "_spawn")

    def __init__(
        self,
        processor: ExternalProcessor,
        answers: Answers,
        exchange: _Exchange,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._processor = processor
        self._answers = answers
        self._exchange = exchange
        self._spawn = spawn
        self._over = False

    def message(self, data: bytes) -> None:
        """Take one message and answer it."""
        try:
            self._message(data)
        except Exception:  # one stream is the unit that ends here
            logger.exception("a stream could not be served")
            self._answers.finish(Status.INTERNAL, "the endpoint picker failed")

    def _message(self, data: bytes) -> None:
        try:
            message = ProcessingRequest.FromString(data)
        except DecodeError:
            self._answers.finish(Status.INTERNAL, "the message cannot be read")
            return
        processor, exchange = self._processor, self._exchange
        step = processor._step(exchange, message)  # noqa: SLF001 - two halves of one thing
        if isinstance(step, Sequence):
            self._send(step)
        else:
            self._spawn(self._send_later(step))

    async def _send_later(self, decision: Awaitable[Forward]) -> None:
        answers = await self._processor._decided_later(self._exchange, decision)  # noqa: SLF001
        if self._over:  # the data plane left meanwhile, and nobody was told to release the request
            self._processor._settle(self._exchange)  # noqa: SLF001
            return
        self._send(answers)

    def _send(self, answers: Sequence[ProcessingResponse]) -> None:
        for answer in answers:
            self._answers.send(answer.SerializeToString())
        if self._processor._is_over(self._exchange):  # noqa: SLF001
            self._answers.finish()

    def half_closed(self) -> None:
        """Nothing more comes, so nothing more is to be answered."""
        self._answers.finish()

    def closed(self) -> None:
        """Release what the stream held."""
        self._over = True
        self._processor._end(self._exchange)  # noqa: SLF001
