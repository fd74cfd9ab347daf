"""What all resource models share: aliases, frozen values, and the scalar types of the Kubernetes API."""

import ipaddress
import re
from collections.abc import Hashable, Iterable
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict
from pydantic.alias_generators import to_camel

_T = TypeVar("_T", bound=Hashable)

_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL: Final = re.compile(rf"{_LABEL}\Z")
_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\Z")
_HOSTNAME: Final = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*\Z")
_KIND: Final = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?\Z")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z")

_ALIASES: Final = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class StrictModel(BaseModel):
    """Part of a kind whose schema is complete here: an unknown field is an error, as for a strict API server."""

    model_config = ConfigDict(**_ALIASES, extra="forbid")


class OpenModel(BaseModel):
    """Part of a kind of which only some fields are read: unknown fields pass."""

    model_config = ConfigDict(**_ALIASES, extra="ignore")


def _dns_label(value: str) -> str:
    if len(value) > 63 or not _DNS_LABEL.match(value):
        msg = f"{value!r} must be lower-case letters, digits and '-', at most 63 characters (RFC 1123 label)"
        raise ValueError(msg)
    return value


def _subdomain(value: str) -> str:
    if len(value) > 253 or not _SUBDOMAIN.match(value):
        msg = f"{value!r} must be lower-case letters, digits, '-' and '.', at most 253 characters (RFC 1123 subdomain)"
        raise ValueError(msg)
    return value


def _group(value: str) -> str:
    return value if value == "" else _subdomain(value)


def _kind(value: str) -> str:
    if len(value) > 63 or not _KIND.match(value):
        msg = f"{value!r} is not a kind: letters, digits and '-', starting with a letter, at most 63 characters"
        raise ValueError(msg)
    return value


def is_ip_address(value: str) -> bool:
    """Tell whether *value* is an IPv4 or IPv6 address without brackets, zone or port."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value


def _hostname(value: str) -> str:
    if is_ip_address(value):
        msg = f"{value!r} is an IP address; a hostname is wanted"
        raise ValueError(msg)
    if len(value) > 253 or not _HOSTNAME.match(value):
        msg = f"{value!r} is not a lower-case DNS name, optionally starting with '*.'"
        raise ValueError(msg)
    return value


def _precise_hostname(value: str) -> str:
    if value.startswith("*"):
        msg = f"{value!r} must not be a wildcard"
        raise ValueError(msg)
    return _hostname(value)


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if slash and (len(prefix) > 253 or not _SUBDOMAIN.match(prefix)):
        msg = f"label key {value!r} has a prefix that is not a DNS subdomain"
        raise ValueError(msg)
    if len(name) > 63 or not _QUALIFIED.match(name):
        msg = f"label key {value!r} must be letters, digits, '-', '_' and '.', at most 63 characters"
        raise ValueError(msg)
    return value


def _label_value(value: str) -> str:
    if value and (len(value) > 63 or not _QUALIFIED.match(value)):
        msg = f"label value {value!r} must be letters, digits, '-', '_' and '.', at most 63 characters"
        raise ValueError(msg)
    return value


def _header_name(value: str) -> str:
    if not 1 <= len(value) <= 256 or not _HEADER_NAME.match(value):
        msg = f"{value!r} is not a header name of 1 to 256 characters"
        raise ValueError(msg)
    return value


Integer = Annotated[int, Strict()]
Int32 = Annotated[int, Strict(), Field(ge=-(2**31), le=2**31 - 1)]
Boolean = Annotated[bool, Strict()]
PortNumber = Annotated[int, Strict(), Field(ge=1, le=65535)]
RouteWeight = Annotated[int, Strict(), Field(ge=0, le=1_000_000)]
TargetWeight = Annotated[int, Strict(), Field(ge=1, le=1_000_000)]

DnsLabel = Annotated[str, AfterValidator(_dns_label)]
Subdomain = Annotated[str, AfterValidator(_subdomain)]
Group = Annotated[str, AfterValidator(_group)]
Kind = Annotated[str, AfterValidator(_kind)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
Hostname = Annotated[str, AfterValidator(_hostname)]
PreciseHostname = Annotated[str, AfterValidator(_precise_hostname)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Labels = dict[LabelKey, LabelValue]


def first_repeated(values: Iterable[_T]) -> _T | None:
    """Return the first value that was there before, None if all differ."""
    seen: set[_T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
