"""Documentation keeps its word: relative links lead somewhere, make targets and commands that it names exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from endpoint_picker.extproc.errors import HTTP_ERRORS
from envoy_config.local_replies import local_reply_config
from igw.__main__ import app
from inference_api import names

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)
_LONGEST_LINE = 120
_PAGES_OF_TABLES = {"benchmarks.md", "configuration.md", "faults.md"}  # whose rows are as long as what they say


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Yield path and fragment of every relative link."""
    for target in _LINK.findall(prose(page)):
        if not re.match(r"[a-z]+:", target):
            path, _, fragment = target.partition("#")
            yield path, fragment


def anchors(page: Path) -> set[str]:
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_relative_links_lead_somewhere(page: Path) -> None:
    dead = []
    for path, fragment in links(page):
        target = (page.parent / path).resolve() if path else page
        found = target.exists() and ROOT in (target, *target.parents)
        if not found or (fragment and target.suffix == ".md" and fragment not in anchors(target)):
            dead.append(f"{path}#{fragment}" if fragment else path)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:`|^\$ )make (?:[A-Z]+=\S+\s+)*([a-z][a-z-]*)", text, re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_that_are_named_exist(page: Path) -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:`|/|^\$ )igw ([a-z]+)", text, re.MULTILINE)
    assert set(named) <= commands


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_source_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:operator|endpoint-picker|igw|scripts|tests|benchmarks|docs)/[\w./-]+)`", prose(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_lines_are_short(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    if page.name in _PAGES_OF_TABLES:
        lines = ((number, line) for number, line in lines if not line.startswith("|"))
    assert [number for number, line in lines if len(line) > _LONGEST_LINE] == []


def test_readme_names_the_test_command() -> None:
    assert "$ make test" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = {path for path, _ in links(folder / "README.md")}
    assert index == {page.name for page in folder.glob("[0-9]*.md")}


def test_every_annotation_is_documented() -> None:
    annotations = {
        value
        for name, value in vars(names).items()
        if name.endswith("_ANNOTATION") and isinstance(value, str) and value.startswith(names.OWN_GROUP)
    }
    text = (ROOT / "docs" / "manifests.md").read_text(encoding="utf-8")
    assert {value for value in annotations if f"`{value}`" not in text} == set()


def test_every_error_code_is_documented() -> None:
    mappers = local_reply_config()["mappers"]
    assert isinstance(mappers, list)
    codes = {mapper["body_format_override"]["json_format"]["error"]["code"] for mapper in mappers}
    codes |= {error.code for error in HTTP_ERRORS.values()}
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert {code for code in codes if f"`{code}`" not in text} == set()
