"""Settings: command line over environment over file over default; everything that is wrong is said at once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint_picker.config.settings import (
    API_VERSION,
    PickerSettings,
    SettingsProblem,
    file_key,
    parse_host_port,
    read_settings,
)
from envoy_config.settings import UsageSource

NEEDED = ["-f", "m.yaml", "--envoy-dir", "/run/gw"]


def settings_file(folder: Path, **values: Any) -> str:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": API_VERSION, "kind": "EndpointPickerSettings", **values}))
    return str(path)


def problems(*arguments: str) -> tuple[str, ...]:
    with pytest.raises(SettingsProblem) as raised:
        read_settings(arguments)
    return raised.value.problems


def test_defaults() -> None:
    settings = read_settings(NEEDED)
    assert (settings.manifest, settings.envoy_dir) == (["m.yaml"], "/run/gw")
    assert (settings.usage, settings.hold_headers, settings.admin) == (UsageSource.NATIVE, True, "127.0.0.1:9090")


def test_each_place_goes_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settings_file(tmp_path, maxConnections=1, drainSeconds=1, scrapeIdleSeconds=1.5, logFormat="json")
    monkeypatch.setenv("IGW_MAX_CONNECTIONS", "2")
    monkeypatch.setenv("IGW_DRAIN_SECONDS", "2")
    settings = read_settings([*NEEDED, "--config", path, "--max-connections", "3"])
    assert (settings.max_connections, settings.drain_seconds, settings.scrape_idle_seconds) == (3, 2.0, 1.5)
    assert (settings.log_format, settings.log_level) == ("json", "info")


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settings_file(tmp_path, manifest=["a", "b"], envoyDir="/x")
    monkeypatch.setenv("IGW_CONFIG", path)
    assert read_settings([]).manifest == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        pytest.param(["-f", "a", "-f", "b"], {}, ["a", "b"], id="short"),
        pytest.param(["--manifest", "a"], {}, ["a"], id="long"),
        pytest.param([], {"IGW_MANIFEST": "a,b"}, ["a", "b"], id="environment"),
        pytest.param(["-f", "a"], {"F": "x", "MANIFEST": "y", "f": "z"}, ["a"], id="not-a-variable-of-ours"),
    ],
)
def test_manifests(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], expected: list[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert read_settings([*arguments, "--envoy-dir", "/x"]).manifest == expected


def test_switches() -> None:
    settings = read_settings([*NEEDED, "--no-hold-headers", "--usage", "lua"])
    assert (settings.hold_headers, settings.usage) == (False, UsageSource.LUA)


def test_every_problem_at_once(tmp_path: Path) -> None:
    path = settings_file(tmp_path, bogus=1, another=2, drainSeconds="soon", maxConnections=0)
    found = problems("--config", path, "--max-body-bytes", "5")
    assert sorted(problem.partition(":")[0] for problem in found if path not in problem) == [
        "drain_seconds",
        "max_body_bytes",
        "max_connections",
    ]
    assert [problem for problem in found if path in problem] == [
        f"{path}: another: unknown setting",
        f"{path}: bogus: unknown setting",
    ]


def test_what_no_single_value_shows() -> None:
    found = problems("--listen", "localhost:80", "--admin", "9090", "--grpc-tls-cert-file", "c", "--envoy-dir", "run")
    assert sorted(problem.partition(":")[0] for problem in found) == [
        "admin",
        "envoy_dir",
        "grpc_tls_cert_file and grpc_tls_key_file go together",
        "listen",
        "manifest",
    ]


def test_a_folder_too_long_for_sockets() -> None:
    assert problems("-f", "m", "--envoy-dir", "/" + "x" * 80) == (
        "envoy_dir: longer than 80 bytes, too long for a Unix socket in it",
    )


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "x"])
def test_seconds_are_finite_and_positive(value: str) -> None:
    (problem,) = problems(*NEEDED, f"--stream-idle-timeout-seconds={value}")
    assert problem.startswith("stream_idle_timeout_seconds: ")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: [", id="no-yaml"),
        pytest.param("[]", id="no-mapping"),
        pytest.param("apiVersion: other\nkind: EndpointPickerSettings", id="other-version"),
        pytest.param(f"apiVersion: {API_VERSION}\nkind: Other", id="other-kind"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    assert problems(*NEEDED, "--config", str(path))[0].startswith(f"{path}: ")


def test_a_file_that_is_not_there() -> None:
    assert problems(*NEEDED, "--config", "/none.yaml")[0].startswith("/none.yaml: ")


def test_a_file_does_not_name_another(tmp_path: Path) -> None:
    path = settings_file(tmp_path, config="other.yaml")
    assert problems(*NEEDED, "--config", path) == (f"{path}: config: unknown setting",)


def test_an_unknown_argument_stops() -> None:
    with pytest.raises(SystemExit):
        read_settings([*NEEDED, "--bogus"])


def test_keys_of_the_file_are_camel_case() -> None:
    assert file_key("max_body_bytes") == "maxBodyBytes"
    assert len({file_key(name) for name in PickerSettings.model_fields}) == len(PickerSettings.model_fields)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:0", "::1", 0), (":8080", "127.0.0.1", 8080), ("h:65535", "h", 65535)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    parsed = parse_host_port(text)
    assert (parsed.host, parsed.port) == (host, port)


@pytest.mark.parametrize("text", ["", "80", "h:", "h:x", "h:65536", "::1:80", "h:-1", "h:\u00b2"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_host_port(text)


@pytest.mark.parametrize(
    ("admin", "token", "refused"),
    [
        pytest.param("127.0.0.1:9090", "", False, id="loopback"),
        pytest.param("127.9.9.9:9090", "", False, id="all-of-loopback"),
        pytest.param("[::1]:9090", "", False, id="loopback-6"),
        pytest.param("localhost:9090", "", False, id="localhost"),
        pytest.param("0.0.0.0:9090", "", True, id="everywhere"),
        pytest.param("[::]:9090", "", True, id="everywhere-6"),
        pytest.param("10.0.0.1:9090", "", True, id="an-address"),
        pytest.param("localhost.example:9090", "", True, id="a-name"),
        pytest.param("0.0.0.0:9090", "token", False, id="everywhere-with-token"),
    ],
)
def test_pages_beyond_this_machine_need_a_token(admin: str, token: str, refused: bool) -> None:
    arguments = [*NEEDED, "--admin", admin, "--admin-token-file", token]
    if refused:
        (problem,) = problems(*arguments)
        assert problem.startswith(f"admin: {admin} can be reached from other machines; give admin_token_file")
    else:
        assert read_settings(arguments).admin == admin
