"""Tracing is off until a standard variable asks for it; what makes no sense stops the start, all of it at once."""

import pytest

from endpoint_picker.config.settings import SettingsProblem
from endpoint_picker.config.tracing import OtlpProtocol, SpanExporterKind, TracingSettings, _Environment, read_tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _Environment.model_fields:
        monkeypatch.delenv(f"OTEL_{name.upper()}", raising=False)


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> TracingSettings | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return read_tracing()


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"OTEL_SERVICE_NAME": "s", "OTEL_TRACES_SAMPLER": "always_on"}, id="no-exporter"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, id="empty-counts-as-unset"),
        pytest.param({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, id="no-exporter-wanted"),
        pytest.param({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, id="sdk-disabled"),
        pytest.param({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, id="metrics-only"),
    ],
)
def test_off(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    assert read(monkeypatch, **variables) is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param(ENDPOINT, TracingSettings(), id="endpoint"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, TracingSettings(), id="endpoint-of-traces"),
        pytest.param({"OTEL_TRACES_EXPORTER": "otlp"}, TracingSettings(), id="exporter-by-its-default-endpoint"),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "console"}, TracingSettings(exporter=SpanExporterKind.CONSOLE), id="console"
        ),
        pytest.param({**ENDPOINT, "OTEL_SDK_DISABLED": "no"}, TracingSettings(), id="only-true-disables"),
        pytest.param(
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            TracingSettings(protocol=OtlpProtocol.GRPC),
            id="protocol",
        ),
        pytest.param(
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            TracingSettings(),
            id="the-protocol-of-traces-wins",
        ),
        pytest.param(
            {
                **ENDPOINT,
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                "OTEL_BSP_MAX_QUEUE_SIZE": "10",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5",
            },
            TracingSettings(max_queue_spans=10, max_batch_spans=5, delay_seconds=0.1),
            id="batches",
        ),
    ],
)
def test_on(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: TracingSettings) -> None:
    assert read(monkeypatch, **variables) == expected


@pytest.mark.parametrize(
    ("variables", "problems"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, ["OTEL_TRACES_EXPORTER"]),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, ["OTEL_EXPORTER_OTLP_PROTOCOL"]),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "jaeger_remote"}, ["OTEL_TRACES_SAMPLER"]),
        (
            {**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
            ["OTEL_TRACES_SAMPLER_ARG"],
        ),
        ({**ENDPOINT, "OTEL_BSP_MAX_QUEUE_SIZE": "10"}, ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"]),
        (
            {**ENDPOINT, "OTEL_BSP_SCHEDULE_DELAY": "soon", "OTEL_TRACES_SAMPLER": "some"},
            ["OTEL_TRACES_SAMPLER", "OTEL_BSP_SCHEDULE_DELAY"],
        ),
    ],
)
def test_problems(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], problems: list[str]) -> None:
    with pytest.raises(SettingsProblem) as caught:
        read(monkeypatch, **variables)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == problems
