"""Faults that a simulated model server can be told to have, and the draw that decides who meets one."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config


class FaultKind(StrEnum):
    """What goes wrong."""

    REFUSE = "refuse"
    """Nobody listens: connections are refused until the fault is cleared or its `seconds` have passed."""
    STATUS = "status"
    """A generation is answered with the error status `code`."""
    SLOW_FIRST_TOKEN = "slow-first-token"  # noqa: S105 - the name of a fault, not a secret
    """The first token comes `seconds` late."""
    STALL_PREFILL = "stall-prefill"
    """Headers are sent, then nothing."""
    STALL_STREAM = "stall-stream"
    """Nothing more comes after `tokens` tokens."""
    RESET_PREFILL = "reset-prefill"
    """Headers are sent, then the connection is reset, `seconds` later."""
    CUT_STREAM = "cut-stream"
    """The connection is reset after `tokens` tokens."""
    ENGINE_DEATH = "engine-death"
    """The engine dies in a prefill, as for lack of memory: streams get an error event, all else 500 from then on, and
    `seconds` later the server stops until it is started again."""
    LATE_END = "late-end"
    """The end of the body comes `seconds` after its last event."""
    MANY_HEADERS = "many-headers"
    """The answer carries `size` more headers."""
    METRICS_GARBAGE = "metrics-garbage"
    """The metrics page is noise."""
    METRICS_SLOW = "metrics-slow"
    """The metrics page takes `seconds`."""
    METRICS_ABSENT = "metrics-absent"
    """The metrics page answers 404."""
    METRICS_HUGE = "metrics-huge"
    """The metrics page is prolonged by `size` bytes of comments."""


_DEFAULT_SECONDS: Final[Mapping[FaultKind, float]] = MappingProxyType(
    {
        FaultKind.SLOW_FIRST_TOKEN: 1.0,
        FaultKind.ENGINE_DEATH: 5.0,  # as often as vLLM looks whether its engine lives
        FaultKind.LATE_END: 0.02,
        FaultKind.METRICS_SLOW: 5.0,
    }
)
_DEFAULT_SIZE: Final[Mapping[FaultKind, int]] = MappingProxyType(
    {FaultKind.MANY_HEADERS: 10_000, FaultKind.METRICS_HUGE: 64 * 1024 * 1024}
)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; ValueError where a part is out of range.

    Attributes:
        kind: What goes wrong.
        probability: Share of the requests that meet it, 0 to 1.
        count: How often it strikes in all; None: without limit.
        seconds: A delay, or how long connections are refused; None: the kind's default, for refuse until cleared.
        code: HTTP status.
        tokens: Tokens before a stream stalls or is cut.
        size: Number of headers or bytes; 0: the kind's default.
    """

    kind: FaultKind
    probability: float = 1.0
    count: int | None = None
    seconds: float | None = None
    code: int = 503
    tokens: int = 1
    size: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            msg = f"probability must be between 0 and 1, got {self.probability}"
            raise ValueError(msg)
        if self.count is not None and self.count < 0:
            msg = f"count must not be negative, got {self.count}"
            raise ValueError(msg)
        if self.seconds is not None and not 0 <= self.seconds <= 86_400:
            msg = f"seconds must be between 0 and 86400, got {self.seconds}"
            raise ValueError(msg)
        if not 400 <= self.code <= 599:
            msg = f"code must be an error status, got {self.code}"
            raise ValueError(msg)
        if self.tokens < 0 or not 0 <= self.size <= 1 << 30:
            msg = f"tokens and size must not be negative or above 1 GiB, got {self.tokens} and {self.size}"
            raise ValueError(msg)

    @property
    def delay_seconds(self) -> float:
        """The delay that applies, the kind's default where none was given."""
        return _DEFAULT_SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds

    @property
    def amount(self) -> int:
        """The number of headers or bytes that applies."""
        return self.size or _DEFAULT_SIZE.get(self.kind, 0)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Faults that hold together.

    Attributes:
        faults: In order; of two of the same kind the first that strikes wins.
        seed: What the draws follow from.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 0


_PLAN: Final = TypeAdapter(FaultPlan)


def parse_plan(body: bytes) -> FaultPlan:
    """Return the plan in a JSON body; ValueError with one line per mistake."""
    try:
        return _PLAN.validate_json(body)
    except ValidationError as error:
        raise ValueError(_explain(error)) from error


def parse_fault(text: str) -> Fault:
    """Return a fault written as ``kind`` or ``kind,name=value,…``; ValueError with one line per mistake."""
    kind, *pairs = text.split(",")
    values: dict[str, str] = {"kind": kind.strip()}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            msg = f"{pair!r} is not name=value"
            raise ValueError(msg)
        values[name.strip()] = value.strip()
    try:
        return _PLAN.validate_python({"faults": [values]}).faults[0]
    except ValidationError as error:
        raise ValueError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    lines = (f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors(include_url=False))
    return "\n".join(lines)


class FaultDraw:
    """Decides request by request which faults strike; written by the server that owns it.

    Attributes:
        plan: What was asked for.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - which request fails, not a secret
        self._struck = [0] * len(plan.faults)

    def draw(self, kind: FaultKind) -> Fault | None:
        """Return the fault of *kind* that strikes now, None where none does."""
        for index, fault in enumerate(self.plan.faults):
            if fault.kind is not kind or self._struck[index] == fault.count:
                continue
            if fault.probability < 1 and self._random.random() >= fault.probability:
                continue
            self._struck[index] += 1
            return fault
        return None

    def draw_all(self, kinds: Iterable[FaultKind]) -> Mapping[FaultKind, Fault]:
        """Return the faults of *kinds* that strike now, by kind."""
        return {kind: fault for kind in kinds if (fault := self.draw(kind)) is not None}

    def describe(self) -> dict[str, Any]:
        """Return the plan and how often each fault struck, for a JSON answer."""
        plan: dict[str, Any] = _PLAN.dump_python(self.plan, mode="json")
        for entry, struck in zip(plan["faults"], self._struck, strict=True):
            entry["struck"] = struck
        return plan
