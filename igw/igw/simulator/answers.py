"""Bodies and events of completions and chats, in vLLM's shape."""

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

from igw.simulator.plan import PlannedChoice

SERVER_VERSION: Final = "0.32.0"
"""Version of vLLM whose answers these are."""
FINGERPRINT: Final = f"vllm-{SERVER_VERSION}-00000000"
END_OF_STREAM: Final = b"data: [DONE]\n\n"


def dump(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


@dataclass(slots=True)
class Usage:
    """Tokens of a whole answer so far."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0

    def body(self, *, stream: bool) -> dict[str, Any]:
        """Return the ``usage`` object."""
        details: dict[str, Any] = {"cached_tokens": self.cached_tokens, "created_cache_tokens": 0}
        if not stream:
            details["multimodal_tokens"] = None
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
            "prompt_tokens_details": details,
        }
        return usage if stream else {**usage, "completion_tokens_details": None}


@dataclass(slots=True)
class AnswerWriter:
    """Writes one answer: its events while tokens come, or its body at the end.

    An event costs little: everything but its text is written once per choice.

    Attributes:
        chat: A chat, else a text completion.
        model: Name the client asked for.
        choices: What is going to be said.
        prompt_tokens: Tokens of all prompts, each counted once.
        include_usage: Whether a stream ends with a usage event.
        continuous_usage: Whether every event carries the usage so far.
        usage: Tokens so far; the completion tokens are counted here.
    """

    chat: bool
    model: str
    choices: list[PlannedChoice]
    prompt_tokens: int
    include_usage: bool = False
    continuous_usage: bool = False
    usage: Usage = field(init=False)
    _head: dict[str, Any] = field(init=False)
    _sent: list[int] = field(init=False)
    _frames: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.usage = Usage(self.prompt_tokens)
        prefix, kind = ("chatcmpl", "chat.completion") if self.chat else ("cmpl", "text_completion")
        self._head = {
            "id": f"{prefix}-{secrets.token_hex(8)}",
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
        }
        self._sent = [0] * len(self.choices)
        self._frames = [self._frame(index) for index in range(len(self.choices))]

    def events(self, index: int, fresh: int) -> str:
        """Return the events for *fresh* new tokens of choice *index*: one per token."""
        choice = self.choices[index]
        start = self._sent[index]
        end = self._sent[index] = start + fresh
        before, after = self._frames[index]
        last = end - 1 if end >= choice.output_tokens else end
        parts: list[str] = []
        if not start:
            parts.append(self._opening(index))
        for position in range(start, last):
            self.usage.completion_tokens += 1
            extra = self._running_usage()
            parts.append(f"{before}{choice.slice(position, position + 1)}{after}{extra}}}\n\n")
        if last < end:
            self.usage.completion_tokens += 1
            parts.append(self._closing(index, choice.slice(last, end)))
        return "".join(parts)

    def final_events(self) -> bytes:
        """Return what follows the last token: the usage if it was asked for, and the end."""
        if not self.include_usage:
            return END_OF_STREAM
        body = {
            **self._stream_head,
            "choices": [],
            "usage": self.usage.body(stream=True),
            "system_fingerprint": FINGERPRINT,
        }
        return b"data: " + dump(body) + b"\n\n" + END_OF_STREAM

    def body(self) -> bytes:
        """Return the whole answer as JSON."""
        self.usage.completion_tokens = sum(choice.output_tokens for choice in self.choices)
        write = self._chat_choice if self.chat else self._text_choice
        body: dict[str, Any] = {
            **self._head,
            "choices": [write(index, choice) for index, choice in enumerate(self.choices)],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": self.usage.body(stream=False),
        }
        if self.chat:
            body |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
        return dump({**body, "kv_transfer_params": None, "ec_transfer_params": None, "metrics": None})

    @property
    def _stream_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"} if self.chat else self._head

    def _frame(self, index: int) -> tuple[str, str]:
        """Return what stands before and after the text of an event of choice *index*, without the closing brace."""
        head = dump(self._stream_head)[:-1].decode()
        start = f'data: {head},"choices":[{{"index":{index},'
        if self.chat:
            return (
                f'{start}"delta":{{"content":"',
                '"},"logprobs":null,"finish_reason":null,"token_ids":null}]',
            )
        rest = '"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]'
        return f'{start}"text":"', f'",{rest}'

    def _opening(self, index: int) -> str:
        """Return the event that precedes the first token: the role of a chat, the echo of a completion."""
        echo = self.choices[index].echo
        if not self.chat:
            before, after = self._frames[index]
            return f"{before}{json.dumps(echo)[1:-1]}{after}{self._running_usage()}}}\n\n" if echo else ""
        choice = {
            "index": index,
            "delta": {"role": "assistant", "content": echo},
            "logprobs": None,
            "finish_reason": None,
        }
        body: dict[str, Any] = {**self._stream_head, "choices": [choice], "prompt_token_ids": None, "prompt_text": None}
        if self.continuous_usage:
            body["usage"] = self.usage.body(stream=True)
        return f"data: {dump(body).decode()}\n\n"

    def _closing(self, index: int, text: str) -> str:
        """Return the event of the last token of choice *index*."""
        choice = self.choices[index]
        body: dict[str, Any] = {"index": index}
        ending = {"logprobs": None, "finish_reason": choice.finish_reason, "stop_reason": choice.stop_reason}
        if self.chat:
            body |= {"delta": {"content": text}, **ending, "token_ids": None}
        else:
            body |= {"text": text, **ending, "prompt_token_ids": None, "token_ids": None}
        event: dict[str, Any] = {**self._stream_head, "choices": [body]}
        if self.continuous_usage:
            event["usage"] = self.usage.body(stream=True)
        complete = all(sent >= planned.output_tokens for sent, planned in zip(self._sent, self.choices, strict=True))
        if complete and not self.include_usage:
            event["system_fingerprint"] = FINGERPRINT
        return f"data: {dump(event).decode()}\n\n"

    def _running_usage(self) -> str:
        return f',"usage":{dump(self.usage.body(stream=True)).decode()}' if self.continuous_usage else ""

    def _chat_choice(self, index: int, choice: PlannedChoice) -> dict[str, Any]:
        unused = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
        return {
            "index": index,
            "message": {"role": "assistant", "content": choice.echo + choice.text, **unused},
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": None,
            "routed_experts": None,
        }

    def _text_choice(self, index: int, choice: PlannedChoice) -> dict[str, Any]:
        return {
            "index": index,
            "text": choice.echo + choice.text,
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }
