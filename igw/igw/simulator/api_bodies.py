"""Bodies of the OpenAI-compatible interface: parsed once, refused as vLLM refuses them."""

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from igw.simulator import tokens

Body = TypeVar("Body", bound=BaseModel)


class ApiError(Exception):
    """An answer with an error status.

    Attributes:
        status: HTTP status, also the error's numeric code.
        kind: Error type as vLLM names it.
        param: Part of the request that is wrong, None where there is none.
    """

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return {"error": error}


class _Lenient(BaseModel):
    """What we do not understand is accepted, as vLLM accepts it."""

    model_config = ConfigDict(extra="allow")


class StreamOptions(_Lenient):
    """Options of a stream."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class _GenerationBody(_Lenient):
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=128)] = 1
    max_tokens: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    echo: bool = False
    priority: Annotated[int, Field(ge=-(1 << 31), le=1 << 31)] = 0
    cache_salt: str | None = None

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Stop strings, never empty ones."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)


class Message(_Lenient):
    """One message of a chat."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    def as_text(self) -> str:
        """Return everything of the message that costs prompt tokens."""
        extra = self.model_extra or {}
        calls = json.dumps(extra["tool_calls"]) if extra.get("tool_calls") else ""
        if isinstance(self.content, str):
            return self.content + calls
        parts = (str(part.get("text") or json.dumps(part)) for part in self.content or ())
        return "".join((*parts, calls))


class ChatBody(_GenerationBody):
    """Body of ``/v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None

    def prompt(self) -> bytes:
        """Return the prompt's tokens: tools first, so that a longer chat extends a shorter one."""
        return encode_chat(self.messages, self.tools)


class CompletionBody(_GenerationBody):
    """Body of ``/v1/completions``."""

    prompt: str | list[int] | list[str] | list[list[int]]

    def prompts(self) -> list[bytes]:
        """Return the tokens of each prompt."""
        return encode_inputs(self.prompt, "prompt")


class EmbeddingBody(_Lenient):
    """Body of ``/v1/embeddings``."""

    model: str | None = None
    input: str | list[int] | list[str] | list[list[int]]
    encoding_format: str = "float"
    dimensions: Annotated[int, Field(ge=1, le=4096)] = 64


class TokenizeBody(_Lenient):
    """Body of ``/tokenize``: either a prompt or a chat."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None


class DetokenizeBody(_Lenient):
    """Body of ``/detokenize``."""

    model: str | None = None
    tokens: list[int]


class LoadAdapterBody(_Lenient):
    """Body of ``/v1/load_lora_adapter``."""

    lora_name: str = ""
    lora_path: str = ""
    load_inplace: bool = False


class UnloadAdapterBody(_Lenient):
    """Body of ``/v1/unload_lora_adapter``."""

    lora_name: str = ""


def encode_chat(messages: list[Message], tools: list[dict[str, Any]] | None) -> bytes:
    """Return the tokens of a chat."""
    head = [("tools", json.dumps(tools))] if tools else []
    return tokens.encode_messages(head + [(message.role, message.as_text()) for message in messages])


def encode_inputs(given: str | list[int] | list[str] | list[list[int]], param: str) -> list[bytes]:
    """Return the tokens of each text or list of token ids; ApiError where one is empty or no token id."""
    inputs: list[Any] = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    try:
        encoded = [tokens.encode_text(one) if isinstance(one, str) else tokens.encode_ids(one) for one in inputs]
    except ValueError as error:
        raise ApiError(400, "BadRequestError", str(error), param) from error
    if not all(encoded) or len(encoded) > 2048:
        message = "Between 1 and 2048 inputs are needed, and none may be empty."
        raise ApiError(400, "BadRequestError", message, param)
    return encoded


def parse(body: type[Body], raw: bytes) -> Body:
    """Return the body in *raw*; ApiError in vLLM's words where it is none."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _unreadable(error) from error
    if not isinstance(data, dict):
        raise _refusal(kind="dict_type", place="body", text="Input should be a valid dictionary")
    try:
        return body.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(("body", *(str(part) for part in first["loc"])))
        raise _refusal(kind=first["type"], place=place, text=first["msg"], items=len(data)) from error


def _unreadable(error: Exception) -> ApiError:
    """Return the refusal of a body that is no JSON."""
    position, cause = (error.pos, error.msg) if isinstance(error, json.JSONDecodeError) else (0, str(error))
    return _refusal(kind="json_invalid", place=f"body.{position}", text="JSON decode error", cause=cause)


def _refusal(*, kind: str, place: str, text: str, items: int = 0, cause: str | None = None) -> ApiError:
    detail: dict[str, Any] = {"type": kind, "loc": place, "msg": text, "input": f"<dict of {items} items>"}
    if cause is not None:
        detail["ctx"] = {"error": cause}
    return ApiError(400, "Bad Request", f"1 validation error:\n  {detail}", place)
