"""What is known of one request body, and how large a body may be."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from endpoint_picker.requestcontrol.body.kinds import BodyKind

DEEPEST_NESTING = 200
"""Depth at which the JSON decoder itself gives up."""


class Span(NamedTuple):
    """Half-open byte range of a body."""

    start: int
    end: int


class BodyFormat(StrEnum):
    """How the bytes are to be understood; an opaque body is passed on and never changed."""

    JSON = "json"
    MULTIPART = "multipart"
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much one body may ask of the picker; ValueError for a limit that cannot hold.

    Attributes:
        max_bytes: Size of the body.
        max_depth: Objects and arrays within each other, 1 to 200.
        max_prompt_bytes: Canonical prompt bytes that are kept for prefix hashing.
        max_values: JSON values and keys in one body. A value may be two bytes of body and a hundred of memory, so
            that size alone does not bound memory and time.
    """

    max_bytes: int = 16 * 1024 * 1024
    max_depth: int = 100
    max_prompt_bytes: int = 64 * 1024
    max_values: int = 500_000

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= DEEPEST_NESTING:
            msg = f"max_depth must be 1 to {DEEPEST_NESTING}, got {self.max_depth}"
            raise ValueError(msg)
        for name in ("max_bytes", "max_prompt_bytes", "max_values"):
            if getattr(self, name) < 0:
                msg = f"{name} must not be negative, got {getattr(self, name)}"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """What the picker needs of a body; the bytes themselves stay with the caller.

    Attributes:
        kind: The API it belongs to.
        model: Model it names; empty when it names none.
        streaming: Whether a stream is asked for.
        wants_usage: Whether ``stream_options.include_usage`` is true.
        max_output_tokens: Limit on the answer, 0 to 2**31 - 1; None: none, or none that makes sense.
        prompt: Canonical prompt bytes, cut at the limit; equal prompts give equal bytes, a continued conversation
            continues them. Never logged.
        prompt_tokens: Estimate for the whole prompt, see `tokens`.
        format: How `rewriting` is to treat the bytes.
        model_span: Where a form's model value stands; None for other formats, whose span is looked for when needed.
        has_stream_options: Whether there is a top-level ``stream_options``, null included.
        unreadable: Why no model was read from a body in which somebody else might find one; empty for all others.
    """

    kind: BodyKind
    model: str = ""
    streaming: bool = False
    wants_usage: bool = False
    max_output_tokens: int | None = None
    prompt: bytes = field(default=b"", repr=False)
    prompt_tokens: int = 0
    format: BodyFormat = BodyFormat.OPAQUE
    model_span: Span | None = None
    has_stream_options: bool = False
    unreadable: str = ""
