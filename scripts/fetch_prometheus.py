"""Fetch prometheus and promtool into .cache/prometheus, for the tests that load the alerts and the dashboard in them.

From the Debian package where there is apt, else built with Go. Exit code 2: there is neither.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

TARGET: Final = Path(__file__).parents[1] / ".cache" / "prometheus"
PROGRAMS: Final = ("prometheus", "promtool")
_GO_VERSION: Final = "v0.312.0"
"""Of the Go module; releases 3.n have the version 0.30n."""
_GO_MODULE: Final = "github.com/prometheus/prometheus"


def _by_apt(folder: Path) -> bool:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    if subprocess.run(["apt-get", "download", "--quiet", "prometheus"], cwd=folder, check=False).returncode:
        return False
    package = next(folder.glob("prometheus_*.deb"))
    subprocess.run(["dpkg-deb", "--extract", str(package), str(folder / "package")], check=True)
    for program in PROGRAMS:
        shutil.copy2(folder / "package" / "usr" / "bin" / program, TARGET / program)
    return True


def _by_go(folder: Path) -> bool:
    if shutil.which("go") is None:
        return False
    (folder / "go.mod").write_text(f"module tools\n\ngo 1.24\n\nrequire {_GO_MODULE} {_GO_VERSION}\n")
    for program in PROGRAMS:
        command = ["go", "build", "-mod=mod", "-buildvcs=false", "-o", str(TARGET / program)]
        if subprocess.run([*command, f"{_GO_MODULE}/cmd/{program}"], cwd=folder, check=False).returncode:
            return False
    return True


def main() -> int:
    """Fetch what is missing."""
    if all((TARGET / program).is_file() for program in PROGRAMS):
        return 0
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if _by_apt(Path(folder)) or _by_go(Path(folder)):
            return 0
    print("neither apt nor go can provide prometheus: put it and promtool on the PATH", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
