"""Spelling of protobuf JSON: type URLs, durations, addresses, data sources."""

from typing import TypeAlias

from inference_resolution.resolved import ResolvedEndpoint

Json: TypeAlias = dict[str, object]
"""One JSON object of Envoy's configuration."""


def typed(message: str, **fields: object) -> Json:
    """Return an Any of the v3 *message* (full name below ``type.googleapis.com``) with *fields*."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def extension(name: str, message: str, **fields: object) -> Json:
    """Return a named extension with its typed configuration."""
    return {"name": name, "typed_config": typed(message, **fields)}


def duration(seconds: float) -> str:
    """Return a protobuf duration."""
    text = f"{seconds:.9f}".rstrip("0").rstrip(".")
    return f"{text or '0'}s"


def socket_address(host: str, port: int) -> Json:
    """Return a TCP address."""
    return {"socket_address": {"address": host, "port_value": port}}


def endpoint_address(endpoint: ResolvedEndpoint) -> Json:
    """Return the address of *endpoint*."""
    return socket_address(endpoint.ip, endpoint.port)


def file_source(path: str) -> Json:
    """Return a configuration source that follows *path*, replaced by rename."""
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def discovery_response(version: str, resources: list[Json]) -> Json:
    """Return the content of one xDS file."""
    return {"version_info": version, "resources": resources}
