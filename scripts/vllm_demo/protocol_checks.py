"""Requests of the OpenAI SDK through the gateway, compared with what the model server says when asked directly."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import loopback
from gateway import Gateway
from openai import APIStatusError, NotFoundError, OpenAI
from openai.types import CompletionUsage
from report import CheckFailedError, require, require_equal
from servers import CONTEXT_TOKENS, MODEL, ModelServer

ALIASES: Final = {"tiny-alias": MODEL, "not-loaded": "not-loaded"}
"""What the gateway serves besides: another name of the model, and a model that the servers lack."""

_MESSAGES: Final = [
    {"role": "system", "content": "You answer with noise."},
    {"role": "user", "content": "How many requests does the gateway route under load?"},
]
_PROMPT: Final = "12: the picker watches a long prompt"
# The same tokens every time: the likeliest ones, and as many as asked for.
_SAMPLING: Final = {"temperature": 0, "max_tokens": 24, "seed": 7}
_OPTIONS: Final[dict[str, Any]] = {**_SAMPLING, "extra_body": {"ignore_eos": True}}
_CHAT_BODY: Final = {"model": MODEL, "messages": _MESSAGES, **_SAMPLING, "ignore_eos": True}
_COMPLETION_BODY: Final = {"model": MODEL, "prompt": _PROMPT, **_SAMPLING, "ignore_eos": True}
_COUNTED_WITHIN_SECONDS: Final = 10.0
_USAGE_FIELDS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


class ProtocolChecks:
    """Checks of one request each; every one returns a line about what it saw."""

    def __init__(self, gateway: Gateway, servers: tuple[ModelServer, ...]) -> None:
        """Use the official client without retries of its own."""
        self._gateway = gateway
        self._servers = servers
        self._client = OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=120.0)

    def table(self) -> list[tuple[str, Callable[[], str]]]:
        """Return the checks with their names, in the order they should run."""
        return [
            ("models are listed", self.models),
            ("chat", self.chat),
            ("chat, streamed, usage asked for", self.chat_stream_with_usage),
            ("chat, streamed, usage not asked for", self.chat_stream_without_usage),
            ("completion", self.completion),
            ("completion, streamed, usage asked for", self.completion_stream_with_usage),
            ("completion, streamed, usage not asked for", self.completion_stream_without_usage),
            ("usage is exact for prompts of many lengths", self.usage_of_many_lengths),
            ("another name of the model reaches it", self.alias),
            ("unknown model is refused with the known ones", self.unknown_model),
            ("model the server lacks: its own 404 arrives unchanged", self.model_the_server_lacks),
            ("prompt too long: the server's 400 arrives unchanged", self.prompt_too_long),
            ("wrong API for the model is refused", self.wrong_api),
            ("destination header of a client is ignored", self.forged_destination),
            ("the gateway's own count of tokens is exact", self.counted_usage),
        ]

    def models(self) -> str:
        """The served model is in the list."""
        names = sorted(model.id for model in self._client.models.list())
        require(MODEL in names, f"{MODEL} is missing in {names}")
        return ", ".join(names)

    def chat(self) -> str:
        """A whole chat answer has the text and usage of the server's own."""
        expected = self._direct("/v1/chat/completions", _CHAT_BODY)
        answer = self._client.chat.completions.create(model=MODEL, messages=_MESSAGES, **_OPTIONS)
        require_equal(answer.choices[0].message.content, expected["choices"][0]["message"]["content"], "text")
        return _same_usage(answer.usage, expected["usage"])

    def chat_stream_with_usage(self) -> str:
        """A stream that asked for usage ends with exactly one usage event."""
        expected = self._direct("/v1/chat/completions", _CHAT_BODY)
        events = self._chat_stream({"include_usage": True})
        require_equal(_chat_text(events), expected["choices"][0]["message"]["content"], "text")
        return _only_last_is_usage(events, expected["usage"])

    def chat_stream_without_usage(self) -> str:
        """A stream that did not ask for usage sees none of it."""
        expected = self._direct("/v1/chat/completions", _CHAT_BODY)
        events = self._chat_stream(None)
        require_equal(_chat_text(events), expected["choices"][0]["message"]["content"], "text")
        return _no_usage(events)

    def completion(self) -> str:
        """A whole completion has the text and usage of the server's own."""
        expected = self._direct("/v1/completions", _COMPLETION_BODY)
        answer = self._client.completions.create(model=MODEL, prompt=_PROMPT, **_OPTIONS)
        require_equal(answer.choices[0].text, expected["choices"][0]["text"], "text")
        return _same_usage(answer.usage, expected["usage"])

    def completion_stream_with_usage(self) -> str:
        """The same as for chat."""
        expected = self._direct("/v1/completions", _COMPLETION_BODY)
        events = self._completion_stream({"include_usage": True})
        require_equal(_completion_text(events), expected["choices"][0]["text"], "text")
        return _only_last_is_usage(events, expected["usage"])

    def completion_stream_without_usage(self) -> str:
        """The same as for chat."""
        expected = self._direct("/v1/completions", _COMPLETION_BODY)
        events = self._completion_stream(None)
        require_equal(_completion_text(events), expected["choices"][0]["text"], "text")
        return _no_usage(events)

    def usage_of_many_lengths(self) -> str:
        """Usage equals the server's for short and long prompts, whole and streamed."""
        prompts = ["word " * count for count in (1, 7, 31, 32, 33, 200, 480)]
        for prompt in prompts:
            messages = [{"role": "user", "content": prompt}]
            expected = self._direct("/v1/chat/completions", {**_CHAT_BODY, "messages": messages})
            whole = self._client.chat.completions.create(model=MODEL, messages=messages, **_OPTIONS)
            _same_usage(whole.usage, expected["usage"])
            stream = self._client.chat.completions.create(
                model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}, **_OPTIONS
            )
            _only_last_is_usage(list(stream), expected["usage"])
        return f"{2 * len(prompts)} requests"

    def alias(self) -> str:
        """The server is asked for the model by the name it knows; it would answer 404 to the client's name."""
        expected = self._direct("/v1/chat/completions", _CHAT_BODY)
        answer = self._client.chat.completions.create(model="tiny-alias", messages=_MESSAGES, **_OPTIONS)
        return f"{_same_usage(answer.usage, expected['usage'])}; the answer names {answer.model}"

    def unknown_model(self) -> str:
        """404 in OpenAI's form with the models there are."""
        try:
            self._client.chat.completions.create(model="no-such-model", messages=_MESSAGES, **_OPTIONS)
        except NotFoundError as error:
            message = _error_object(json.loads(error.response.content))["message"]
            require("no-such-model" in message and MODEL in message, f"the message does not help: {message}")
            return f"404 {message}"
        msg = "the request was accepted"
        raise CheckFailedError(msg)

    def model_the_server_lacks(self) -> str:
        """The gateway knows the model, the server does not: the client gets the server's own answer."""
        return self._same_refusal("/v1/chat/completions", {**_CHAT_BODY, "model": "not-loaded"}, 404)

    def prompt_too_long(self) -> str:
        """An error only the server can find reaches the client as it is."""
        return self._same_refusal("/v1/completions", {**_COMPLETION_BODY, "prompt": "word " * CONTEXT_TOKENS}, 400)

    def wrong_api(self) -> str:
        """Embeddings of a model that only generates: a refusal in OpenAI's form, or the server's own."""
        body = {"model": MODEL, "input": "text"}
        direct = loopback.post(self._servers[0].port, "/v1/embeddings", body)
        try:
            self._client.embeddings.create(**body)
        except APIStatusError as error:
            require(400 <= error.status_code < 500, f"expected a 4xx, found {error.status_code}")
            content = json.loads(error.response.content)
            if content != direct.json:
                _error_object(content)
            return f"{error.status_code} {json.dumps(content)}; the server itself says {direct.status}"
        msg = "the request was accepted"
        raise CheckFailedError(msg)

    def forged_destination(self) -> str:
        """A client cannot choose the endpoint: with a dead one in the header the answer is as ever."""
        headers = {"x-gateway-destination-endpoint": f"{loopback.HOST}:1"}
        expected = self._direct("/v1/chat/completions", _CHAT_BODY)
        answer = self._client.chat.completions.create(
            model=MODEL, messages=_MESSAGES, extra_headers=headers, **_OPTIONS
        )
        return _same_usage(answer.usage, expected["usage"])

    def counted_usage(self) -> str:
        """The gateway counts the tokens of whole answers and of streams, whether the client sees usage or not."""
        before = self._counted_tokens()
        expected = self._direct("/v1/chat/completions", _CHAT_BODY)["usage"]
        ask = {"model": "tiny-alias", "messages": _MESSAGES, **_OPTIONS}
        self._client.chat.completions.create(**ask)
        list(self._client.chat.completions.create(**ask, stream=True))
        list(self._client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
        due = (3 * expected["prompt_tokens"], 3 * expected["completion_tokens"])
        deadline = time.monotonic() + _COUNTED_WITHIN_SECONDS
        while True:
            prompt, completion = (now - then for now, then in zip(self._counted_tokens(), before, strict=True))
            if (prompt, completion) == due:
                return f"{prompt:.0f} + {completion:.0f} tokens of 3 requests"
            require(time.monotonic() < deadline, f"expected {due}, counted {(prompt, completion)}")
            time.sleep(0.2)

    def _counted_tokens(self) -> tuple[float, float]:
        """Return prompt and completion tokens counted so far under the alias, which no other check uses near this."""
        label = 'model_name="tiny-alias"'
        return (
            self._gateway.metric("inference_objective_input_tokens_sum", label),
            self._gateway.metric("inference_objective_output_tokens_sum", label),
        )

    def _direct(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask every server without the gateway; they must agree on text and usage."""
        answers = [loopback.post(server.port, path, body) for server in self._servers]
        for answer in answers:
            require_equal(answer.status, 200, "status of the server's own answer")
        first, *others = (answer.json for answer in answers)
        for other in others:
            require_equal(_essence(other), _essence(first), "answer of another server")
        return dict(first)

    def _same_refusal(self, path: str, body: dict[str, Any], status: int) -> str:
        direct = loopback.post(self._servers[0].port, path, body)
        require_equal(direct.status, status, "status of the server's own answer")
        through = loopback.post(self._gateway.port, path, body)
        require_equal(through.status, status, "status")
        require_equal(through.body, direct.body, "body")
        return f"{status} {_error_object(through.json)['message'][:80]}"

    def _chat_stream(self, options: dict[str, bool] | None) -> list[Any]:
        extra = {"stream_options": options} if options else {}
        return list(
            self._client.chat.completions.create(model=MODEL, messages=_MESSAGES, stream=True, **extra, **_OPTIONS)
        )

    def _completion_stream(self, options: dict[str, bool] | None) -> list[Any]:
        extra = {"stream_options": options} if options else {}
        return list(self._client.completions.create(model=MODEL, prompt=_PROMPT, stream=True, **extra, **_OPTIONS))


def _essence(answer: dict[str, Any]) -> tuple[Any, Any]:
    choice = answer["choices"][0]
    return choice.get("text", choice.get("message", {}).get("content")), answer["usage"]


def _chat_text(events: Iterable[Any]) -> str:
    return "".join(event.choices[0].delta.content or "" for event in events if event.choices)


def _completion_text(events: Iterable[Any]) -> str:
    return "".join(event.choices[0].text for event in events if event.choices)


def _same_usage(found: CompletionUsage | None, expected: dict[str, Any]) -> str:
    require(found is not None, "there is no usage")
    counts = {name: getattr(found, name) for name in _USAGE_FIELDS}
    require_equal(counts, {name: expected[name] for name in _USAGE_FIELDS}, "usage")
    return f"{counts['prompt_tokens']} + {counts['completion_tokens']} tokens"


def _only_last_is_usage(events: list[Any], expected: dict[str, Any]) -> str:
    require([bool(event.choices) for event in events[:-1]].count(False) == 0, "an early event has empty choices")
    require(events and not events[-1].choices, "the last event is not the one of usage")
    require(all(event.usage is None for event in events[:-1]), "an early event has usage")
    return f"{_same_usage(events[-1].usage, expected)} in {len(events)} events"


def _no_usage(events: list[Any]) -> str:
    require(events, "there are no events")
    require(all(event.choices for event in events), "an event has empty choices")
    require(all(event.usage is None for event in events), "an event has usage")
    require_equal(events[-1].choices[0].finish_reason, "length", "finish reason")
    return f"{len(events)} events"


def _error_object(content: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the other side said
    error = content.get("error") if isinstance(content, dict) else None
    require(isinstance(error, dict) and error.get("message"), f"not an OpenAI error: {content}")
    return dict(error)
