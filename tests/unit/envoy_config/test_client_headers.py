"""No spelling of an internal header passes; what clients may send passes in its own spelling."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envoy_config import names
from envoy_config.client_headers import FORGED_HEADERS, early_header_mutation
from inference_api.names import INTERNAL_HEADER_PREFIXES

FORGED = re.compile(FORGED_HEADERS)
SEPARATORS = st.text("-_", min_size=1, max_size=3)
PLAIN = (*names.OBJECTIVE_HEADERS, *names.FAIRNESS_HEADERS, "x-request-id", "x-forwarded-for", "content-length")


@st.composite
def spelled(draw: st.DrawFn, name: str) -> str:
    """*name* with other separators."""
    first, *rest = [part for part in name.split("-") if part]
    return first + "".join(draw(SEPARATORS) + part for part in rest)


@given(st.data(), st.sampled_from(INTERNAL_HEADER_PREFIXES), st.text("abz-_.9", max_size=12))
def test_an_internal_header_is_taken_out_in_every_spelling(data: st.DataObject, prefix: str, rest: str) -> None:
    separated = data.draw(spelled(prefix)) + ("_" if prefix.endswith("-") else "")
    assert FORGED.fullmatch(separated + rest)


@given(st.sampled_from(["x-envoy-", "x_envoy_", "x--envoy_-", "x-inference-gateway-", "x_inference--gateway_"]))
def test_nothing_of_the_data_planes_own_namespace_passes(prefix: str) -> None:
    for name in ("max-retries", "original-dst-host", "profile", "unheard-of"):
        assert FORGED.fullmatch(prefix + name)


@given(st.data(), st.sampled_from(PLAIN))
def test_what_a_client_may_send_passes_in_its_own_spelling_only(data: st.DataObject, name: str) -> None:
    other = data.draw(spelled(name))
    assert (FORGED.fullmatch(other) is None) == (other == name)


@pytest.mark.parametrize(
    "name",
    [
        *("accept", "authorization", "cookie", "host", "te", "user-agent", "traceparent", "session_id", "x-api-key"),
        *("x-envoy", "x-gateway-tenant", "x-forwarded-host", "x-session-id", "x-stainless-os", ":path", ":authority"),
        *("content-type", "content-encoding", "transfer-encoding", "x-model-name", "openai-beta", "x-llm-d"),
    ],
)
def test_other_headers_pass(name: str) -> None:
    assert FORGED.fullmatch(name) is None


def test_the_names_that_the_picker_sets_are_all_covered() -> None:
    set_by_the_picker = (names.ROUTE_HEADER, names.CLUSTER_HEADER, names.DESTINATION_KEY, "x-envoy-max-retries")
    for name in (*set_by_the_picker, names.MODEL_HEADER, names.BASE_MODEL_HEADER, names.PROFILE_METADATA):
        assert FORGED.fullmatch(name)


def test_the_id_of_a_stream_is_set_after_what_a_client_sent_was_taken_out() -> None:
    extension: Any = early_header_mutation()
    first, last = extension["typed_config"]["mutations"]
    assert "remove_on_match" in first
    assert last["append"]["header"]["key"] == names.STREAM_ID_HEADER
    assert FORGED.fullmatch(names.STREAM_ID_HEADER)
