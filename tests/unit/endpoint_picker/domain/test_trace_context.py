"""traceparent: what is valid is read, anything else counts as absent (W3C Trace Context)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.trace_context import TraceContext, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, 1), id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN, 0), id="not-sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", TraceContext(TRACE, SPAN, 3), id="random-trace-id"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, 1), id="a-later-version"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-more", TraceContext(TRACE, SPAN, 1), id="a-later-version-says-more"),
        pytest.param("", None, id="absent"),
        pytest.param("garbage", None, id="garbage"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", None, id="version-0-says-no-more"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01.more", None, id="more-needs-a-dash"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="forbidden-version"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="trace-of-zeros"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="span-of-zeros"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", None, id="upper-case"),
        pytest.param(f"00-{TRACE}-{SPAN}-1", None, id="short-flags"),
        pytest.param(f" 00-{TRACE}-{SPAN}-01", None, id="blank"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\n", None, id="line-end"),
        pytest.param(f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", None, id="two-headers"),
        pytest.param("00-" + "a" * 1_000_000, None, id="a-megabyte"),
    ],
)
def test_parse(header: str, expected: TraceContext | None) -> None:
    assert parse_traceparent(header) == expected


@given(st.text(max_size=80))
def test_any_text_is_survived(header: str) -> None:
    parse_traceparent(header)


@pytest.mark.parametrize(("flags", "sampled"), [(0, False), (1, True), (2, False), (3, True), (254, False)])
def test_the_lowest_bit_says_sampled(flags: int, sampled: bool) -> None:
    assert TraceContext(TRACE, SPAN, flags).sampled is sampled
