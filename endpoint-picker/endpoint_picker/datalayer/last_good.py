"""Remembers the manifests that were in force last, for a picker that is started while the present ones are broken."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from endpoint_picker.datalayer.files import LoadedManifests, load_texts

logger = logging.getLogger(__name__)

FILE_NAME: Final = "last-good.json"


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    text: str


class _Remembered(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: tuple[_Text, ...]


class LastGood:
    """One file beside Envoy's, readable by its owner only since manifests may hold credentials.

    It is a safety net: where it cannot be written or read the gateway works as if there were none.

    Args:
        directory: Folder of Envoy's files.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory, FILE_NAME)
        self._wanted: tuple[tuple[str, bytes], ...] = ()
        self._stored: tuple[tuple[str, bytes], ...] = ()

    def recall(self) -> LoadedManifests | None:
        """Return what an earlier process remembered; None where there is nothing that can be used."""
        try:
            remembered = _Remembered.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None
        texts = tuple((entry.source, entry.text.encode()) for entry in remembered.texts)
        loaded = load_texts(texts)
        if loaded.problems:
            return None
        self._wanted = self._stored = texts
        return loaded

    def remember(self, loaded: LoadedManifests) -> None:
        """Remember *loaded* from now on, when `store` is called."""
        self._wanted = loaded.texts

    def store(self) -> None:
        """Write what is to be remembered if that has changed; a failure is logged and the next call tries again."""
        if self._wanted == self._stored:
            return
        draft = self._path.with_name(FILE_NAME + ".new")
        entries = tuple(_Text(source=source, text=text.decode()) for source, text in self._wanted)
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_Remembered(texts=entries).model_dump_json())
            draft.rename(self._path)
        except OSError as error:
            logger.debug("the manifests in force cannot be remembered: %s", error)
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            return
        self._stored = self._wanted
