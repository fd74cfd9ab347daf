"""A completed request knows whether it failed and how fast its tokens came; the client's leaving is no failure."""

from dataclasses import replace
from typing import Any

import pytest

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.completion import AttemptVerdict as V
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
    ("attempt", "verdict", "passed_on"),
    [
        pytest.param(Attempt("r", "a", 200), V.ANSWERED, False, id="answered"),
        pytest.param(Attempt("r", "a", 200, started=True), V.ANSWERED, False, id="the-client-left-in-the-middle"),
        pytest.param(Attempt("r", "a", 400), V.ANSWERED, False, id="the-callers-mistake"),
        pytest.param(Attempt("r", "a"), V.NOTHING, False, id="client-left-before-the-answer"),
        pytest.param(Attempt("r", "a", live=True), V.NOTHING, False, id="live"),
        pytest.param(Attempt("r", "a", live=True, started=True), V.ANSWERED, False, id="live-and-answering"),
        pytest.param(Attempt("r", "a", 502, started=True), V.FAILED, True, id="server-error"),
        pytest.param(Attempt("r", "a", 503), V.FAILED, True, id="unavailable"),
        pytest.param(Attempt("r", "a", 503, retry_after_seconds=2.0), V.OVERLOADED, True, id="unavailable-for-a-time"),
        pytest.param(Attempt("r", "a", 500, retry_after_seconds=2.0), V.FAILED, True, id="broken-for-a-time"),
        pytest.param(Attempt("r", "a", 429, started=True), V.OVERLOADED, True, id="too-many-requests"),
        pytest.param(Attempt("r", "a", None, "UF"), V.FAILED, True, id="no-connection"),
        pytest.param(Attempt("r", "a", None, "URX,SI"), V.FAILED, True, id="silence"),
        pytest.param(Attempt("r", "a", None, "UT"), V.FAILED, True, id="timeout-before-the-first-byte"),
        pytest.param(Attempt("r", "a", None, "SI", started=True), V.FAILED, True, id="silence-after-comments"),
        pytest.param(Attempt("r", "a", None, "UT", started=True), V.FAILED, True, id="timeout-after-comments"),
        pytest.param(Attempt("r", "a", 200, "UT", started=True), V.NOTHING, False, id="timeout-of-a-running-answer"),
        pytest.param(Attempt("r", "a", 200, "UPE", started=True), V.FAILED, False, id="cut-in-the-middle"),
        pytest.param(Attempt("r", "a", 200, "SI", started=True), V.FAILED, False, id="stalled-in-the-middle"),
        pytest.param(Attempt("r", "a", None, "OM"), V.NOTHING, False, id="the-data-plane-is-overloaded"),
        pytest.param(Attempt("r", "a", None, "LR"), V.NOTHING, False, id="the-data-plane-reset-it"),
    ],
)
def test_what_an_attempt_says_of_its_endpoint(attempt: Attempt, verdict: V, passed_on: bool) -> None:
    assert (attempt.verdict, attempt.failed, attempt.passed_on) == (verdict, verdict is V.FAILED, passed_on)


@pytest.mark.parametrize(
    ("attempt", "refused", "timed_out"),
    [
        pytest.param(Attempt("r", "a", None, "URX,UF"), True, False, id="no-connection"),
        pytest.param(Attempt("r", "a", None, "SI"), False, True, id="silence"),
        pytest.param(Attempt("r", "a", None, "SI", started=True), False, True, id="silence-after-comments"),
        pytest.param(Attempt("r", "a", 200, "SI", started=True), False, False, id="silence-in-the-middle"),
        pytest.param(Attempt("r", "a", None, "UPE"), False, False, id="garbage"),
    ],
)
def test_how_an_attempt_failed(attempt: Attempt, refused: bool, timed_out: bool) -> None:
    assert (attempt.refused, attempt.timed_out) == (refused, timed_out)


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
