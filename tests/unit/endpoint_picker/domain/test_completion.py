"""A completed request knows whether it failed and how fast its tokens came; the client's leaving is no failure."""

from dataclasses import replace
from typing import Any

import pytest

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.usage import Usage


@pytest.mark.parametrize(
    ("completed", "failed"),
    [
        pytest.param(CompletedRequest(status=200), False, id="ok"),
        pytest.param(CompletedRequest(status=404), False, id="the-callers-mistake"),
        pytest.param(CompletedRequest(status=503), True, id="server-error"),
        pytest.param(CompletedRequest(status=0), True, id="no-answer"),
        pytest.param(CompletedRequest(status=200, flags="UC"), True, id="cut-after-headers"),
        pytest.param(CompletedRequest(status=200, flags="DC,UT"), True, id="one-of-several-flags"),
        pytest.param(CompletedRequest(status=0, flags="DC", client_gone=True), False, id="client-gone"),
    ],
)
def test_failed(completed: CompletedRequest, failed: bool) -> None:
    assert completed.failed is failed


@pytest.mark.parametrize(
    ("streaming", "body_seconds", "tokens", "expected"),
    [
        pytest.param(True, 2.0, 11, 0.2, id="stream"),
        pytest.param(True, 2.0, 1, None, id="one-token-has-no-interval"),
        pytest.param(True, 2.0, None, None, id="tokens-unknown"),
        pytest.param(True, None, 11, None, id="no-body"),
        pytest.param(False, 2.0, 11, None, id="not-a-stream"),
        pytest.param(None, 2.0, 11, None, id="not-known-to-be-a-stream"),
    ],
)
def test_time_per_output_token(
    streaming: bool | None, body_seconds: float | None, tokens: int | None, expected: float | None
) -> None:
    completed = CompletedRequest(streaming=streaming, body_seconds=body_seconds, usage=Usage(completion_tokens=tokens))
    assert completed.time_per_output_token_seconds == expected


@pytest.mark.parametrize(
    ("attempt", "failed"),
    [
        pytest.param(Attempt("r", "a", live=True), False, id="live"),
        pytest.param(Attempt("r", "a", None, "UF"), True, id="no-answer"),
        pytest.param(Attempt("r", "a"), False, id="client-left-before-the-answer"),
        pytest.param(Attempt("r", "a", 502), True, id="server-error"),
        pytest.param(Attempt("r", "a", 400), False, id="answered"),
    ],
)
def test_attempt_failed(attempt: Attempt, failed: bool) -> None:
    assert attempt.failed is failed


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({}, True, id="answered"),
        pytest.param({"status": 404}, True, id="the-client-erred"),
        pytest.param({"flags": "DC", "client_gone": True}, True, id="the-client-left-in-the-middle"),
        pytest.param({"flags": "DR,DC"}, True, id="both-flags-of-the-client"),
        pytest.param({"address": ""}, False, id="nobody-answered"),
        pytest.param({"status": 0}, False, id="no-status"),
        pytest.param({"status": 429}, False, id="429-is-reported-by-itself"),
        pytest.param({"status": 503}, False, id="503-is-reported-by-itself"),
        pytest.param({"flags": "UPE"}, False, id="broken-is-reported-by-itself"),
        pytest.param({"flags": "DC,UC"}, False, id="broken-while-the-client-left"),
    ],
)
def test_the_end_of_a_request_tells_of_the_attempt_that_answered_it(changes: dict[str, Any], told: bool) -> None:
    request = CompletedRequest(
        request_id="r", address="10.0.0.1:80", status=200, ttft_seconds=0.2, duration_seconds=1.0
    )
    attempt = replace(request, **changes).answered_attempt
    assert (attempt is not None) == told
    if attempt is not None:
        assert (attempt.request_id, attempt.address, attempt.started, attempt.failed) == (
            "r",
            "10.0.0.1:80",
            True,
            False,
        )
