"""Which API a path belongs to."""

from enum import StrEnum
from typing import Final


class BodyKind(StrEnum):
    """The API of a request; OTHER is any path that is not known here."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    RERANK = "rerank"
    SCORE = "score"
    TOKENIZE = "tokenize"
    GENERATE = "generate"
    IMAGES = "images"
    AUDIO = "audio"
    OTHER = "other"


_KIND_BY_SUFFIX: Final = {
    "/v1/chat/completions": BodyKind.CHAT,
    "/v1/completions": BodyKind.COMPLETIONS,
    "/v1/embeddings": BodyKind.EMBEDDINGS,
    "/v1/responses": BodyKind.RESPONSES,
    "/v1/messages": BodyKind.MESSAGES,
    "/v1/messages/count_tokens": BodyKind.MESSAGES,
    "/v1/rerank": BodyKind.RERANK,
    "/v2/rerank": BodyKind.RERANK,
    "/rerank": BodyKind.RERANK,
    "/v1/score": BodyKind.SCORE,
    "/score": BodyKind.SCORE,
    "/tokenize": BodyKind.TOKENIZE,
    "/detokenize": BodyKind.TOKENIZE,
    "/v1/images/generations": BodyKind.IMAGES,
    "/v1/images/edits": BodyKind.IMAGES,
    "/v1/audio/transcriptions": BodyKind.AUDIO,
    "/v1/audio/translations": BodyKind.AUDIO,
    "/v1/audio/speech": BodyKind.AUDIO,
    "/inference/v1/generate": BodyKind.GENERATE,
    "/generate": BodyKind.GENERATE,
}
_LONGEST_FIRST: Final = tuple(sorted(_KIND_BY_SUFFIX, key=len, reverse=True))
_FORM_SUFFIXES: Final = ("/v1/images/edits", "/v1/audio/transcriptions", "/v1/audio/translations")


def kind_of(path: str) -> BodyKind:
    """Return the API of *path*, by its longest known suffix; a query and any prefix are ignored."""
    bare = path.partition("?")[0]
    for suffix in _LONGEST_FIRST:
        if bare.endswith(suffix):
            return _KIND_BY_SUFFIX[suffix]
    return BodyKind.OTHER


def takes_form(path: str) -> bool:
    """Return whether the API of *path* takes files and therefore multipart/form-data."""
    return path.partition("?")[0].endswith(_FORM_SUFFIXES)
