"""Addresses to listen on: named, checked and found free before anything starts."""

import ipaddress
import socket
from dataclasses import dataclass

from igw.errors import BadInput, CommandFailed

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An IP address without brackets and a TCP port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{_bracketed(self.ip)}:{self.port}"

    @property
    def url(self) -> str:
        """URL by which this machine reaches it: the loopback address where it listens on all."""
        return f"http://{_bracketed(_WILDCARDS.get(self.ip, self.ip))}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.ip.partition("%")[0]).is_loopback


def claim_address(host: str, port: int, *, option: str) -> ListenAddress:
    """Return the address of *host* and *port* after a trial bind; port 0 stands for any free port.

    Raises:
        BadInput: *host* is no address of this machine.
        CommandFailed: The port is in use or may not be used; the message names *option* as the way out.
    """
    ip = _resolve(host)
    try:
        return ListenAddress(ip, _bind_once(ip, port))
    except PermissionError:
        msg = f"port {port} on {host} needs more privileges (choose another with {option})"
        raise CommandFailed(msg) from None
    except OSError as error:
        if isinstance(error, socket.gaierror) or "assign requested address" in str(error):
            msg = f"{host} is not an address of this machine"
            raise BadInput(msg) from None
        msg = f"port {port} on {host} is in use (choose another with {option})"
        raise CommandFailed(msg) from None


def claim_preferred(host: str, preferred: int, *, option: str) -> ListenAddress:
    """Like `claim_address`, but any free port will do when *preferred* is taken."""
    try:
        return claim_address(host, preferred, option=option)
    except CommandFailed:
        return claim_address(host, 0, option=option)


def _bind_once(ip: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        # Connections of an earlier run that linger in TIME_WAIT do not make a port busy.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((ip, port))
        # A socket that is bound but silent lets the bind pass; only listening tells.
        trial.listen(1)
        bound: int = trial.getsockname()[1]
        return bound


def _resolve(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        msg = f"{host} is not an address of this machine"
        raise BadInput(msg) from None
    # IPv4 first, so that `localhost` means what the printed URL says.
    addresses = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(addresses[0][4][0])


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
