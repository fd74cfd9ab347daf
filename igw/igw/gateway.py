"""The standalone gateway: the endpoint picker and Envoy as supervised children that share one private folder."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from endpoint_picker.config.standby import STANDBY
from igw import envoy_admin, picker_state
from igw.admin_token import token_of_picker
from igw.child import ChildFailed, ChildSpec
from igw.errors import BadInput, CommandFailed
from igw.listen_address import ListenAddress
from igw.liveness import Liveness
from igw.picker_state import PickerState
from igw.stand_in import StandIn
from igw.supervisor import Supervisor

_MOST_WORKERS: Final = 4
_PICKER_BAD_INPUT: Final = 2
# Generous, for a busy machine: a child that cannot start says so long before.
_START_SECONDS: Final = 60.0
# The picker waits up to five seconds for requests that are being decided.
_PICKER_STOP_SECONDS: Final = 8.0


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How the two children are run.

    Attributes:
        manifests: Files and folders for the picker, in order of precedence.
        listen: Where clients connect.
        admin: Where the picker's admin pages are.
        envoy: Envoy's binary.
        drain_seconds: How long answers under way may go on after a stop was asked for.
        picker_arguments: Further arguments of the picker.
        inherit_picker_log: Let the picker write to our standard error, without a detour through this process; else its
            lines are reported as events.
    """

    manifests: tuple[str, ...]
    listen: ListenAddress
    admin: ListenAddress
    envoy: Path
    drain_seconds: float = 30.0
    picker_arguments: tuple[str, ...] = ()
    inherit_picker_log: bool = True


async def start_gateway(supervisor: Supervisor, settings: GatewaySettings, folder: Path) -> PickerState:
    """Start picker and Envoy, wait until both are ready, and return what the picker then says of itself.

    Raises:
        BadInput: The manifests are not valid; the picker has said where.
        CommandFailed: A child did not become ready.
    """
    try:
        await supervisor.start(_picker(settings, folder))
    except ChildFailed as failure:
        if failure.child_exit_code == _PICKER_BAD_INPUT:
            lines = str(failure).splitlines()[1:]
            msg = "\n".join(["nothing is served because of these problems:", *lines])
            raise BadInput(msg if lines else "nothing is served because of the problems above") from None
        raise
    await supervisor.start(_envoy(settings, folder))
    token = token_of_picker(_picker_arguments(settings, folder))
    return await picker_state.read_state(settings.admin.url, token=token)


def _picker_arguments(settings: GatewaySettings, folder: Path) -> tuple[str, ...]:
    files = [argument for path in settings.manifests for argument in ("-f", path)]
    return (
        *("--source", "files", *files),
        *("--envoy-dir", str(folder), "--listen", str(settings.listen), "--admin", str(settings.admin)),
        *settings.picker_arguments,
    )


def _picker(settings: GatewaySettings, folder: Path) -> ChildSpec:
    async def is_ready() -> str:
        try:
            await picker_state.read_page(settings.admin.url, "/readyz")
        except CommandFailed as failure:
            return str(failure)
        return ""

    async def answers() -> bool:
        try:
            await picker_state.read_page(settings.admin.url, "/livez")
        except CommandFailed:
            return False
        return True

    program = (sys.executable, "-m", "endpoint_picker")
    arguments = _picker_arguments(settings, folder)
    return ChildSpec(
        name="endpoint picker",
        command=(*program, *arguments),
        spare_command=(*program, STANDBY, *arguments),
        is_ready=is_ready,
        ready_timeout_seconds=_START_SECONDS,
        stop_timeout_seconds=_PICKER_STOP_SECONDS,
        inherit_output=settings.inherit_picker_log,
        echo=True,
        liveness=Liveness(answers),
    )


def _envoy(settings: GatewaySettings, folder: Path) -> ChildSpec:
    socket = folder / "envoy-admin.sock"

    async def is_ready() -> str:
        return await envoy_admin.missing_for_ready(socket, settings.listen.port)

    async def answers() -> bool:
        return await envoy_admin.answers(socket)

    async def drain() -> None:
        await envoy_admin.drain(socket, settings.drain_seconds)

    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    return ChildSpec(
        name="envoy",
        command=(
            *(str(settings.envoy), "-c", str(folder / "bootstrap.json"), "--disable-hot-restart"),
            *("--drain-strategy", "immediate"),
            *("--concurrency", str(workers), "--log-level", "warning", "--log-format", "%l %v"),
        ),
        is_ready=is_ready,
        ready_timeout_seconds=_START_SECONDS,
        before_stop=drain,
        echo=True,
        liveness=Liveness(answers),
        # Elsewhere two processes cannot share an address.
        stand_in=(lambda: StandIn(settings.listen)) if sys.platform == "linux" else None,
    )
