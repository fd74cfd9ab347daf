"""A completed request knows whether it failed and how fast its tokens came; the client's leaving is no failure."""

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
