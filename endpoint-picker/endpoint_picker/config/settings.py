"""The picker's settings: command line over environment (``IGW_…``) over configuration file over defaults.

Every field says its unit, its default and why. The configuration reference in docs/ is generated from here.
"""

import ipaddress
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliApp, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from envoy_config.settings import UsageSource

_MAX_DIRECTORY_BYTES = 80
API_VERSION = "config.inferencegateway.dev/v1alpha1"
KIND = "EndpointPickerSettings"


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


def _split(value: object) -> object:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


class PickerSettings(BaseSettings):
    """The endpoint picker beside one Envoy."""

    model_config = SettingsConfigDict(
        env_prefix="IGW_",
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_prog_name="endpoint-picker",
        cli_shortcuts={"manifest": "f"},
        allow_inf_nan=False,
    )

    source: Annotated[Source, Field(description="Where resources come from.")] = Source.FILES
    manifest: Annotated[
        list[str],
        NoDecode,
        BeforeValidator(_split),
        Field(description="Manifest file, folder, glob, or - for standard input; repeatable, or a comma list."),
    ] = []
    envoy_dir: Annotated[
        str, Field(description="Absolute folder for Envoy's files and both Unix sockets; at most 80 bytes long.")
    ] = ""
    listen: Annotated[str, Field(description="Address of Envoy's listener, HOST:PORT.")] = "127.0.0.1:8080"
    admin: Annotated[
        str,
        Field(
            description="Address of /livez, /readyz, /metrics and /debug, HOST:PORT. Any other than loopback needs "
            "admin_token_file."
        ),
    ] = "127.0.0.1:9090"
    admin_token_file: Annotated[
        str,
        Field(
            description="File with the bearer token, of at least 16 characters, that /metrics and /debug ask for; "
            "replacing the file replaces the token. Unset: none, on loopback only."
        ),
    ] = ""
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
            description="Hold response headers until the first event, so that a server that dies or stalls during "
            "prefill is replaced unnoticed. Rests on upstream Wasm, which Envoy marks alpha."
        ),
    ] = True
    add_include_usage: Annotated[
        bool, Field(description="Ask for usage on streams whose client did not, and take the extra event out again.")
    ] = True
    max_body_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="Largest request body, bytes; also what a retry can replay.")
    ] = 32 * 1024 * 1024
    max_connections: Annotated[
        int,
        Field(
            ge=1,
            description="Client connections accepted at once; no more than half of the files that a process may open.",
        ),
    ] = 20_000
    envoy_max_heap_bytes: Annotated[
        int, Field(ge=64 << 20, description="Memory of Envoy near which it refuses new requests, bytes.")
    ] = 2 * 1024 * 1024 * 1024
    message_timeout_seconds: Annotated[
        float, Field(gt=0, le=3600, description="How long Envoy waits for a decision before it fails open or closed.")
    ] = 10.0
    connect_timeout_seconds: Annotated[
        float, Field(gt=0, le=60, description="How long one attempt may take to connect to a model server.")
    ] = 2.0
    stream_idle_timeout_seconds: Annotated[
        float, Field(gt=0, le=86_400, description="Silence on a client's stream that ends it, seconds.")
    ] = 300.0
    request_timeout_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=86_400,
            description="How long a client may take to send a request, seconds; for its headers, and between two "
            "pieces of its body, 30 s of that at most.",
        ),
    ] = 300.0
    in_flight_limit_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="A request that is not reported for so long leaves the in-flight ledger, also when Envoy's own "
            "counts cannot be had; running ones are reported every 10 s.",
        ),
    ] = 60.0
    max_held_bytes: Annotated[
        int,
        Field(ge=1 << 20, description="Request bodies held at once while requests are decided, bytes; above it: 503."),
    ] = 256 * 1024 * 1024
    prefill_tokens_per_second: Annotated[
        float,
        Field(
            gt=0,
            description="Pace at which an endpoint is believed to compute prompts, tokens per second; what was sent to "
            "it leaves its prefill backlog so fast. Between what small and large GPUs do; set your own if you know it.",
        ),
    ] = 4000.0
    expected_output_tokens: Annotated[
        int, Field(ge=0, description="Output expected of a request that sets no limit, tokens.")
    ] = 256
    ejection_failures: Annotated[
        int, Field(ge=1, description="So many failed attempts in a row keep an endpoint out for a while.")
    ] = 3
    ejection_error_share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="So large a share of failures among ten or more attempts of the last 30 s keeps one out.",
        ),
    ] = 0.25
    ejection_longest_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="Longest time out: the first is 1 s, each further one doubles. Then single requests probe.",
        ),
    ] = 30.0
    ejection_max_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of a pool up to which endpoints that answer some requests are kept out; those that "
            "answer nothing are, as long as one is left.",
        ),
    ] = 0.5
    scrape_busy_seconds: Annotated[float, Field(ge=0.05, description="Interval of reading busy endpoints.")] = 0.2
    scrape_idle_seconds: Annotated[float, Field(ge=0.05, description="Interval of reading idle endpoints.")] = 0.75
    drain_seconds: Annotated[
        float, Field(ge=0, description="How long to go on after SIGTERM while requests are being decided.")
    ] = 5.0


class _SettingsFile(PydanticBaseSettingsSource):
    """Reads the configuration file that the sources before it name; what is wrong with it goes to *problems*."""

    def __init__(self, settings_cls: type[BaseSettings], problems: list[str]) -> None:
        super().__init__(settings_cls)
        self._problems = problems

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        """Return nothing: the file is read as a whole."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, object]:
        path = self.current_state.get("config")
        if not isinstance(path, str) or not path:
            return {}
        values, problems = _read_file(path)
        self._problems.extend(f"{path}: {problem}" for problem in problems)
        return values


def _read_file(path: str) -> tuple[dict[str, object], list[str]]:
    """Return the known settings in a configuration file, names in snake case, and what is wrong with it."""
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return {}, [str(error)]
    if not isinstance(document, dict) or document.get("apiVersion") != API_VERSION:
        return {}, [f"apiVersion must be {API_VERSION}"]
    if document.get("kind") != KIND:
        return {}, [f"kind must be {KIND}"]
    values = {str(k): v for k, v in document.items() if k not in {"apiVersion", "kind", "metadata"}}
    known = {file_key(name): name for name in PickerSettings.model_fields if name != "config"}
    problems = [f"{name}: unknown setting" for name in sorted(set(values) - set(known))]
    return {known[name]: value for name, value in values.items() if name in known}, problems


def file_key(name: str) -> str:
    """Return the key of the setting *name* in a configuration file."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def _with_file(problems: list[str]) -> type[PickerSettings]:
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
            return init_settings, env_settings, _SettingsFile(settings_cls, problems)

    return WithFile


def read_settings(arguments: Sequence[str]) -> PickerSettings:
    """Return the settings of this process from *arguments*, environment and configuration file.

    Raises:
        SettingsProblem: Everything that is wrong, at once.
        SystemExit: ``--help``, or an argument that does not exist.
    """
    problems: list[str] = []
    try:
        settings = CliApp.run(_with_file(problems), cli_args=list(arguments))
    except ValidationError as error:
        found = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise SettingsProblem([*problems, *found]) from error
    except SettingsError as error:
        raise SettingsProblem([*problems, str(error)]) from error
    if problems := [*problems, *_check(settings)]:
        raise SettingsProblem(problems)
    return settings


def _address_problem(text: str, *, of_envoy: bool = False) -> str:
    """Return what is wrong with HOST:PORT, empty if nothing; Envoy binds IP addresses only."""
    try:
        host = parse_host_port(text).host
        if of_envoy:
            ipaddress.ip_address(host)
    except ValueError as error:
        return str(error)
    return ""


def _is_loopback(address: str) -> bool:
    """Return whether HOST:PORT is one of this machine alone; a name other than localhost is not looked up."""
    host = parse_host_port(address).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check(settings: PickerSettings) -> list[str]:
    found = {
        "listen": _address_problem(settings.listen, of_envoy=True),
        "admin": _address_problem(settings.admin),
        "grpc_listen": _address_problem(settings.grpc_listen) if settings.grpc_listen else "",
    }
    problems = [f"{name}: {problem}" for name, problem in found.items() if problem]
    if not found["admin"] and not settings.admin_token_file and not _is_loopback(settings.admin):
        problems.append(
            f"admin: {settings.admin} can be reached from other machines; give admin_token_file, or bind 127.0.0.1"
        )
    if bool(settings.grpc_tls_cert_file) != bool(settings.grpc_tls_key_file):
        problems.append("grpc_tls_cert_file and grpc_tls_key_file go together")
    if not settings.manifest:
        problems.append("manifest: at least one -f PATH is needed")
    if not settings.envoy_dir.startswith("/"):
        problems.append("envoy_dir: an absolute folder is needed")
    elif len(settings.envoy_dir.encode()) > _MAX_DIRECTORY_BYTES:
        problems.append(f"envoy_dir: longer than {_MAX_DIRECTORY_BYTES} bytes, too long for a Unix socket in it")
    return problems
