"""What a generation request will be answered with, decided before it is queued: texts, lengths, reasons to stop."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from igw.simulator import tokens
from igw.simulator.api_bodies import ApiError, ChatBody, CompletionBody
from igw.simulator.realtime import ChoiceRequest

# What a server takes for an answer to a completion that names no length, as in the OpenAI interface.
_COMPLETION_TOKENS: Final = 16
# Fewer characters than this per token of context no tokeniser makes, so that longer prompts need not be tokenised.
_MOST_BYTES_PER_TOKEN: Final = 10


@dataclass(frozen=True, slots=True)
class PlannedChoice:
    """One choice of an answer.

    Attributes:
        prompt: Tokens of its prompt.
        text: All of its text, without a stop string.
        output_tokens: Tokens it will emit.
        finish_reason: ``length`` or ``stop``.
        stop_reason: Stop string that ended it, None where none did.
        echo: Text that precedes it.
    """

    prompt: bytes
    text: str
    output_tokens: int
    finish_reason: str
    stop_reason: str | None = None
    echo: str = ""

    def slice(self, start: int, stop: int) -> str:
        """Return the text of the tokens from *start* up to *stop*."""
        return self.text[start * tokens.TOKEN_BYTES : stop * tokens.TOKEN_BYTES]

    def request(self, *, block_size: int, adapter: str | None, salt: str, priority: int) -> ChoiceRequest:
        """Return it as the engine takes it."""
        content = self.prompt + self.text.encode()
        return ChoiceRequest(
            prompt_tokens=tokens.count(self.prompt),
            output_tokens=self.output_tokens,
            block_hashes=tokens.block_hashes(content, block_size, f"{adapter or ''}\x00{salt}"),
            adapter=adapter,
            priority=priority,
            finish_reason=self.finish_reason,
        )


def plan_choices(body: ChatBody | CompletionBody, *, context_tokens: int, answer_tokens: int) -> list[PlannedChoice]:
    """Return the choices of an answer in the order of their indexes.

    Raises:
        ApiError: The prompt is too long, or a length makes no sense.
    """
    if isinstance(body, ChatBody):
        prompts = [body.prompt()]
        wanted = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        echoes = [body.messages[-1].as_text() if body.echo else ""]
    else:
        prompts = body.prompts()
        wanted = _COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
        echoes = [tokens.decode_ids(tokens.ids(prompt)) if body.echo else "" for prompt in prompts]
    if wanted is not None and wanted < 1:
        message = f"max_tokens must be at least 1, got {wanted}."
        raise ApiError(400, "BadRequestError", message, "max_tokens")
    choices: list[PlannedChoice] = []
    for prompt, echo in zip(prompts, echoes, strict=True):
        limit = check_length(prompt, wanted, context_tokens)
        choices += [_plan_choice(prompt, choice, limit, body, answer_tokens, echo) for choice in range(body.n)]
    return choices


def check_length(prompt: bytes, wanted: int | None, context_tokens: int) -> int:
    """Return how many tokens may follow *prompt*; ApiError where it and the *wanted* tokens exceed the context."""
    number = tokens.count(prompt)
    left = context_tokens - number
    limit_text = f"This model's maximum context length is {context_tokens} tokens."
    if len(prompt) > context_tokens * _MOST_BYTES_PER_TOKEN:
        bound = context_tokens * _MOST_BYTES_PER_TOKEN
        message = (
            f"{limit_text} However, your prompt contains {len(prompt)} characters (more than {bound} characters, which "
            f"is the upper bound for {context_tokens} input tokens). Please reduce the length of the input prompt. "
            f"(parameter=input_text, value={len(prompt)})"
        )
        raise ApiError(400, "BadRequestError", message, "input_text")
    if left < (wanted or 1):
        message = (
            f"{limit_text} However, you requested {wanted or 1} output tokens and your prompt contains {number} input "
            f"tokens, for a total of {number + (wanted or 1)} tokens. Please reduce the length of the input prompt or "
            f"the number of requested output tokens. (parameter=input_tokens, value={number})"
        )
        raise ApiError(400, "BadRequestError", message, "input_tokens")
    return left if wanted is None else wanted


def _plan_choice(
    prompt: bytes, choice: int, limit: int, body: ChatBody | CompletionBody, answer_tokens: int, echo: str
) -> PlannedChoice:
    seed = tokens.seed_of(prompt, choice)
    natural = max(1, answer_tokens // 2 + (seed >> 16) % (answer_tokens + 1))
    ends_itself = not body.ignore_eos and natural < limit
    number = natural if ends_itself else limit
    text = tokens.answer(seed, number)
    reason = "stop" if ends_itself else "length"
    cut = _first_stop(text, body.stop_strings)
    if cut is None:
        return PlannedChoice(prompt, text, number, reason, None, echo)
    at, stop = cut
    number = -(-(at + len(stop)) // tokens.TOKEN_BYTES)
    return PlannedChoice(prompt, text[:at], number, "stop", stop, echo)


def _first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Return where the first of *stops* to be complete begins, and which one it is."""
    found = [(text.find(stop), stop) for stop in stops]
    hits = [(at + len(stop), at, stop) for at, stop in found if at >= 0]
    return min(hits)[1:] if hits else None
