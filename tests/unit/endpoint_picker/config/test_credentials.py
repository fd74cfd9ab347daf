"""Secrets come from files, one printable token per line, and no message repeats one."""

from pathlib import Path

import pytest

from endpoint_picker.config.credentials import read_admin_token, read_api_keys
from endpoint_picker.config.settings import SettingsProblem

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "keys"),
    [("a\n\n b \na\n", ("a", "b")), ("\ufeffa".removeprefix("\ufeff"), ("a",))],
    ids=["once-each-and-stripped", "without-line-end"],
)
def test_keys(tmp_path: Path, text: str, keys: tuple[str, ...]) -> None:
    (tmp_path / "k").write_text(text)
    assert read_api_keys(str(tmp_path / "k")) == keys
    assert read_api_keys("") == ()


@pytest.mark.parametrize("content", [b"", b"\n", b"a b\n", "é".encode(), b"\xff", b"a\x00b"])
def test_unusable_keys_are_not_repeated(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(SettingsProblem) as raised:
        read_api_keys(str(tmp_path / "k"))
    assert "a b" not in str(raised.value)


def test_keys_that_are_not_there() -> None:
    with pytest.raises(SettingsProblem):
        read_api_keys("/none")


def test_the_admin_token(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(f"\n  {TOKEN} \n")
    assert read_admin_token(str(tmp_path / "t")) == TOKEN
    assert read_admin_token("") == ""


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param(TOKEN[1:], id="short"),
        pytest.param(f"{TOKEN}\n{TOKEN}x\n", id="two"),
        pytest.param(f"{TOKEN} {TOKEN}", id="blank-within"),
    ],
)
def test_an_unusable_admin_token_is_not_repeated(tmp_path: Path, content: str) -> None:
    (tmp_path / "t").write_text(content)
    with pytest.raises(SettingsProblem, match="admin_token_file") as raised:
        read_admin_token(str(tmp_path / "t"))
    assert TOKEN[1:] not in str(raised.value)
