"""What each API calls the prompt, what it cannot do without, and where it limits the answer."""

from collections.abc import Mapping
from typing import Final

from endpoint_picker.domain.errors import InvalidRequest
from endpoint_picker.requestcontrol.body.conversation import write_conversation
from endpoint_picker.requestcontrol.body.kinds import BodyKind
from endpoint_picker.requestcontrol.body.prompt import FIELD, SALT, PromptWriter

_MAX_OUTPUT_TOKENS: Final = 2**31 - 1
_OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens")
_SAMPLING: Final = ("sampling_params", "parameters")
# Any one of them will do; the first is what the caller is told of.
_REQUIRED: Final[Mapping[BodyKind, tuple[str, ...]]] = {
    BodyKind.CHAT: ("messages",),
    BodyKind.MESSAGES: ("messages",),
    BodyKind.COMPLETIONS: ("prompt", "prompt_embeds"),
    BodyKind.EMBEDDINGS: ("input", "messages"),
    BodyKind.RESPONSES: ("input", "prompt"),
}

_WITH_MESSAGES: Final = frozenset({BodyKind.CHAT, BodyKind.MESSAGES, BodyKind.EMBEDDINGS, BodyKind.TOKENIZE})
# Of each group the first name that is there is written; the groups in order.
_TEXTS: Final[Mapping[BodyKind, tuple[tuple[str, ...], ...]]] = {
    BodyKind.COMPLETIONS: (("prompt",),),
    BodyKind.EMBEDDINGS: (("input",),),
    BodyKind.TOKENIZE: (("prompt", "tokens"),),
    BodyKind.GENERATE: (("token_ids", "input_ids", "text", "inputs", "prompt"),),
    BodyKind.RERANK: (("query",), ("documents",)),
    BodyKind.SCORE: (("queries", "query", "text_1"), ("items", "documents", "text_2")),
    BodyKind.IMAGES: (("prompt",),),
    BodyKind.AUDIO: (("input",),),
}


def check_required(document: Mapping[str, object], kind: BodyKind) -> None:
    """Check that the prompt is there at all; its form is the model server's business.

    Raises:
        InvalidRequest: It is missing, or messages are no list or an empty one.
    """
    required = _REQUIRED.get(kind, ())
    if required and all(document.get(name) is None for name in required):
        msg = f"you must provide the `{required[0]}` parameter"
        raise InvalidRequest(msg, param=required[0])
    if required == ("messages",):
        messages = document["messages"]
        if not isinstance(messages, list) or not messages:
            msg = "the `messages` parameter must be a list of at least one message"
            raise InvalidRequest(msg, param="messages")


def read_output_limit(document: Mapping[str, object]) -> int | None:
    """Return the client's limit on the answer in tokens, capped at 2**31 - 1; None if there is no sensible one."""
    nested = (document.get(name) for name in _SAMPLING)
    for place in (document, *(value for value in nested if isinstance(value, dict))):
        for name in _OUTPUT_LIMITS:
            value = place.get(name)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return min(value, _MAX_OUTPUT_TOKENS)
    return None


def write_prompt(writer: PromptWriter, document: Mapping[str, object], kind: BodyKind) -> None:
    """Write the prompt of a request: the cache salt, then what *kind* calls its prompt."""
    salt = document.get("cache_salt")
    if isinstance(salt, str):
        writer.mark(SALT + salt.encode())
    if kind is BodyKind.RESPONSES:
        _write_response_input(writer, document)
    elif kind in _WITH_MESSAGES and isinstance(document.get("messages"), list):
        _write_chat(writer, document)
    else:
        for names in _TEXTS.get(kind, ()):
            _write_texts(writer, _first(document, names))


def _write_response_input(writer: PromptWriter, document: Mapping[str, object]) -> None:
    get = document.get
    write_conversation(
        writer, _as_list(get("input")), system=get("instructions"), tools=get("tools"), context=(get("prompt"),)
    )


def _write_chat(writer: PromptWriter, document: Mapping[str, object]) -> None:
    get = document.get
    tools = get("tools")
    write_conversation(
        writer,
        _as_list(get("messages")),
        system=get("system"),
        tools=get("functions") if tools is None else tools,
        context=(get("documents"), get("chat_template"), get("chat_template_kwargs")),
    )


def _write_texts(writer: PromptWriter, prompt: object) -> None:
    """Write a text, token ids, or a list of either."""
    if prompt is None:
        return
    prompts = _as_list(prompt)
    if prompts and isinstance(prompts[0], int):
        writer.ids(prompts)
        return
    for single in writer.take(prompts):
        if isinstance(single, list):
            writer.ids(single)
        else:
            writer.value(single)
        writer.mark(FIELD)


def _first(document: Mapping[str, object], names: tuple[str, ...]) -> object:
    return next((value for name in names if (value := document.get(name)) is not None), None)


def _as_list(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
