"""Write the pinned dependencies in requirements/ from pyproject.toml: exact versions and the hashes of their files.

Versions already pinned stay while they fit; ``--upgrade`` takes the newest. The result holds for every supported Python
and platform and names no download address: whoever installs says where from.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "requirements"
IMAGE: Final = "image.txt"
"""What picker and command line need to run."""
STANDALONE: Final = "standalone.txt"
"""What `igw up` needs besides: Envoy."""
OTEL: Final = "otel.txt"
"""What traces need besides."""
BUILD: Final = "build.txt"
"""What builds the distribution itself."""
_COMMENT: Final = "# Written by `make pins` from pyproject.toml; inputs {digest}\n"


def inputs() -> dict[str, list[str]]:
    """Return, for each file, the requirements it pins."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = document["project"]
    return {
        IMAGE: project["dependencies"],
        STANDALONE: project["optional-dependencies"]["standalone"],
        OTEL: project["optional-dependencies"]["otel"],
        BUILD: document["build-system"]["requires"],
    }


def first_line(requirements: Sequence[str]) -> str:
    """Return the line that ties a file to the *requirements* it was made from."""
    digest = hashlib.sha256(json.dumps(sorted(requirements)).encode()).hexdigest()
    return _COMMENT.format(digest=digest[:16])


def _oldest_python() -> str:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return str(document["project"]["requires-python"]).removeprefix(">=")


def names(path: Path) -> list[str]:
    """Return the packages that a file pins."""
    return re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", path.read_text(), re.MULTILINE)


def _pin(name: str, requirements: Sequence[str], arguments: Sequence[str]) -> None:
    path = FOLDER / name
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "-", "--universal", "--generate-hashes", "--no-header", "--quiet",
        "--annotation-style", "line", "--python-version", _oldest_python(), "--output-file", str(path), *arguments,
    ]  # fmt: skip
    if name in (STANDALONE, OTEL):
        command += ["--constraint", str(FOLDER / IMAGE)]
        command += [f"--no-emit-package={known}" for known in names(FOLDER / IMAGE)]
    subprocess.run(command, input="\n".join(requirements), text=True, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    pins = path.read_text().partition("\n# The following packages were excluded")[0]
    path.write_text(first_line(requirements) + pins)
    print(f"{path.relative_to(ROOT)}: {len(names(path))} packages")


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(exist_ok=True)
    for name, requirements in inputs().items():
        _pin(name, requirements, sys.argv[1:])


if __name__ == "__main__":
    main()
