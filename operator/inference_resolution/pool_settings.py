"""Settings of a pool from its annotations and Secrets; a bad one refuses the pool rather than weakening it."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter, ValidationError

from inference_api.duration import parse_duration
from inference_api.inference_pool import InferencePool
from inference_api.names import (
    ANSWER_TIMEOUT_ANNOTATION,
    CREDENTIAL_SECRET_ANNOTATION,
    FIRST_TOKEN_TIMEOUT_ANNOTATION,
    HOST_REWRITE_ANNOTATION,
    METRICS_PATH_ANNOTATION,
    METRICS_PORT_ANNOTATION,
    SCHEDULING_PROFILE_ANNOTATION,
    TLS_ANNOTATION,
    TLS_CA_SECRET_ANNOTATION,
    TLS_SERVER_NAME_ANNOTATION,
)
from inference_api.schema import PreciseHostname
from inference_api.secret import Secret
from inference_resolution.resolved import ModelServerTls

CA_KEY: Final = "ca.crt"
CREDENTIAL_KEY: Final = "api-key"
_MAX_CREDENTIAL_BYTES: Final = 8192
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+\Z")
_METRICS_PATH: Final = re.compile(r"/[\x21-\x7e]{0,1023}\Z")
_HOSTNAME: Final[TypeAdapter[str]] = TypeAdapter(PreciseHostname)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What the annotations of a pool say; the fields are those of `ResolvedPool`."""

    tls: ModelServerTls | None = None
    api_key: str = field(default="", repr=False)
    first_token_timeout_seconds: float = 120.0
    answer_timeout_seconds: float = 900.0
    metrics_path: str = ""
    metrics_port: int = 0
    rewrite_host: bool = False
    scheduling_profile: str = ""


_DEFAULTS: Final = PoolSettings()


class InvalidPoolSettings(ValueError):  # says what the settings are
    """The annotations of a pool cannot be honoured; the message says why, without any secret."""


def read_pool_settings(pool: InferencePool, secrets: Mapping[tuple[str, str], Secret]) -> PoolSettings:
    """Read the annotations of *pool*; Secrets are those of its namespace.

    Raises:
        InvalidPoolSettings: A value is bad or a Secret is missing.
    """
    annotations = pool.metadata.annotations
    namespace = pool.metadata.namespace
    return PoolSettings(
        tls=_tls(annotations, namespace, secrets),
        api_key=_api_key(annotations, namespace, secrets),
        first_token_timeout_seconds=_timeout(
            annotations, FIRST_TOKEN_TIMEOUT_ANNOTATION, _DEFAULTS.first_token_timeout_seconds
        ),
        answer_timeout_seconds=_timeout(annotations, ANSWER_TIMEOUT_ANNOTATION, _DEFAULTS.answer_timeout_seconds),
        metrics_path=_metrics_path(annotations),
        metrics_port=_metrics_port(annotations, len(pool.spec.target_ports)),
        rewrite_host=_rewrite_host(annotations),
        scheduling_profile=annotations.get(SCHEDULING_PROFILE_ANNOTATION, ""),
    )


def _refused(annotation: str, reason: str) -> InvalidPoolSettings:
    return InvalidPoolSettings(f"Annotation {annotation}: {reason}.")


def _tls(
    annotations: Mapping[str, str], namespace: str, secrets: Mapping[tuple[str, str], Secret]
) -> ModelServerTls | None:
    mode = annotations.get(TLS_ANNOTATION)
    if mode is None:
        for annotation in (TLS_SERVER_NAME_ANNOTATION, TLS_CA_SECRET_ANNOTATION):
            if annotation in annotations:
                raise _refused(annotation, f"has no effect without {TLS_ANNOTATION}")
        return None
    if mode not in {"verify", "skip-verify"}:
        raise _refused(TLS_ANNOTATION, "must be verify or skip-verify")
    server_name = annotations.get(TLS_SERVER_NAME_ANNOTATION, "")
    if TLS_SERVER_NAME_ANNOTATION in annotations:
        try:
            _HOSTNAME.validate_python(server_name)
        except ValidationError:
            raise _refused(TLS_SERVER_NAME_ANNOTATION, "must be a DNS name") from None
    ca_pem = ""
    if TLS_CA_SECRET_ANNOTATION in annotations:
        raw = _secret_value(TLS_CA_SECRET_ANNOTATION, annotations, namespace, CA_KEY, secrets)
        try:
            ca_pem = raw.decode("ascii")
        except UnicodeDecodeError:
            ca_pem = ""
        if not _holds_certificates(ca_pem):
            raise _refused(TLS_CA_SECRET_ANNOTATION, f"key {CA_KEY} of the Secret holds no PEM certificate")
    return ModelServerTls(verify=mode == "verify", server_name=server_name, ca_pem=ca_pem)


def _holds_certificates(pem: str) -> bool:
    """Return whether *pem* can be verified with; Envoy would refuse every pool's configuration with a bad one."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _api_key(annotations: Mapping[str, str], namespace: str, secrets: Mapping[tuple[str, str], Secret]) -> str:
    if CREDENTIAL_SECRET_ANNOTATION not in annotations:
        return ""
    raw = _secret_value(CREDENTIAL_SECRET_ANNOTATION, annotations, namespace, CREDENTIAL_KEY, secrets).strip()
    if not _VISIBLE.match(raw) or len(raw) > _MAX_CREDENTIAL_BYTES:
        reason = f"key {CREDENTIAL_KEY} of the Secret must hold 1 to {_MAX_CREDENTIAL_BYTES} visible ASCII characters"
        raise _refused(CREDENTIAL_SECRET_ANNOTATION, reason)
    return raw.decode("ascii")


def _secret_value(
    annotation: str,
    annotations: Mapping[str, str],
    namespace: str,
    key: str,
    secrets: Mapping[tuple[str, str], Secret],
) -> bytes:
    name = annotations[annotation]
    secret = secrets.get((namespace, name))
    if secret is None:
        raise _refused(annotation, f"there is no Secret {name!r} in namespace {namespace}")
    value = secret.value(key)
    if value is None:
        raise _refused(annotation, f"Secret {name!r} has no key {key}")
    return value


def _timeout(annotations: Mapping[str, str], annotation: str, default: float) -> float:
    text = annotations.get(annotation)
    if text is None:
        return default
    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        raise _refused(annotation, str(exc)) from exc
    if seconds <= 0:
        raise _refused(annotation, "must be longer than zero")
    return seconds


def _metrics_path(annotations: Mapping[str, str]) -> str:
    path = annotations.get(METRICS_PATH_ANNOTATION)
    if path is None:
        return ""
    if not _METRICS_PATH.match(path):
        raise _refused(METRICS_PATH_ANNOTATION, "must be an absolute path of at most 1024 visible ASCII characters")
    return path


def _metrics_port(annotations: Mapping[str, str], target_ports: int) -> int:
    text = annotations.get(METRICS_PORT_ANNOTATION)
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise _refused(METRICS_PORT_ANNOTATION, "must be a port, 1 to 65535")
    if target_ports > 1:
        raise _refused(METRICS_PORT_ANNOTATION, "works only with a single target port")
    return int(text)


def _rewrite_host(annotations: Mapping[str, str]) -> bool:
    value = annotations.get(HOST_REWRITE_ANNOTATION)
    if value not in {None, "endpoint"}:
        raise _refused(HOST_REWRITE_ANNOTATION, "must be 'endpoint'")
    return value is not None
