"""Token usage of one request, as the model server counted it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer; None where the model server did not say.

    Attributes:
        prompt_tokens: Tokens of the prompt, cached ones included.
        completion_tokens: Tokens of the answer, reasoning included.
        total_tokens: As stated, or the sum.
        cached_tokens: Prompt tokens found in the prefix cache.
        reasoning_tokens: Completion tokens spent on reasoning.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def known(self) -> bool:
        """Whether the model server said anything at all."""
        return self.prompt_tokens is not None or self.completion_tokens is not None
