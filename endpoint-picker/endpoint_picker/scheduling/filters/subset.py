"""Keep the endpoints that the data plane restricts the choice to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class SubsetFilter:
    """Keep the endpoints named by the request's subset: ``ip:port`` names one, a bare IP all its ports.

    Without a subset all stay; an empty subset leaves none.

    Source: subset hint of the endpoint picker protocol, Gateway API Inference Extension.
    """

    plugin_type: ClassVar[str] = "subset-filter"

    def filter(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Return the endpoints in the subset, in their order."""
        subset = request.subset
        if subset is None:
            return list(endpoints)
        return [endpoint for endpoint in endpoints if _names(endpoint.address) & subset]


def _names(address: str) -> set[str]:
    """Return every form that a subset may name *address* by; an IPv6 address with and without brackets."""
    ip = address.rpartition(":")[0]
    return {address, ip, ip.strip("[]")}
