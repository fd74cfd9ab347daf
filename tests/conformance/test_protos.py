"""Our trimmed protobufs mean on the wire what Envoy's do, and their generated code is that of the .proto beside it.

Upstream's descriptors register the same names, so each side is described in a process of its own.
"""

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import endpoint_picker.protos

PROTOS = Path(endpoint_picker.protos.__file__).parent
SOURCES = sorted(PROTOS.glob("*.proto"))

OURS = (
    "endpoint_picker.protos.access_log_pb2",
    "endpoint_picker.protos.access_log_service_pb2",
    "endpoint_picker.protos.core_pb2",
    "endpoint_picker.protos.ext_proc_pb2",
    "endpoint_picker.protos.health_pb2",
    "endpoint_picker.protos.http_status_pb2",
    "endpoint_picker.protos.processing_mode_pb2",
    "endpoint_picker.protos.token_usage_pb2",
)
UPSTREAM = (
    "envoy.config.core.v3.address_pb2",
    "envoy.config.core.v3.base_pb2",
    "envoy.data.accesslog.v3.accesslog_pb2",
    "envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2",
    "envoy.service.accesslog.v3.als_pb2",
    "envoy.service.ext_proc.v3.external_processor_pb2",
    "envoy.type.v3.http_status_pb2",
)
# Not in xds-protos yet, or never: field by field as Envoy 1.40 and the gRPC project define them.
TABLE = {
    "envoy.data.ai.v3.TokenUsage": {
        "model": [2, "string", "one", ""],
        "input_tokens": [3, "google.protobuf.UInt64Value", "one", ""],
        "output_tokens": [4, "google.protobuf.UInt64Value", "one", ""],
        "total_tokens": [5, "google.protobuf.UInt64Value", "one", ""],
        "input_token_details": [6, "envoy.data.ai.v3.InputTokenDetails", "one", ""],
        "output_token_details": [7, "envoy.data.ai.v3.OutputTokenDetails", "one", ""],
        "provider_total_tokens": [8, "google.protobuf.UInt64Value", "one", ""],
        "extraction_status": [9, "envoy.data.ai.v3.TokenUsage.ExtractionStatus", "one", ""],
    },
    "envoy.data.ai.v3.TokenUsage.ExtractionStatus": {
        "EXTRACTION_STATUS_UNSPECIFIED": 0,
        "COMPLETE": 1,
        "PARTIAL": 2,
        "FAILED": 3,
    },
    "envoy.data.ai.v3.InputTokenDetails": {
        "cached_tokens": [1, "google.protobuf.UInt64Value", "one", ""],
        "cache_creation_tokens": [2, "google.protobuf.UInt64Value", "one", ""],
    },
    "envoy.data.ai.v3.OutputTokenDetails": {
        "reasoning_tokens": [1, "google.protobuf.UInt64Value", "one", ""],
    },
    "grpc.health.v1.HealthCheckRequest": {"service": [1, "string", "one", ""]},
    "grpc.health.v1.HealthCheckResponse": {
        "status": [1, "grpc.health.v1.HealthCheckResponse.ServingStatus", "one", ""],
    },
    "grpc.health.v1.HealthCheckResponse.ServingStatus": {
        "UNKNOWN": 0,
        "SERVING": 1,
        "NOT_SERVING": 2,
        "SERVICE_UNKNOWN": 3,
    },
    "grpc.health.v1.HealthListRequest": {},
    "grpc.health.v1.HealthListResponse": {
        "statuses": [1, "grpc.health.v1.HealthListResponse.StatusesEntry", "many", ""],
    },
    "grpc.health.v1.HealthListResponse.StatusesEntry": {
        "key": [1, "string", "one", ""],
        "value": [2, "grpc.health.v1.HealthCheckResponse", "one", ""],
    },
    "grpc.health.v1.Health": {
        "Check": ["grpc.health.v1.HealthCheckRequest", "grpc.health.v1.HealthCheckResponse", False, False],
        "List": ["grpc.health.v1.HealthListRequest", "grpc.health.v1.HealthListResponse", False, False],
        "Watch": ["grpc.health.v1.HealthCheckRequest", "grpc.health.v1.HealthCheckResponse", False, True],
    },
}

# Prints {full name: {field: [number, type, label, oneof], or enum value: number, or method: [in, out, streams]}}.
DESCRIBE = """
import importlib, json, sys
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

described = {}


def type_name(field):
    return field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def describe_enum(scope, enum):
    described[f"{scope}.{enum.name}"] = {value.name: value.number for value in enum.value}


def describe_message(scope, message):
    name = f"{scope}.{message.name}"
    described[name] = {
        field.name: [
            field.number,
            type_name(field),
            "many" if field.label == FieldDescriptorProto.LABEL_REPEATED else "one",
            message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "",
        ]
        for field in message.field
    }
    for inner in message.nested_type:
        describe_message(name, inner)
    for enum in message.enum_type:
        describe_enum(name, enum)


for module in sys.argv[1:]:
    file = FileDescriptorProto()
    importlib.import_module(module).DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        describe_message(file.package, message)
    for enum in file.enum_type:
        describe_enum(file.package, enum)
    for service in file.service:
        described[f"{file.package}.{service.name}"] = {
            method.name: [
                method.input_type.lstrip("."),
                method.output_type.lstrip("."),
                method.client_streaming,
                method.server_streaming,
            ]
            for method in service.method
        }
print(json.dumps(described))
"""

Description = dict[str, dict[str, object]]


@cache
def describe(*modules: str) -> Description:
    # upstream's package has a folder of its own, because it brings copies of other packages
    program = f"import sys; sys.path.insert(0, {str(Path(sys.prefix, 'upstream-protos'))!r})\n{DESCRIBE}"
    command = [sys.executable, "-c", program, *modules]
    described: Description = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return described


def differences(ours: Description, theirs: Description) -> list[str]:
    return [
        f"{name}.{part}: ours {ours[name][part]}, theirs {theirs.get(name, {}).get(part, 'absent')}"
        for name in ours
        for part in ours[name]
        if theirs.get(name, {}).get(part) != ours[name][part]
    ]


def test_every_part_of_ours_is_upstreams() -> None:
    ours = {name: parts for name, parts in describe(*OURS).items() if name not in TABLE}
    theirs = describe(*UPSTREAM)
    assert len(ours) > 30
    assert [name for name in ours if name not in theirs] == []
    assert differences(ours, theirs) == []


def test_what_upstreams_package_lacks_is_as_tabled() -> None:
    ours = {name: parts for name, parts in describe(*OURS).items() if name in TABLE}
    assert ours == TABLE


def test_the_comparison_sees_a_changed_number() -> None:
    changed = {"a.B": {"x": [1, "string", "one", ""]}}
    assert differences(changed, {"a.B": {"x": [2, "string", "one", ""]}})
    assert differences(changed, {})


def test_all_files_are_compared() -> None:
    assert {name.rpartition(".")[2] for name in OURS} == {f"{source.stem}_pb2" for source in SOURCES}


@pytest.mark.parametrize("suffix", ["_pb2.py", "_pb2.pyi"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_generated_code_is_of_the_proto_beside_it(source: Path, suffix: str) -> None:
    first_line = source.with_name(source.stem + suffix).read_text(encoding="utf-8").splitlines()[0]
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert first_line == f"# proto sha256: {digest}", "run scripts/generate_protos.py"


def test_no_generated_code_is_left_without_its_proto() -> None:
    stems = {path.name.partition("_pb2")[0] for path in PROTOS.glob("*_pb2*")}
    assert stems == {source.stem for source in SOURCES}
