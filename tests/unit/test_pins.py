"""The pinned dependencies are those of pyproject.toml, exact, with hashes, and say nothing of where they come from."""

import re
import runpy
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = runpy.run_path(str(ROOT / "scripts" / "pin_dependencies.py"))
INPUTS: dict[str, list[str]] = PINS["inputs"]()
FOLDER = ROOT / "requirements"


def logical_lines(name: str) -> list[str]:
    """The requirements with their hashes, one in a line."""
    text = re.sub(r"^ *#.*\n", "", (FOLDER / name).read_text(), flags=re.MULTILINE)
    return text.replace("\\\n", " ").splitlines()


def requirements(name: str) -> list[Requirement]:
    return [Requirement(line.partition(" --hash")[0]) for line in logical_lines(name)]


def test_there_is_a_file_for_each_input_and_no_other() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_pins_were_made_from_the_dependencies_as_they_are(name: str) -> None:
    assert (FOLDER / name).read_text().startswith(PINS["first_line"](INPUTS[name])), "run `make pins`"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [pytest.param(name, Requirement(text), id=f"{name}-{text}") for name, texts in INPUTS.items() for text in texts],
)
def test_every_dependency_has_a_pin_that_fits(name: str, wanted: Requirement) -> None:
    found = [pin for pin in requirements(name) if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
    assert found
    for pin in found:
        (exact,) = pin.specifier
        assert wanted.specifier.contains(exact.version)


@pytest.mark.parametrize("name", INPUTS)
def test_every_pin_is_exact_and_has_hashes(name: str) -> None:
    for line in logical_lines(name):
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+!]+( ; [^#\\]+?)?( +--hash=sha256:[0-9a-f]{64})+", line), line


@pytest.mark.parametrize("name", INPUTS)
def test_no_pin_names_a_place_to_download_from(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert not re.search(r"//| @ |^ *-|\.(org|com|io|net)\b", text.replace("    --hash=", ""), re.MULTILINE)


def test_a_changed_dependency_no_longer_fits_the_pins() -> None:
    first_line = PINS["first_line"]
    assert first_line(["a>=1", "b"]) == first_line(["b", "a>=1"])
    assert len({first_line(texts) for texts in (["a>=1"], ["a>=2"], ["a>=1", "b"], [])}) == 4
