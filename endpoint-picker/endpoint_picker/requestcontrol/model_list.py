"""The answer to ``/v1/models`` and ``/v1/models/{id}``: every model of the listener, not one endpoint's."""

import json
from collections.abc import Iterable
from urllib.parse import unquote

from endpoint_picker.domain.errors import ModelNotFound

_COLLECTION = "/v1/models"


def model_request(method: str, path: str) -> str | None:
    """Return the model id asked for, empty for the whole list, None if this is no such request."""
    if method != "GET":
        return None
    bare = path.partition("?")[0].rstrip("/")
    if bare == _COLLECTION:
        return ""
    if bare.startswith(_COLLECTION + "/"):
        return unquote(bare[len(_COLLECTION) + 1 :])
    return None


def _entry(model: str, created: int) -> dict[str, object]:
    return {"id": model, "object": "model", "created": created, "owned_by": "inference-gateway"}


def model_list(models: Iterable[str], *, wanted: str, created: int) -> bytes:
    """Return the JSON document for *wanted* (empty: all), *created* in seconds since the epoch.

    Raises:
        ModelNotFound: *wanted* is not among *models*.
    """
    known = sorted(set(models))
    if not wanted:
        return json.dumps({"object": "list", "data": [_entry(model, created) for model in known]}).encode()
    if wanted not in known:
        raise ModelNotFound(wanted, tuple(known))
    return json.dumps(_entry(wanted, created)).encode()
