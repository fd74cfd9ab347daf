"""``--pool NAME=URL,URL…``: http and https servers by host name or IP, nothing but scheme, host and port."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igw.errors import BadInput
from igw.pool_flag import PoolFlag, ServerUrl, parse_pool_flag, parse_pool_flags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("m=http://127.0.0.1:8000", PoolFlag("m", (ServerUrl("http", "127.0.0.1", 8000),)), id="one-ip"),
        pytest.param(
            "m=http://a:1,http://b:2",
            PoolFlag("m", (ServerUrl("http", "a", 1), ServerUrl("http", "b", 2))),
            id="two-hosts",
        ),
        pytest.param("m=http://gpu.lan", PoolFlag("m", (ServerUrl("http", "gpu.lan", 80),)), id="default-http-port"),
        pytest.param("m=https://x.org", PoolFlag("m", (ServerUrl("https", "x.org", 443),)), id="default-https-port"),
        pytest.param("m=http://[::1]:8000", PoolFlag("m", (ServerUrl("http", "::1", 8000),)), id="ipv6"),
        pytest.param("m=http://x:1/", PoolFlag("m", (ServerUrl("http", "x", 1),)), id="root-path"),
        pytest.param(
            "m= http://x:1 , http://y:1",
            PoolFlag("m", (ServerUrl("http", "x", 1), ServerUrl("http", "y", 1))),
            id="spaces",
        ),
        pytest.param(
            "Qwen/Qwen2.5-7B=http://x:1", PoolFlag("Qwen/Qwen2.5-7B", (ServerUrl("http", "x", 1),)), id="slash-in-name"
        ),
        pytest.param("m=HTTP://GPU.lan.:1", PoolFlag("m", (ServerUrl("http", "gpu.lan", 1),)), id="normalised"),
        pytest.param("m=http://my_llm:1", PoolFlag("m", (ServerUrl("http", "my_llm", 1),)), id="underscore"),
    ],
)
def test_accepted(text: str, expected: PoolFlag) -> None:
    assert parse_pool_flag(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "expected NAME=URL", id="empty"),
        pytest.param("http://127.0.0.1:8000", "expected NAME=URL", id="no-name"),
        pytest.param("=http://x:1", "expected NAME=URL", id="empty-name"),
        pytest.param("http://x:1/?a=b", "expected NAME=URL", id="query-taken-for-name"),
        pytest.param("m=", "expected http://HOST:PORT", id="no-url"),
        pytest.param("m=http://x:1,", "expected http://HOST:PORT", id="trailing-comma"),
        pytest.param("m=x:8000", "expected http://HOST:PORT", id="no-scheme"),
        pytest.param("m=ftp://x", "expected http://HOST:PORT", id="other-scheme"),
        pytest.param("m=http://", "expected http://HOST:PORT", id="no-host"),
        pytest.param("m=http://x:1/v1", "must have no path", id="path"),
        pytest.param("m=http://x:1?weight=2", "query", id="query"),
        pytest.param("m=http://x:1?", "query", id="empty-query"),
        pytest.param("m=http://x:1#f", "query or fragment", id="fragment"),
        pytest.param("m=http://u:p@x:1", "user name or password", id="user"),
        pytest.param("m=http://x:0", "1 to 65535", id="port-0"),
        pytest.param("m=http://x:70000", "not a URL", id="port-too-big"),
        pytest.param("m=http://x:http", "not a URL", id="port-word"),
        pytest.param("m=http://[::1:8000", "not a URL", id="open-bracket"),
        pytest.param("m=http://300.1.1.1:80", "neither a host name", id="bad-ip"),
        pytest.param("m=http://-x:80", "neither a host name", id="bad-host"),
        pytest.param("m=http://a b:80", "neither a host name", id="space-in-host"),
        pytest.param("m=http://x:1,https://x:2", "all be http or all be https", id="mixed-schemes"),
        pytest.param("m=http://x:1,http://X:1/", "listed twice", id="same-server"),
        pytest.param("m" * 300 + "=http://x:1", "at most 256", id="long-name"),
        pytest.param("a\nb=http://x:1", "printable", id="control-character"),
    ],
)
def test_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=r"^--pool ") as caught:
        parse_pool_flag(text)
    assert said in str(caught.value)


def test_a_password_is_not_needed_to_see_what_is_wrong() -> None:
    with pytest.raises(BadInput) as caught:
        parse_pool_flag("m=http://user:hunter2@x:1")
    assert "hunter2" not in str(caught.value)


def test_one_name_in_two_flags_is_refused() -> None:
    with pytest.raises(BadInput, match="given twice"):
        parse_pool_flags(["m=http://x:1", "m=http://y:1"])


@given(st.text(max_size=60))
def test_anything_parses_or_is_refused(text: str) -> None:
    try:
        flag = parse_pool_flag("m=" + text)
    except BadInput:
        return
    assert parse_pool_flag(f"m={','.join(map(str, flag.servers))}") == flag
