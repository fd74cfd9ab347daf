"""Pages are for this machine, or for whoever has the token; health is for all."""

import logging
import os
from pathlib import Path

import pytest

from endpoint_picker.admin.access import AdminAccess, RotatingToken
from endpoint_picker.config.credentials import read_admin_token
from endpoint_picker.config.settings import SettingsProblem

FIRST, SECOND = "first-token-of-16+", "second-token-of-16+"
PAGES = ["/metrics", "/debug/state", "/", "/unheard-of", "/livez/", "//livez", "/livez/../metrics"]


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1", ""])
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_for_all(path: str, host: str) -> None:
    for access in (AdminAccess("127.0.0.1"), AdminAccess("0.0.0.0", lambda: FIRST)):
        assert access.refusal(path, host=host, authorization="") is None


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        pytest.param("127.0.0.1:9090", True, id="address"),
        pytest.param("127.1.2.3", True, id="another-loopback-address"),
        pytest.param("[::1]:9090", True, id="address-6"),
        pytest.param("LocalHost:1", True, id="name"),
        pytest.param("gateway.internal:9090", True, id="bound-name"),
        pytest.param("localhost.evil.example", False, id="foreign-name-that-begins-so"),
        pytest.param("evil.example:9090", False, id="foreign-name"),
        pytest.param("127.0.0.1.evil.example", False, id="foreign-name-like-an-address"),
        pytest.param("localhost@evil.example", False, id="user-part"),
        pytest.param("10.0.0.1", False, id="foreign-address"),
        pytest.param("0.0.0.0", False, id="any-address"),
        pytest.param("[::1", False, id="half-a-bracket"),
        pytest.param("", False, id="none"),
    ],
)
@pytest.mark.parametrize("path", PAGES)
def test_without_a_token_only_names_of_this_machine_are_taken(path: str, host: str, passes: bool) -> None:
    access = AdminAccess("Gateway.internal")
    refusal = access.refusal(path, host=host, authorization=f"Bearer {FIRST}")
    assert (refusal is None) == passes
    assert refusal is None or refusal.status == 403


@pytest.mark.parametrize(
    ("authorization", "passes"),
    [
        pytest.param(f"Bearer {FIRST}", True, id="token"),
        pytest.param(f"bEARER  {FIRST}", True, id="scheme-has-no-case"),
        pytest.param(FIRST, False, id="no-scheme"),
        pytest.param(f"Basic {FIRST}", False, id="other-scheme"),
        pytest.param(f"Bearer {FIRST[:-1]}", False, id="beginning"),
        pytest.param(f"Bearer {FIRST}+", False, id="more"),
        pytest.param(f"Bearer {FIRST.upper()}", False, id="capitals"),
        pytest.param("Bearer \udc80\xff", False, id="bytes"),
        pytest.param("Bearer ", False, id="empty"),
        pytest.param("", False, id="none"),
    ],
)
@pytest.mark.parametrize("path", PAGES)
def test_with_a_token_nothing_else_counts(path: str, authorization: str, passes: bool) -> None:
    refusal = AdminAccess("127.0.0.1", lambda: FIRST).refusal(path, host="127.0.0.1", authorization=authorization)
    assert (refusal is None) == passes
    assert refusal is None or refusal.status == 401
    assert refusal is None or FIRST not in refusal.reason


def test_a_replaced_file_replaces_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(FIRST)
    token = RotatingToken(str(path), read_admin_token)
    assert token.current() == FIRST
    (tmp_path / "new").write_text(SECOND)
    (tmp_path / "new").rename(path)
    assert token.current() == SECOND


@pytest.mark.parametrize("content", [None, "", "short"], ids=["gone", "empty", "short"])
def test_a_file_that_becomes_unusable_is_no_way_in(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text(FIRST)
    token = RotatingToken(str(path), read_admin_token)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
        os.utime(path, ns=(0, 0))
    with caplog.at_level(logging.ERROR):
        assert [token.current(), token.current()] == [FIRST, FIRST]
    assert len(caplog.records) == 1


def test_an_unusable_file_is_told_of_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsProblem):
        RotatingToken(str(tmp_path / "none"), read_admin_token)
