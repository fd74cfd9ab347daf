"""What happened in a soak: faults with their times, and how each request ended."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

ENVOY: Final = "envoy"
"""In what a fault may break: every stream that runs through Envoy."""
_SLACK_SECONDS: Final = 2.0
"""A break reaches the client at most so long after what caused it."""


class Ending(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    """As it should: a whole answer, or the error that a wrong request deserves."""
    ABORTED = "aborted"
    """The client left, as planned."""
    CUT = "cut"
    """An error after the answer had begun."""
    LOST = "lost"
    """An error that the SDK's retries did not recover, before anything had come."""
    SILENT = "silent"
    """The stream ended early and the SDK said nothing."""
    WRONG = "wrong"
    """An answer that makes no sense, such as 404 for a model that exists."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client, retries included; moments are of one monotonic clock.

    Attributes:
        kind: What was asked.
        began: When.
        ended: When it was over.
        ending: How.
        detail: What the client was told, where that was an error.
        server: Model server that answered; empty where none is known.
    """

    kind: str
    began: float
    ended: float
    ending: Ending
    detail: str = ""
    server: str = ""


@dataclass(slots=True)
class Fault:
    """One fault; written by whoever strikes.

    Attributes:
        name: What was done.
        target: To which server; empty: to the gateway.
        breaks: What it may break: model servers by name, or ENVOY.
        struck: When.
        over: When its cause was gone; None while it is there.
        answered_after: How long after the strike a client without retries had an answer to what it asked since.
        back_after: How long after it the process was ready again; None where none had to come back.
        problem: What went wrong beyond the plan.
    """

    name: str
    target: str
    breaks: frozenset[str]
    struck: float
    over: float | None = None
    answered_after: float | None = None
    back_after: float | None = None
    problem: str = ""


@dataclass(slots=True)
class History:
    """All that happened; written by clients and faults."""

    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def endings(self) -> dict[str, Counter[str]]:
        """Return how often each kind of request ended how."""
        counts: dict[str, Counter[str]] = {}
        for request in self.requests:
            counts.setdefault(request.kind, Counter())[request.ending] += 1
        return counts

    def violations(self) -> list[str]:
        """Return one line for everything that must not happen."""
        found = [f"{fault.name} {fault.target}: {fault.problem}" for fault in self.faults if fault.problem]
        for request in self.requests:
            match request.ending:
                case Ending.LOST | Ending.SILENT | Ending.WRONG:
                    found.append(_line(request))
                case Ending.CUT if not may_be_cut(request, self.faults):
                    found.append(_line(request))
                case _:
                    pass
        return found


def may_be_cut(request: Request, faults: Iterable[Fault]) -> bool:
    """Return whether one of *faults* struck Envoy or the server of *request* while it ran."""
    for fault in faults:
        over = fault.over if fault.over is not None else request.ended
        if request.began <= over + _SLACK_SECONDS and request.ended >= fault.struck - _SLACK_SECONDS:
            if ENVOY in fault.breaks or request.server in fault.breaks:
                return True
            if not request.server and fault.breaks:
                return True
    return False


def _line(request: Request) -> str:
    seconds = request.ended - request.began
    return f"{request.kind} {request.ending} after {seconds:.1f} s: {request.detail} {request.server}".rstrip()
