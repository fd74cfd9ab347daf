"""Who may see the picker's pages: whoever has the token, or without one only what runs on this machine.

Health pages are open to all. A port on loopback needs no token, but a browser can be led to it by a foreign page whose
host name resolves to loopback; such a request names that host, so only names of this machine are taken.
"""

import hmac
import ipaddress
import logging
import os
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from endpoint_picker.config.settings import SettingsProblem

logger = logging.getLogger(__name__)

OPEN_PAGES: Final = frozenset({"/livez", "/readyz"})
_LOCAL_NAMES: Final = frozenset({"localhost", "localhost."})
_SCHEME: Final = "bearer"


class Refusal(NamedTuple):
    """Why a request is refused, with the status to say so."""

    status: int
    reason: str


class RotatingToken:
    """A token in a file that may be replaced at any time.

    A file that has become unusable is no way in: the last good token stays in force.

    Args:
        path: The file.
        read: Reads it; raises SettingsProblem when there is no usable token.

    Raises:
        SettingsProblem: The file is unusable at the start.
    """

    def __init__(self, path: str, read: Callable[[str], str]) -> None:
        self._path = path
        self._read = read
        self._seen = self._signature()
        self._token = read(path)

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - on the path of a request; no object is needed
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def current(self) -> str:
        """Return the token in force now."""
        signature = self._signature()
        if signature != self._seen:
            self._seen = signature
            try:
                self._token = self._read(self._path)
            except SettingsProblem as problem:
                logger.error("the admin token stays as it was: %s", problem)  # noqa: TRY400 - it says all
            else:
                logger.info("the admin token was replaced")
        return self._token


class AdminAccess:
    """Judges requests for the picker's pages.

    Args:
        bound_host: Address the pages are bound to.
        token: Gives the token in force; None: none is asked for, and only local host names are taken.
    """

    def __init__(self, bound_host: str, token: Callable[[], str] | None = None) -> None:
        self._bound_host = bound_host.lower()
        self._token = token

    def refusal(self, path: str, *, host: str, authorization: str) -> Refusal | None:
        """Return why this request is refused; None if it may pass.

        Args:
            path: Path that is asked for.
            host: Host header, with or without port.
            authorization: Authorization header, empty if there is none.
        """
        if path in OPEN_PAGES:
            return None
        if self._token is None:
            return None if self._is_local(host) else Refusal(403, "this port is for this machine only\n")
        scheme, _, given = authorization.partition(" ")
        expected = self._token().encode()
        if scheme.lower() == _SCHEME and hmac.compare_digest(given.strip().encode(errors="replace"), expected):
            return None
        return Refusal(401, "the token of admin_token_file is needed: Authorization: Bearer <token>\n")

    def _is_local(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in _LOCAL_NAMES or name == self._bound_host:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False
