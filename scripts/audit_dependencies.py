"""Ask a vulnerability source about the pinned dependencies: ``make audit``.

    0  a source knew every package and nothing against any
    1  vulnerabilities were found
    2  nothing can be said: no source could be reached, or none knew all packages

An audit that could not ask never looks like one that found nothing. Sources are asked in turn until one has answered
for every package.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from packaging.markers import Marker

ROOT: Final = Path(__file__).parents[1]
PINS: Final = tuple(ROOT / "requirements" / name for name in ("image.txt", "standalone.txt", "otel.txt", "build.txt"))
SOURCES: Final = ("osv", "pypi")
CLEAN: Final = 0
FOUND: Final = 1
UNKNOWN: Final = 2
_SECONDS: Final = 300
_LONGEST_REASON: Final = 200
_UNREACHABLE: Final = (
    "NameResolutionError",
    "ConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "Max retries exceeded",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source said.

    Attributes:
        source: Its name.
        audited: Packages it knows.
        vulnerabilities: One line for each.
        reason: Why it said nothing, or nothing of some packages; empty where it knew all.
    """

    source: str
    audited: frozenset[str] = frozenset()
    vulnerabilities: tuple[str, ...] = ()
    reason: str = ""


@dataclass(slots=True)
class Verdict:
    """What all answers together say of *pinned* packages."""

    pinned: frozenset[str]
    answers: list[Answer] = field(default_factory=list)

    @property
    def unaudited(self) -> frozenset[str]:
        """Packages that no source has answered for."""
        return self.pinned.difference(*(answer.audited for answer in self.answers))

    @property
    def vulnerabilities(self) -> list[str]:
        """What was found, each once."""
        return sorted({line for answer in self.answers for line in answer.vulnerabilities})

    @property
    def code(self) -> int:
        """Exit code; what was found counts more than what could not be asked."""
        if self.vulnerabilities:
            return FOUND
        return UNKNOWN if self.unaudited or not self.pinned else CLEAN

    def lines(self) -> list[str]:
        """Return what to print, the verdict last."""
        found = self.vulnerabilities
        asked = ", ".join(answer.source for answer in self.answers if answer.audited)
        reasons = "; ".join(f"{answer.source}: {answer.reason}" for answer in self.answers if answer.reason)
        lines = list(found)
        if self.unaudited and len(self.unaudited) < len(self.pinned):
            lines.append(f"not audited: {', '.join(sorted(self.unaudited))} ({reasons})")
        if found:
            lines.append(f"audit: {len(found)} known vulnerabilities ({asked})")
        elif self.unaudited == self.pinned:
            count = len(self.pinned)
            lines.append(f"audit: NO VULNERABILITY SOURCE ANSWERED, nothing is known of {count} packages ({reasons})")
        elif self.unaudited:
            lines.append(f"audit: incomplete, nothing is known of {len(self.unaudited)} of {len(self.pinned)} packages")
        else:
            lines.append(f"audit: no known vulnerabilities in {len(self.pinned)} packages ({asked})")
        return lines


def pinned(files: Sequence[Path]) -> frozenset[str]:
    """Return the packages that *files* pin for this platform."""
    names = set()
    for file in files:
        for line in file.read_text().splitlines():
            requirement, _, marker = line.rstrip(" \\").partition(";")
            name, equals, _ = requirement.partition("==")
            if equals and not line.startswith((" ", "#")) and (not marker or Marker(marker.strip()).evaluate()):
                names.add(_canonical(name))
    return frozenset(names)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def ask(source: str, files: Sequence[Path], *, osv_url: str, ignored: Sequence[str], timeout_seconds: int) -> Answer:
    """Return what *source* says of the packages in *files*; whatever goes wrong is the answer's reason."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        command = [
            sys.executable, "-m", "pip_audit", "--disable-pip", "--vulnerability-service", source, "--format", "json",
            "--progress-spinner", "off", "--desc", "off", "--aliases", "on", "--timeout", str(timeout_seconds),
            "--output", str(result), "--cache-dir", str(Path(folder, "cache")),
        ]  # fmt: skip
        command += [part for file in files for part in ("--requirement", str(file))]
        command += [part for name in ignored for part in ("--ignore-vuln", name)]
        if osv_url:
            command += ["--osv-url", osv_url]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Answer(source, reason=f"no answer within {_SECONDS} s")
        try:
            return _read(source, json.loads(result.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Answer(source, reason=_reason(done.stderr))


def _read(source: str, document: dict[str, Any]) -> Answer:
    audited, vulnerabilities, skipped = set(), [], 0
    for package in document["dependencies"]:
        name = _canonical(package["name"])
        if "skip_reason" in package:
            skipped += 1
            continue
        audited.add(name)
        for vulnerability in package["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
            also = ", ".join(sorted(vulnerability["aliases"]))
            known_as = f"{vulnerability['id']} ({also})" if also else vulnerability["id"]
            vulnerabilities.append(f"{name} {package['version']}: {known_as}, fixed in {fixed}")
    reason = f"does not know {skipped} of them" if skipped else ""
    return Answer(source, frozenset(audited), tuple(vulnerabilities), reason)


def _reason(errors: str) -> str:
    if any(word in errors for word in _UNREACHABLE):
        return "cannot be reached"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1][:_LONGEST_REASON] if lines else "said nothing"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--source", choices=SOURCES, action="append", help="ask this one only; may be repeated")
    parser.add_argument("--osv-url", default="", help="another address of the OSV query interface")
    parser.add_argument("--ignore", metavar="ID", action="append", default=[], help="a vulnerability to leave out")
    parser.add_argument("--pins", type=Path, action="append", help="another file of pinned packages")
    parser.add_argument("--timeout", type=int, default=15, help="seconds for each question (%(default)s)")
    options = parser.parse_args(arguments)
    files = options.pins or PINS
    verdict = Verdict(pinned(files))
    for source in options.source or SOURCES:
        verdict.answers.append(
            ask(source, files, osv_url=options.osv_url, ignored=options.ignore, timeout_seconds=options.timeout)
        )
        if not verdict.unaudited:
            break
    print("\n".join(verdict.lines()))
    return verdict.code


if __name__ == "__main__":
    sys.exit(main())
