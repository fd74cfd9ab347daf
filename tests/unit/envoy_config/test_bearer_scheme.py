"""The scheme of a token has no case; anything else of the header stays for authentication to judge."""

from typing import Any

import pytest

from envoy_config.bearer_scheme import SOURCE

luajit21 = pytest.importorskip("lupa.luajit21", reason="Envoy runs LuaJIT; PyPI lupa brings it")


class Handle:
    """What Envoy hands to `envoy_on_request`."""

    def __init__(self, *values: str) -> None:
        self.values = list(values)

    def headers(self) -> "Handle":
        return self

    def get(self, _name: str) -> str | None:
        return ",".join(self.values) if self.values else None

    def getNumValues(self, _name: str) -> int:  # noqa: N802 - Envoy's name
        return len(self.values)

    def replace(self, _name: str, value: str) -> None:
        self.values = [value]


@pytest.mark.parametrize(
    ("sent", "judged"),
    [
        pytest.param(["Bearer key"], ["Bearer key"], id="as-it-should-be"),
        pytest.param(["bearer key"], ["Bearer key"], id="lower-case"),
        pytest.param(["BEARER   key"], ["Bearer key"], id="capitals-and-blanks"),
        pytest.param(["bEaReR KeY one"], ["Bearer KeY one"], id="the-key-keeps-its-case"),
        pytest.param(["bearerkey"], ["bearerkey"], id="no-blank"),
        pytest.param(["bearer\tkey"], ["bearer\tkey"], id="tab"),
        pytest.param(["bearer "], ["bearer "], id="no-key"),
        pytest.param(["basic key"], ["basic key"], id="another-scheme"),
        pytest.param(["bearer a", "bearer b"], ["bearer a", "bearer b"], id="two"),
        pytest.param([], [], id="none"),
    ],
)
def test_scheme(sent: list[str], judged: list[str]) -> None:
    runtime: Any = luajit21.LuaRuntime()
    runtime.execute(SOURCE)
    handle = Handle(*sent)
    runtime.globals().envoy_on_request(handle)
    assert handle.values == judged
