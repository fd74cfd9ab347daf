"""Endpoints are unique by address and sorted by it; merging loses no address, label or host name."""

from hypothesis import given
from hypothesis import strategies as st

from inference_resolution.endpoints import merge_by_address
from inference_resolution.resolved import ResolvedEndpoint

ENDPOINTS = st.lists(
    st.builds(
        ResolvedEndpoint,
        name=st.sampled_from(["a", "b"]),
        namespace=st.just("default"),
        ip=st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"]),
        port=st.integers(min_value=1, max_value=3),
        hostname=st.sampled_from(["", "gpu"]),
        labels=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"])),
    )
)


@given(ENDPOINTS)
def test_merging(endpoints: list[ResolvedEndpoint]) -> None:
    merged = merge_by_address(endpoints)
    assert [(e.ip, e.port) for e in merged] == sorted({(e.ip, e.port) for e in endpoints})
    for endpoint in merged:
        same = [e for e in endpoints if e.address == endpoint.address]
        assert endpoint.name == same[0].name
        assert bool(endpoint.hostname) == any(e.hostname for e in same)
        assert set(endpoint.labels) == {label for e in same for label in e.labels}
        assert same[0].labels.items() <= endpoint.labels.items()
    assert merge_by_address(merged) == merged
