"""Every error has one form on the wire, and says when to come back where that helps."""

import json
from collections.abc import Iterator

import pytest

from endpoint_picker.domain import errors
from endpoint_picker.domain.errors import EndpointPickerError
from endpoint_picker.extproc.errors import HTTP_ERRORS, error_answer


def leaves(kind: type[EndpointPickerError] = EndpointPickerError) -> Iterator[type[EndpointPickerError]]:
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


def made(kind: type[EndpointPickerError]) -> EndpointPickerError:
    if kind is errors.ModelNotFound:
        return errors.ModelNotFound("m", ("a", "b"))
    if kind is errors.RequestTooLarge:
        return errors.RequestTooLarge("too large", limit_bytes=1)
    if kind is errors.RateLimited:
        return errors.RateLimited("slowly", retry_after_seconds=7.4)
    return kind("message")


@pytest.mark.parametrize("kind", list(leaves()), ids=lambda kind: kind.__name__)
def test_every_leaf_has_an_answer(kind: type[EndpointPickerError]) -> None:
    error = made(kind)
    error.correlation_id = "c"
    answer = error_answer(error)
    body = json.loads(answer.body)["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert (body["message"], answer.correlation_id) == (str(error), "c")
    assert 400 <= answer.status < 600
    assert (dict(answer.headers).get("retry-after") is not None) == (answer.status in (429, 503))


def test_the_table_holds_leaves_only() -> None:
    assert set(HTTP_ERRORS) == set(leaves())


def test_facts_reach_the_answer() -> None:
    assert dict(error_answer(made(errors.RateLimited)).headers) == {"retry-after": "7"}
    body = json.loads(error_answer(errors.InvalidRequest("x", param="messages")).body)
    assert body["error"]["param"] == "messages"
    body = json.loads(error_answer(made(errors.ModelNotFound)).body)
    assert (body["error"]["param"], body["error"]["message"]) == (
        "model",
        "The model `m` does not exist; available models: a, b.",
    )
