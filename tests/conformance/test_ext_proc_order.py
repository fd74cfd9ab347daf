"""The order of messages that the endpoint picker protocol documents, replayed from transcripts.

Source: GIE proposal 004 and Envoy's ext_proc: headers, then body, then trailers, for requests and then for responses.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from endpoint_picker.extproc.messages import ProcessingRequest, ProcessingResponse
from endpoint_picker.extproc.session import DecisionWanted, ExtProcSession
from endpoint_picker.requestcontrol.exchange import Forward

TRANSCRIPTS = json.loads((Path(__file__).parents[1] / "data" / "ext_proc_order.json").read_text())
FORWARD = Forward("c", "r", "route", "cluster", addresses=("10.0.0.1:80",))


def message_of(line: str, mode: Sequence[int]) -> ProcessingRequest:
    kind, _, data = line.partition(":")
    kind, end = kind.removesuffix("-end"), kind.endswith("-end")
    message = ProcessingRequest()
    match kind:
        case "headers":
            message.request_headers.end_of_stream = end
            message.protocol_config.request_body_mode = mode[0]  # type: ignore[assignment]
            message.protocol_config.response_body_mode = mode[1]  # type: ignore[assignment]
        case "body":
            message.request_body.body, message.request_body.end_of_stream = data.encode(), end
        case "trailers":
            message.request_trailers.SetInParent()
        case "response-headers":
            message.response_headers.end_of_stream = end
        case "response-body":
            message.response_body.body, message.response_body.end_of_stream = data.encode(), end
        case "response-trailers":
            message.response_trailers.SetInParent()
        case _:
            pytest.fail(f"unknown line {line!r}")
    return message


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript["name"])
def test_the_documented_order(transcript: Mapping[str, Any]) -> None:
    session = ExtProcSession(max_body_bytes=1_000)
    answers: list[ProcessingResponse] = []
    for line in transcript["data_plane"]:
        step = session.receive(message_of(line, transcript["mode"]))
        answers += session.forwarded(FORWARD) if isinstance(step, DecisionWanted) else step
    assert [answer.WhichOneof("response") for answer in answers] == transcript["picker"]
    for answer in answers:
        if transcript["mode"][0] == 4 and answer.HasField("request_body"):
            assert answer.request_body.response.body_mutation.HasField("streamed_response")
        if transcript["mode"][1] == 4 and answer.HasField("response_body"):
            assert answer.response_body.response.body_mutation.HasField("streamed_response")
