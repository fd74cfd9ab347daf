"""An audit says what a source said; where none answered it says that, and never that nothing is wrong."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit_dependencies.py"
ADVISORY = {
    "id": "PYSEC-1",
    "aliases": ["CVE-1"],
    "summary": "bad",
    "affected": [
        {
            "package": {"name": "flawed", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


class Source(BaseHTTPRequestHandler):
    """Answers as the OSV interface does: by package, with advisories or an empty object."""

    asked: list[tuple[str, str]]

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = query["package"]["name"]
        self.asked.append((name, query["version"]))
        failing = name == "broken"
        answer = {"vulns": [ADVISORY]} if name == "flawed" else {}
        body = b"<html>" if failing else json.dumps(answer).encode()
        self.send_response(503 if failing else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def source() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    handler = type("Asked", (Source,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", handler.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(folder: Path, url: str, *names: str, ignore: str = "") -> tuple[int, list[str]]:
    pins = folder / "pins.txt"
    pins.write_text("".join(f"{name}==1.0 \\\n    --hash=sha256:{'0' * 64}\n    # via x\n" for name in names))
    arguments = ["--source", "osv", "--osv-url", url, "--pins", str(pins), "--timeout", "30"]
    arguments += ["--ignore", ignore] if ignore else []
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_source_that_knows_nothing_against_any_package(
    source: tuple[str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    url, asked = source
    assert audit(tmp_path, url, "good", "fine") == (0, ["audit: no known vulnerabilities in 2 packages (osv)"])
    assert sorted(asked) == [("fine", "1.0"), ("good", "1.0")]


def test_findings_are_printed_with_the_version_that_mends_them(
    source: tuple[str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    url, _ = source
    finding = "flawed 1.0: PYSEC-1 (CVE-1), fixed in 1.1"
    assert audit(tmp_path, url, "good", "flawed") == (1, [finding, "audit: 1 known vulnerabilities (osv)"])
    assert audit(tmp_path, url, "flawed", ignore="CVE-1")[0] == 0


@pytest.mark.parametrize("names", [("good",), ("good", "flawed")])
def test_a_source_that_cannot_be_reached_is_no_clean_bill(names: tuple[str, ...], tmp_path: Path) -> None:
    code, lines = audit(tmp_path, "http://127.0.0.1:1/v1/query", *names)
    assert code == 2
    assert lines == [
        f"audit: NO VULNERABILITY SOURCE ANSWERED, nothing is known of {len(names)} packages (osv: cannot be reached)"
    ]


def test_a_source_that_fails_is_no_clean_bill(source: tuple[str, list[tuple[str, str]]], tmp_path: Path) -> None:
    url, _ = source
    code, (line,) = audit(tmp_path, url, "good", "broken")
    assert code == 2
    assert line.startswith("audit: NO VULNERABILITY SOURCE ANSWERED, nothing is known of 2 packages (osv: ")
