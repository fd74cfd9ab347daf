"""Whether and how spans are exported, by the standard ``OTEL_…`` variables; without any of them there are none.

Traces are continued and handed on in the form of W3C Trace Context; other propagators are not supported.

What is not listed here (headers, certificates, compression, time limits, resource attributes, limits of spans) is read
by the OpenTelemetry SDK itself.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from endpoint_picker.config.settings import SettingsProblem

_PREFIX: Final = "OTEL_"
_SAMPLERS_WITH_RATIO: Final = frozenset({"traceidratio", "parentbased_traceidratio"})


class SpanExporterKind(StrEnum):
    """Where spans go."""

    OTLP = "otlp"
    CONSOLE = "console"


class OtlpProtocol(StrEnum):
    """How they are sent."""

    HTTP = "http/protobuf"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """How spans are made and exported.

    Attributes:
        exporter: Where they go.
        protocol: How, over OTLP.
        max_queue_spans: Spans that wait for their export; more are dropped and counted.
        max_batch_spans: Spans in one export.
        delay_seconds: Longest wait before an export.
    """

    exporter: SpanExporterKind = SpanExporterKind.OTLP
    protocol: OtlpProtocol = OtlpProtocol.HTTP
    max_queue_spans: int = 2048
    max_batch_spans: int = 512
    delay_seconds: float = 5.0


def _none_if_empty(value: object) -> object:
    """The specification: an empty value means unset."""
    return None if value == "" else value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


_Text = Annotated[str | None, BeforeValidator(_none_if_empty)]


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", env_ignore_empty=True)

    sdk_disabled: Annotated[str, BeforeValidator(_lower)] = "false"
    traces_exporter: Annotated[Literal["otlp", "console", "none"] | None, BeforeValidator(_lower)] = None
    exporter_otlp_endpoint: _Text = None
    exporter_otlp_traces_endpoint: _Text = None
    exporter_otlp_protocol: OtlpProtocol = OtlpProtocol.HTTP
    exporter_otlp_traces_protocol: OtlpProtocol | None = None
    traces_sampler: Annotated[
        Literal[
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ],
        BeforeValidator(_lower),
    ] = "parentbased_always_on"
    traces_sampler_arg: str = "1.0"
    bsp_schedule_delay: Annotated[int, Field(ge=1)] = 5000
    bsp_max_queue_size: Annotated[int, Field(ge=1)] = 2048
    bsp_max_export_batch_size: Annotated[int, Field(ge=1)] = 512

    @property
    def wanted(self) -> bool:
        """Whether spans are asked for: an exporter or an endpoint is named, and nothing says no."""
        if self.sdk_disabled == "true" or self.traces_exporter == "none":
            return False
        return bool(self.traces_exporter or self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint)


def read_tracing() -> TracingSettings | None:
    """Return how spans are exported, from the environment; None: they are not.

    Raises:
        SettingsProblem: Everything that is wrong, at once; only where spans are asked for.
    """
    try:
        found = _Environment()
    except ValidationError as error:
        raise SettingsProblem(
            [f"{_PREFIX}{'_'.join(str(p) for p in e['loc']).upper()}: {e['msg']}" for e in error.errors()]
        ) from error
    if not found.wanted:
        return None
    problems: list[str] = []
    if found.traces_sampler in _SAMPLERS_WITH_RATIO and not _is_ratio(found.traces_sampler_arg):
        problems.append(f"{_PREFIX}TRACES_SAMPLER_ARG: expected a number from 0 to 1")
    if found.bsp_max_export_batch_size > found.bsp_max_queue_size:
        problems.append(f"{_PREFIX}BSP_MAX_EXPORT_BATCH_SIZE: more than {_PREFIX}BSP_MAX_QUEUE_SIZE")
    if problems:
        raise SettingsProblem(problems)
    return TracingSettings(
        exporter=SpanExporterKind(found.traces_exporter or SpanExporterKind.OTLP),
        protocol=found.exporter_otlp_traces_protocol or found.exporter_otlp_protocol,
        max_queue_spans=found.bsp_max_queue_size,
        max_batch_spans=found.bsp_max_export_batch_size,
        delay_seconds=found.bsp_schedule_delay / 1000,
    )


def _is_ratio(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and 0 <= value <= 1
