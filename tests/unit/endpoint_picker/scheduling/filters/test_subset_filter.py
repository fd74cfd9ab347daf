"""subset-filter: the data plane's restriction holds, by address and port or by bare IP."""

import pytest

from endpoint_picker.domain.request import InferenceRequest
from endpoint_picker.scheduling.filters.subset import SubsetFilter
from endpoint_picker.scheduling.interfaces import Filter
from unit.endpoint_picker.scheduling.building import endpoint

FILTER: Filter = SubsetFilter()
ADDRESSES = ["10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.11:8000", "[fd00::1]:8000"]


@pytest.mark.parametrize(
    ("subset", "kept"),
    [
        pytest.param(None, ADDRESSES, id="no-restriction"),
        pytest.param([], [], id="empty-subset-leaves-none"),
        pytest.param(["10.0.0.1:8001"], ["10.0.0.1:8001"], id="port-is-honoured"),
        pytest.param(["10.0.0.1"], ["10.0.0.1:8000", "10.0.0.1:8001"], id="bare-ip-is-every-port"),
        pytest.param(["[fd00::1]:8000"], ["[fd00::1]:8000"], id="ipv6-with-port"),
        pytest.param(["fd00::1"], ["[fd00::1]:8000"], id="bare-ipv6"),
        pytest.param(["[fd00::1]"], ["[fd00::1]:8000"], id="bracketed-ipv6"),
        pytest.param(["10.9.9.9:8000"], [], id="stranger"),
        pytest.param(["10.0.0.11", "10.0.0.1:8000"], ["10.0.0.1:8000", "10.0.0.11:8000"], id="order-of-candidates"),
    ],
)
def test_filter(subset: list[str] | None, kept: list[str]) -> None:
    request = InferenceRequest(subset=None if subset is None else frozenset(subset))
    assert [e.address for e in FILTER.filter(request, [endpoint(a) for a in ADDRESSES])] == kept
