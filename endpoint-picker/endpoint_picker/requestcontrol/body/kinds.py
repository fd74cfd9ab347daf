"""Which API a path belongs to."""

import posixpath
import re
from enum import StrEnum
from typing import Final
from urllib.parse import unquote


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


_PLAIN_PATH: Final = re.compile(r"(?:/[a-z0-9_-]+)*+")


def kind_of(path: str) -> BodyKind:
    """Return the API of *path*, by its longest known suffix; a query and any prefix are ignored.

    A path counts as what any server might take it for: with escapes undone, without parameters, dots and slashes that
    change nothing, in lower case.
    """
    return _KIND_BY_SUFFIX.get(known_path(path), BodyKind.OTHER)


def known_path(path: str) -> str:
    """Return the known suffix by which `kind_of` judges *path*, empty if there is none."""
    bare = canonical_path(path)
    for suffix in _LONGEST_FIRST:
        if bare.endswith(suffix):
            return suffix
    return ""


def takes_form(path: str) -> bool:
    """Return whether the API of *path* takes files and therefore multipart/form-data."""
    return canonical_path(path).endswith(_FORM_SUFFIXES)


def canonical_path(path: str) -> str:
    """Return *path* as any server might take it, see `kind_of`; without query."""
    bare = path.partition("?")[0]
    return bare if _PLAIN_PATH.fullmatch(bare) else _undisguised(bare)


def _undisguised(path: str) -> str:
    decoded = unquote(path, errors="replace").replace("\\", "/").partition("?")[0].partition("#")[0]
    segments = [segment.partition(";")[0] for segment in decoded.lower().split("/")]
    return posixpath.normpath("/".join(segment.strip(" .\t\r\n\0") or segment for segment in segments))
