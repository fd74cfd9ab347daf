"""``--pool NAME=URL,URL…``: model servers named on the command line instead of in manifests."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from igw.errors import BadInput

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LONGEST_NAME: Final = 256
_HOST_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """One model server.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Lower-case host name, or an IP address without brackets.
        port: TCP port.
    """

    scheme: str
    host: str
    port: int

    @property
    def dns_name(self) -> str:
        """The host name if DNS could know it, for TLS and the Host header; empty for an IP address or a local name."""
        return "" if self.is_ip or "_" in self.host else self.host

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address, so that there is no name to resolve or to send."""
        return _is_ip(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PoolFlag:
    """One ``--pool``: the model name clients use and the servers behind it, which share one scheme."""

    name: str
    servers: tuple[ServerUrl, ...]


def parse_pool_flags(texts: Sequence[str]) -> tuple[PoolFlag, ...]:
    """Parse every ``--pool`` of a command line.

    Raises:
        BadInput: One of them cannot be used, or two have the same name.
    """
    flags = tuple(parse_pool_flag(text) for text in texts)
    seen: set[str] = set()
    for flag in flags:
        if flag.name in seen:
            msg = f"--pool {flag.name}: given twice; list all its URLs in one --pool"
            raise BadInput(msg)
        seen.add(flag.name)
    return flags


def parse_pool_flag(text: str) -> PoolFlag:
    """Parse one ``NAME=URL,URL…``.

    Raises:
        BadInput: It has another form; the message says which part is wrong.
    """
    name, equals, urls = text.partition("=")
    name = name.strip()
    if not equals or not name or "://" in name:
        msg = f"--pool {text}: expected NAME=URL,URL…, such as llama-3=http://127.0.0.1:8000"
        raise BadInput(msg)
    if len(name) > _LONGEST_NAME or not name.isprintable():
        msg = f"--pool {name[:40]}…: the name must be at most {_LONGEST_NAME} printable characters"
        raise BadInput(msg)
    servers = tuple(_parse_url(url.strip(), name) for url in urls.split(","))
    for index, server in enumerate(servers):
        if server in servers[:index]:
            msg = f"--pool {name}: {server} is listed twice"
            raise BadInput(msg)
    if len({server.scheme for server in servers}) > 1:
        msg = f"--pool {name}: the servers of one pool must all be http or all be https"
        raise BadInput(msg)
    return PoolFlag(name, servers)


def _parse_url(url: str, name: str) -> ServerUrl:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        shown = url.rpartition("@")[2]
        msg = f"--pool {name}: {shown}: not a URL (is the port at most 65535, an IPv6 address in brackets?)"
        raise BadInput(msg) from None
    host = (parts.hostname or "").rstrip(".")
    problem = _problem_with(url, parts, host, port)
    if problem:
        shown = url.rpartition("@")[2] or "empty URL"
        msg = f"--pool {name}: {shown}: {problem}"
        raise BadInput(msg)
    return ServerUrl(parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port)


def _problem_with(url: str, parts: SplitResult, host: str, port: int | None) -> str:
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        return "expected http://HOST:PORT or https://HOST:PORT"
    if not _is_ip(host) and not _is_host_name(host):
        return "the host is neither a host name nor an IP address"
    refused = {
        "must not carry a user name or password": parts.username is not None or parts.password is not None,
        "must not carry a query or fragment": "?" in url or "#" in url,
        "must have no path: give only scheme, host and port": parts.path not in ("", "/"),
        "the port must be 1 to 65535": port == 0,
    }
    return next((why for why, holds in refused.items() if holds), "")


def _is_host_name(host: str) -> bool:
    labels = host.split(".")
    # A last label of digits only is a mistyped IPv4 address; resolvers read some of them as numbers.
    return len(host) <= 253 and all(map(_HOST_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
