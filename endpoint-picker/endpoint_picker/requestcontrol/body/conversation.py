"""Conversations as canonical prompt bytes: OpenAI chat and Responses, Anthropic messages."""

from collections.abc import Sequence
from typing import Final

from endpoint_picker.requestcontrol.body.prompt import CONTEXT, FIELD, SYSTEM, TOOLS, PromptWriter
from endpoint_picker.requestcontrol.body.tokens import AUDIO_TOKENS, FILE_TOKENS, IMAGE_TOKENS, VIDEO_TOKENS

_SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_MEDIA_TOKENS: Final = {
    "image": IMAGE_TOKENS,
    "image_url": IMAGE_TOKENS,
    "input_image": IMAGE_TOKENS,
    "audio": AUDIO_TOKENS,
    "audio_url": AUDIO_TOKENS,
    "input_audio": AUDIO_TOKENS,
    "video": VIDEO_TOKENS,
    "video_url": VIDEO_TOKENS,
    "input_video": VIDEO_TOKENS,
    "document": FILE_TOKENS,
    "file": FILE_TOKENS,
    "input_file": FILE_TOKENS,
}
_LONG_SOURCE_KEYS: Final = ("url", "data", "file_data")
_MESSAGE_FIELDS: Final = ("name", "tool_calls", "function_call", "tool_call_id")


def write_conversation(
    writer: PromptWriter, messages: Sequence[object], *, system: object, tools: object, context: Sequence[object] = ()
) -> None:
    """Write a conversation: system prompt, tools, other context, then the messages in order.

    Leading system messages count as system prompt, because chat templates put tools right behind them. One further
    down stays where it is: moving it would change bytes that the model server has already computed.

    Args:
        writer: Where to write.
        messages: Messages, or items of a Responses input.
        system: System prompt beside the messages; None: none.
        tools: Tools as the API gives them; None: none.
        context: Other values that templates render before the messages; None among them is skipped.
    """
    messages = writer.take(messages)
    if system is not None:
        writer.mark(SYSTEM)
        _write_content(writer, system)
    leading = 0
    while leading < len(messages) and _is_system(messages[leading]):
        _write_message(writer, messages[leading])
        leading += 1
    if tools is not None:
        for tool in writer.take(tools if isinstance(tools, list) else [tools]):
            writer.mark(TOOLS)
            writer.value(tool)
    for value in context:
        if value is not None:
            writer.mark(CONTEXT)
            writer.value(value)
    for message in messages[leading:]:
        _write_message(writer, message)


def _is_system(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    role = message.get("role")
    return isinstance(role, str) and role in _SYSTEM_ROLES


def _write_message(writer: PromptWriter, message: object) -> None:
    if isinstance(message, str):
        writer.message("user")
        writer.text(message)
        return
    if not isinstance(message, dict) or "role" not in message:
        writer.message("")
        _write_part(writer, message)
        return
    role = message["role"]
    writer.message(role if isinstance(role, str) else "")
    _write_content(writer, message.get("content"))
    for key in _MESSAGE_FIELDS:
        value = message.get(key)
        if value is not None:
            writer.mark(FIELD)
            writer.value(value)


def _write_content(writer: PromptWriter, content: object) -> None:
    if isinstance(content, str):
        writer.text(content)
    elif isinstance(content, list):
        for part in writer.take(content):
            _write_part(writer, part)
            writer.mark(FIELD)
    elif content is not None:
        writer.value(content)


def _write_part(writer: PromptWriter, part: object, *, nested: bool = False) -> None:
    """Write one part of a message; results of tools are looked into once."""
    if not isinstance(part, dict):
        writer.value(part)
        return
    kind = part.get("type")
    text = part.get("text")
    inner = part.get("content")
    if isinstance(text, str):
        writer.text(text)
    elif isinstance(kind, str) and kind in _MEDIA_TOKENS:
        writer.media(_media_source(part, kind), _MEDIA_TOKENS[kind])
    elif kind == "tool_result" and isinstance(inner, list) and not nested:
        writer.value(part.get("tool_use_id"))
        for result in writer.take(inner):
            writer.mark(FIELD)
            _write_part(writer, result, nested=True)
    else:
        writer.value(part)


def _media_source(part: dict[str, object], kind: str) -> object:
    """Return what identifies the media: its URL or data where it stands in a usual place, else the whole part."""
    source = part.get(kind, part.get("source", part.get("image_url")))
    if isinstance(source, dict):
        return next((value for key in _LONG_SOURCE_KEYS if isinstance(value := source.get(key), str)), source)
    return part if source is None else source
