"""``igw simulate``: model servers without GPUs, on this machine."""

import asyncio
import errno
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

from igw.errors import BadInput, CommandFailed
from igw.simulator.faults import FaultPlan, parse_fault
from igw.simulator.server import SimulatedServer
from igw.simulator.settings import ServerKind, SimulatorSettings, engine_settings
from igw.simulator.timing import PRESETS, TimingPreset
from igw.stop_signals import StopSignals, run_until
from igw.terminal import failing_clearly

_GRACE_SECONDS: Final = 5.0


def simulate(  # noqa: PLR0913 - the options of a command
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="First port; 0 takes any free ones.")] = 8000,
    count: Annotated[int, typer.Option(min=1, max=64, help="Servers, on consecutive ports.")] = 1,
    name: Annotated[
        str, typer.Option(help="Answers say x-simulated-server: NAME-0, and so on for further servers.")
    ] = "simulated",
    model: Annotated[
        list[str] | None, typer.Option(help="Name the base model is served under; repeat for aliases.")
    ] = None,
    lora: Annotated[list[str] | None, typer.Option(help="LoRA adapter that is registered from the start.")] = None,
    engine: Annotated[ServerKind, typer.Option(help="Whose metrics names to use.")] = ServerKind.VLLM,
    timing: Annotated[str, typer.Option(help=f"How long steps take: {', '.join(PRESETS)}.")] = "h100-8b",
    time_scale: Annotated[float, typer.Option(help="Simulated seconds per real second.")] = 1.0,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Most sequences in a step.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens in a step.")] = None,
    kv_blocks: Annotated[int | None, typer.Option(min=2, help="KV-cache blocks.")] = None,
    block_size: Annotated[int, typer.Option(min=1, max=1024, help="Tokens per KV-cache block.")] = 16,
    max_model_len: Annotated[int | None, typer.Option(min=2, help="Most tokens of prompt and answer.")] = None,
    max_queue: Annotated[
        int | None, typer.Option(min=0, help="Bound of the waiting queue; beyond it requests get 429.")
    ] = None,
    max_loras: Annotated[int, typer.Option(min=0, help="LoRA adapters that fit at once.")] = 4,
    lora_load_seconds: Annotated[float, typer.Option(min=0, help="What bringing in an adapter takes.")] = 0.1,
    priority_scheduling: Annotated[
        bool, typer.Option("--priority-scheduling", help="Heed the body field 'priority', lower first.")
    ] = False,
    answer_tokens: Annotated[int, typer.Option(min=1, help="About how long answers are by themselves.")] = 256,
    api_key: Annotated[str, typer.Option(help="Bearer token asked for on /v1/*.")] = "",
    tls_certificate: Annotated[Path | None, typer.Option(exists=True, help="PEM certificate; serves HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(exists=True, help="PEM key of the certificate.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Fault such as 'status,code=503,probability=0.1' or 'cut-stream,tokens=5,count=3'."),
    ] = None,
) -> None:
    """Run model servers that behave like real ones under load, without a GPU.

    Each one batches continuously, fills a KV cache, keeps a prefix cache and answers in the OpenAI format. Faults can
    be given here or changed while it runs with POST /simulator/faults. Stop with Ctrl-C.
    """
    with failing_clearly():
        try:
            sizes = engine_settings(_preset(timing), block_size=block_size)
            sizes = replace(
                sizes,
                max_num_seqs=max_num_seqs or sizes.max_num_seqs,
                max_num_batched_tokens=max_num_batched_tokens or sizes.max_num_batched_tokens,
                num_blocks=kv_blocks or sizes.num_blocks,
                max_queued_requests=max_queue,
                max_loras=max_loras,
                lora_load_seconds=lora_load_seconds,
                priority_scheduling=priority_scheduling,
            )
            settings = SimulatorSettings(
                name=name,
                host=host,
                models=tuple(model or ("simulated-model",)),
                adapters=tuple(lora or ()),
                kind=engine,
                timing=timing,
                engine=sizes,
                max_model_len=max_model_len,
                answer_tokens=answer_tokens,
                time_scale=time_scale,
                api_key=api_key,
                tls_certificate=tls_certificate,
                tls_key=tls_key,
                faults=FaultPlan(tuple(parse_fault(text) for text in fault or ())),
            )
            servers = [SimulatedServer(one) for one in _each(settings, port, count)]
        except (ValueError, OSError) as error:
            raise BadInput(str(error)) from error
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(servers))


def _preset(timing: str) -> TimingPreset:
    if timing not in PRESETS:
        msg = f"unknown timing {timing!r}; known: {', '.join(PRESETS)}"
        raise ValueError(msg)
    return PRESETS[timing]


def _each(settings: SimulatorSettings, port: int, count: int) -> list[SimulatorSettings]:
    """Return the settings of each server: its own name, port and draw of faults."""
    if port and port + count - 1 > 65535:
        msg = f"{count} ports from {port} on end beyond 65535"
        raise ValueError(msg)
    return [
        replace(
            settings,
            name=f"{settings.name}-{index}",
            port=port + index if port else 0,
            faults=replace(settings.faults, seed=index),
        )
        for index in range(count)
    ]


async def _serve(servers: Sequence[SimulatedServer]) -> None:
    """Run until a signal asks to stop; a second one cuts the grace period short.

    Raises:
        CommandFailed: A port is taken.
    """
    with StopSignals() as signals:
        async with AsyncExitStack() as stack:
            for server in servers:
                await _start(server, stack)
            await signals.stop.wait()
            await run_until(signals.force, _stop(servers))


async def _start(server: SimulatedServer, stack: AsyncExitStack) -> None:
    settings = server.settings
    try:
        await stack.enter_async_context(server)
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
        msg = f"cannot listen on {settings.host}:{settings.port}: {reason}"
        raise CommandFailed(msg) from error
    typer.echo(f"simulated {settings.kind.brand} '{settings.name}' on {server.url}")


async def _stop(servers: Sequence[SimulatedServer]) -> None:
    """Let what is in flight end, on all servers at once."""
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.stop(grace_seconds=_GRACE_SECONDS))
