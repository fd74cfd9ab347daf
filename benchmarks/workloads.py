"""Kinds of chat requests that the fast model server answers, and their bodies."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from benchmarks.fast_server import MODEL

SMALL_BYTES: Final = 2 * 1024
LARGE_BYTES: Final = 100 * 1024

_SENTENCE: Final = 'The quick brown fox jumps over the lazy dog and says \\"hello\\" to everyone it meets.\\n'
_NUMBER: Final = b"000000000000"


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request.

    Attributes:
        name: For tables.
        prompt_bytes: About how long the prompt is.
        events: Events of the streamed answer; 0: a JSON answer.
    """

    name: str
    prompt_bytes: int
    events: int = 0

    def body(self, number: int) -> bytes:
        """Return request *number*: no two share a prefix, and usage is not asked for."""
        text = (_SENTENCE * (self.prompt_bytes // len(_SENTENCE) + 1))[: self.prompt_bytes].rstrip("\\")
        message = f'{{"role":"user","content":"{number:012d} {text}"}}'
        stream = ',"stream":true' if self.events else ""
        return f'{{"model":"{MODEL}","max_tokens":{max(1, self.events)}{stream},"messages":[{message}]}}'.encode()

    def bodies(self, first: int) -> Iterator[bytes]:
        """Yield the bodies from request *first* on, each made from a template."""
        template = self.body(0)
        at = template.index(_NUMBER)
        head, rest = template[:at], template[at + len(_NUMBER) :]
        for number in count(first):
            yield b"%b%012d%b" % (head, number, rest)


def _workload(events: int, prompt_bytes: int) -> Workload:
    answer = f"stream{events}" if events else "json"
    return Workload(f"{answer}-{prompt_bytes // 1024}k", prompt_bytes, events)


WORKLOADS: Final = tuple(
    _workload(events, prompt_bytes) for prompt_bytes in (SMALL_BYTES, LARGE_BYTES) for events in (0, 16, 128, 512)
)
BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}
