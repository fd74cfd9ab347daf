"""Secret: credentials and authorities. Its values appear in no representation and no error message."""

import base64
import binascii
from typing import Literal

from pydantic import Field, field_validator

from inference_api.metadata import OpenObject


class Secret(OpenObject):
    """A Secret of the core group; `string_data` overrides `data`, as in the API server."""

    api_version: Literal["v1"]
    kind: Literal["Secret"]
    type: str = "Opaque"
    data: dict[str, str] = Field(default_factory=dict, repr=False)
    string_data: dict[str, str] = Field(default_factory=dict, repr=False)

    @field_validator("data")
    @classmethod
    def _base64(cls, data: dict[str, str]) -> dict[str, str]:
        for key, value in data.items():
            try:
                base64.b64decode("".join(value.split()), validate=True)
            except (binascii.Error, ValueError):
                msg = f"value of key {key!r} is not base64; use stringData for plain text"
                raise ValueError(msg) from None
        return data

    def value(self, key: str) -> bytes | None:
        """Return the value of *key*, None if there is no such key."""
        if key in self.string_data:
            return self.string_data[key].encode()
        if key in self.data:
            return base64.b64decode("".join(self.data[key].split()))
        return None
