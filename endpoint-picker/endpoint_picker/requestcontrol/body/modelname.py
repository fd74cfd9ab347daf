"""The model a body names: where it must be given and what a name may look like."""

import re
from typing import Final

from endpoint_picker.domain.errors import InvalidRequest
from endpoint_picker.requestcontrol.body.kinds import BodyKind

MAX_MODEL_BYTES: Final = 512
"""Longest model name; names travel in headers, logs and metrics."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What moves a cursor or ends a line somewhere."""
_MISSING: Final = "you must provide a model parameter"
# Model servers that serve one model leave it out of these.
_OPTIONAL: Final = frozenset({BodyKind.TOKENIZE, BodyKind.GENERATE, BodyKind.OTHER})


def check_model(value: object, kind: BodyKind) -> str:
    """Return the model name in *value*, empty if there is none and *kind* needs none.

    Raises:
        InvalidRequest: It is missing, or no name that could be passed on.
    """
    if value is None or value == "":
        if kind in _OPTIONAL:
            return ""
        raise InvalidRequest(_MISSING, param="model")
    if not isinstance(value, str):
        msg = "the model parameter must be a string"
        raise InvalidRequest(msg, param="model")
    if len(value) > MAX_MODEL_BYTES or len(value.encode()) > MAX_MODEL_BYTES:
        msg = f"the model parameter is longer than {MAX_MODEL_BYTES} bytes"
        raise InvalidRequest(msg, param="model")
    if _CONTROL.search(value):
        msg = "the model parameter must not contain control characters"
        raise InvalidRequest(msg, param="model")
    return value
