"""The director with a trace around each decision; without tracing, the director itself takes this place."""

from collections.abc import Awaitable
from dataclasses import replace

from endpoint_picker.domain.completion import CompletedRequest
from endpoint_picker.domain.errors import EndpointPickerError
from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.director import Director
from endpoint_picker.requestcontrol.exchange import Answer, Forward, RequestHead
from endpoint_picker.requestcontrol.ports import RequestTrace, Tracing


class TracedDirector:
    """Begins the trace of each request that is to be decided; its end is the observer's to report.

    Args:
        director: Decides.
        tracing: Makes spans.
    """

    def __init__(self, director: Director, tracing: Tracing) -> None:
        self._director = director
        self._tracing = tracing

    def answer_early(self, head: RequestHead) -> Answer | None:
        """Return the answer that needs no body; raises as the director does."""
        answer = self._director.answer_early(head)
        if answer is not None:
            self._tracing.begin(head).answered(answer.correlation_id)
        return answer

    def check_head(self, head: RequestHead) -> None:
        """Refuse what needs no body to be refused; raises as the director does."""
        self._director.check_head(head)

    def decide(self, head: RequestHead, body: bytes | None) -> Forward | Awaitable[Forward]:
        """Return where the request goes, and which span the model server continues; raises as the director does."""
        trace = self._tracing.begin(head)
        try:
            with trace:
                decision = self._director.decide(head, body)
        except EndpointPickerError as error:
            trace.refused(error.correlation_id, type(error).__name__)
            raise
        if isinstance(decision, Forward):
            return replace(decision, span=trace.forwarded(decision))
        return _decide_later(trace, decision)

    def completed(self, completed: CompletedRequest) -> None:
        """Settle a request."""
        self._director.completed(completed)

    def note_usage(self, correlation_id: str, usage: Usage) -> None:
        """Keep usage read from the answer."""
        self._director.note_usage(correlation_id, usage)

    def first_token(self, correlation_id: str) -> None:
        """Learn that the first byte of the answer was seen."""
        self._director.first_token(correlation_id)

    def abandon(self, correlation_id: str) -> None:
        """Release a request that will have no end to report."""
        self._tracing.abandoned(correlation_id)
        self._director.abandon(correlation_id)


async def _decide_later(trace: RequestTrace, decision: Awaitable[Forward]) -> Forward:
    try:
        with trace:
            forward = await decision
    except EndpointPickerError as error:
        trace.refused(error.correlation_id, type(error).__name__)
        raise
    return replace(forward, span=trace.forwarded(forward))
