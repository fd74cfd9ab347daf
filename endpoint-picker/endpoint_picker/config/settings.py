"""The picker's settings: command line over environment (``IGW_…``) over configuration file over defaults.

Every field says its unit, its default and why. The configuration reference in docs/ is generated from here.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from envoy_config.settings import UsageSource

_MAX_DIRECTORY_BYTES = 80
API_VERSION = "config.inferencegateway.dev/v1alpha1"


class SettingsProblem(Exception):
    """The settings are unusable.

    Attributes:
        problems: One line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Source(StrEnum):
    """Where resources and endpoints come from."""

    FILES = "files"


class HostPort(BaseModel):
    """A TCP address."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int = Field(ge=0, le=65535)


def parse_host_port(text: str) -> HostPort:
    """Return ``host:port`` (IPv6 in brackets).

    Raises:
        ValueError: It is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        msg = f"expected HOST:PORT, got {text!r}"
        raise ValueError(msg)
    return HostPort(host=host.strip("[]") or "127.0.0.1", port=int(port))


class PickerSettings(BaseSettings):
    """The endpoint picker beside one Envoy."""

    model_config = SettingsConfigDict(
        env_prefix="IGW_",
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_prog_name="endpoint-picker",
    )

    source: Annotated[Source, Field(description="Where resources come from.")] = Source.FILES
    manifest: Annotated[
        list[str],
        Field(
            validation_alias=AliasChoices("f", "manifest"),
            description="Manifest file, folder, glob, or - for standard input; repeatable.",
        ),
    ] = []
    envoy_dir: Annotated[
        str, Field(description="Absolute folder for Envoy's files and both Unix sockets; at most 80 bytes long.")
    ] = ""
    listen: Annotated[str, Field(description="Address of Envoy's listener, HOST:PORT.")] = "127.0.0.1:8080"
    admin: Annotated[
        str, Field(description="Address of /livez, /readyz, /metrics and /debug, HOST:PORT; loopback by default.")
    ] = "127.0.0.1:9090"
    grpc_listen: Annotated[
        str,
        Field(
            description="Further address of the gRPC services, HOST:PORT, for data planes other than the Envoy beside "
            "this picker; unset: the Unix socket only."
        ),
    ] = ""
    grpc_tls_cert_file: Annotated[
        str, Field(description="PEM certificate chain of grpc_listen; unset: plain text.")
    ] = ""
    grpc_tls_key_file: Annotated[str, Field(description="PEM key of that certificate.")] = ""
    api_key_file: Annotated[
        str, Field(description="File with one bearer token per line that clients must send; unset: no authentication.")
    ] = ""
    config: Annotated[str, Field(description=f"Configuration file (YAML, apiVersion {API_VERSION}).")] = ""
    scheduling_config: Annotated[str, Field(description="EndpointPickerConfig file; unset: the default profile.")] = ""
    log_format: Annotated[Literal["text", "json"], Field(description="Form of log lines.")] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Least severity that is logged.")
    ] = "info"

    usage: Annotated[
        UsageSource,
        Field(
            description="Who reads token usage: Envoy's own filters (native, cheapest), a Lua filter, or the picker "
            "(sees every chunk). native rests on filters that Envoy marks work in progress."
        ),
    ] = UsageSource.NATIVE
    hold_headers: Annotated[
        bool,
        Field(
            description="Hold response headers until the first body byte, so that a server that dies or stalls during "
            "prefill is replaced unnoticed. Rests on upstream Wasm, which Envoy marks alpha."
        ),
    ] = True
    add_include_usage: Annotated[
        bool, Field(description="Ask for usage on streams whose client did not, and take the extra event out again.")
    ] = True
    max_body_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="Largest request body, bytes; also what a retry can replay.")
    ] = 32 * 1024 * 1024
    max_connections: Annotated[int, Field(ge=1, description="Client connections accepted at once.")] = 20_000
    message_timeout_seconds: Annotated[
        float, Field(gt=0, le=3600, description="How long Envoy waits for a decision before it fails open or closed.")
    ] = 10.0
    connect_timeout_seconds: Annotated[
        float, Field(gt=0, le=60, description="How long one attempt may take to connect to a model server.")
    ] = 2.0
    stream_idle_timeout_seconds: Annotated[
        float, Field(gt=0, description="Silence on a client's stream that ends it, seconds.")
    ] = 300.0
    in_flight_limit_seconds: Annotated[
        float, Field(gt=0, description="A request whose end is never reported leaves the ledger after so long.")
    ] = 900.0
    expected_output_tokens: Annotated[
        int, Field(ge=0, description="Output expected of a request that sets no limit, tokens.")
    ] = 256
    scrape_busy_seconds: Annotated[float, Field(ge=0.05, description="Interval of reading busy endpoints.")] = 0.2
    scrape_idle_seconds: Annotated[float, Field(ge=0.05, description="Interval of reading idle endpoints.")] = 1.0
    drain_seconds: Annotated[
        float, Field(ge=0, description="How long to go on after SIGTERM while requests are being decided.")
    ] = 5.0


def _read_file(path: str) -> dict[str, object]:
    """Return the settings in a configuration file, names in snake case.

    Raises:
        SettingsProblem: It cannot be read or is not of this kind.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsProblem([f"{path}: {error}"]) from error
    if not isinstance(document, dict) or document.get("apiVersion") != API_VERSION:
        raise SettingsProblem([f"{path}: apiVersion must be {API_VERSION}"])
    if document.get("kind") != "EndpointPickerSettings":
        raise SettingsProblem([f"{path}: kind must be EndpointPickerSettings"])
    values = {k: v for k, v in document.items() if k not in {"apiVersion", "kind", "metadata"}}
    known = {_camel(name): name for name in PickerSettings.model_fields}
    if unknown := sorted(set(values) - set(known)):
        raise SettingsProblem([f"{path}: {name}: unknown setting" for name in unknown])
    return {known[name]: value for name, value in values.items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def _with_file(values: dict[str, object]) -> type[PickerSettings]:
    class WithFile(PickerSettings):
        __doc__ = PickerSettings.__doc__

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    return WithFile


def read_settings(arguments: Sequence[str]) -> PickerSettings:
    """Return the settings of this process from *arguments*, environment and configuration file.

    Raises:
        SettingsProblem: Everything that is wrong, at once.
        SystemExit: ``--help``, or an argument that does not exist.
    """
    try:
        settings = CliApp.run(PickerSettings, cli_args=list(arguments))
        if settings.config:
            settings = CliApp.run(_with_file(_read_file(settings.config)), cli_args=list(arguments))
    except ValidationError as error:
        problems = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise SettingsProblem(problems) from error
    except SettingsError as error:
        raise SettingsProblem([str(error)]) from error
    if problems := _check(settings):
        raise SettingsProblem(problems)
    return settings


def _check(settings: PickerSettings) -> list[str]:
    problems: list[str] = []
    for name in ("listen", "admin"):
        try:
            parse_host_port(getattr(settings, name))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if settings.grpc_listen:
        try:
            parse_host_port(settings.grpc_listen)
        except ValueError as error:
            problems.append(f"grpc_listen: {error}")
    if bool(settings.grpc_tls_cert_file) != bool(settings.grpc_tls_key_file):
        problems.append("grpc_tls_cert_file and grpc_tls_key_file go together")
    if not settings.manifest:
        problems.append("manifest: at least one -f PATH is needed")
    if not settings.envoy_dir.startswith("/"):
        problems.append("envoy_dir: an absolute folder is needed")
    elif len(settings.envoy_dir.encode()) > _MAX_DIRECTORY_BYTES:
        problems.append(f"envoy_dir: longer than {_MAX_DIRECTORY_BYTES} bytes, too long for a Unix socket in it")
    return problems


def read_api_keys(path: str) -> tuple[str, ...]:
    """Return the bearer tokens in a file, one per line; none when *path* is empty.

    Raises:
        SettingsProblem: The file cannot be read or holds no usable token.
    """
    if not path:
        return ()
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsProblem([f"api_key_file: {path}: {error}"]) from error
    keys = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not keys or not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise SettingsProblem([f"api_key_file: {path}: expected one printable token per line"])
    return keys
