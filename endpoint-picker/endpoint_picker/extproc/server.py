"""The gRPC side of external processing: moves messages between Envoy and sessions, and asks the director."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import grpc

from endpoint_picker.domain.completion import CompletedRequest
from endpoint_picker.domain.errors import EndpointPickerError, InternalFailure, PickerOverloaded
from endpoint_picker.domain.usage import Usage
from endpoint_picker.extproc.errors import error_answer
from endpoint_picker.extproc.messages import ProcessingRequest, ProcessingResponse
from endpoint_picker.extproc.session import BodyMode, DecisionWanted, ExtProcSession, State
from endpoint_picker.requestcontrol.exchange import Answer, Forward, RequestHead
from endpoint_picker.requestcontrol.ports import Clock
from endpoint_picker.requestcontrol.request_ids import safe_request_id
from envoy_config import names

logger = logging.getLogger(__name__)

SERVICE_NAME: Final = "envoy.service.ext_proc.v3.ExternalProcessor"


class Deciding(Protocol):
    """What the server needs of the director."""

    def answer_early(self, head: RequestHead) -> Answer | None:
        """Return the answer that needs no body, None to go on."""

    def check_head(self, head: RequestHead) -> None:
        """Refuse what needs no body to be refused."""

    async def decide(self, head: RequestHead, body: bytes | None) -> Forward:
        """Return where the request goes."""

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
        session = ExtProcSession(
            max_body_bytes=self._max_body_bytes,
            default_mode=BodyMode.BUFFERED if own else BodyMode.FULL_DUPLEX,
        )
        exchange = _Exchange(session, own, self._clock())
        self.streams += 1
        try:
            # not `async for`: the iterator would keep the last message, maybe a large body, until a garbage collection
            while isinstance(message := await context.read(), ProcessingRequest):
                step = self._received(exchange, message)
                for answer in await self._decided(exchange, step) if isinstance(step, DecisionWanted) else step:
                    await context.write(answer)
                if session.request_answered:
                    exchange.sent = True
                    if not session.awaits_response or (own and not self._reads_answers):
                        return
        finally:
            self.streams -= 1
            self._hold(exchange, 0)
            self._settle(exchange)

    def _hold(self, exchange: _Exchange, held_bytes: int) -> None:
        """Account for the body that *exchange* holds now."""
        if held_bytes != exchange.held_bytes:
            self._held_bytes += held_bytes - exchange.held_bytes
            exchange.held_bytes = held_bytes

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

    async def _decided(self, exchange: _Exchange, wanted: DecisionWanted) -> Sequence[ProcessingResponse]:
        """Return the answers to a request that is known as far as it will be shown."""
        try:
            if (answer := self._director.answer_early(wanted.head)) is not None:
                return self._answer(exchange, answer)
            forward = await self._director.decide(wanted.head, wanted.body)
            exchange.correlation_id = forward.correlation_id
            answers = exchange.session.forwarded(forward)
            exchange.forward = forward
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(exchange, error)
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
