"""Generate the Python code of the trimmed Envoy protobufs.

    python scripts/generate_protos.py

The tools are installed, at the versions below, into a throw-away virtual environment. The version of protobuf's
generator decides which runtimes load its output: its own and newer, one major version ahead at most. So raising it
raises the lower bound of ``protobuf`` in pyproject.toml.
"""

import hashlib
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOOLS = ("grpcio-tools==1.74.0", "mypy-protobuf==3.6.0")
IMPORT_ROOT = Path(__file__).resolve().parent.parent / "endpoint-picker"
PROTOS = IMPORT_ROOT / "endpoint_picker" / "protos"
OUTPUTS = ("_pb2.py", "_pb2.pyi")
DIGEST_LINE = "# proto sha256: "


def install_tools(directory: Path) -> Path:
    """Create a virtual environment with the tools in *directory* and return its folder of programs."""
    venv.create(directory, with_pip=True)
    programs = directory / ("Scripts" if sys.platform == "win32" else "bin")
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", *TOOLS], check=True)
    return programs


def generate(programs: Path, sources: list[Path]) -> None:
    """Write the code and type stubs of *sources* beside them."""
    command: list[str | Path] = [
        programs / "python",
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={IMPORT_ROOT}",
        f"--plugin=protoc-gen-mypy={programs / 'protoc-gen-mypy'}",
        f"--python_out={IMPORT_ROOT}",
        f"--mypy_out={IMPORT_ROOT}",
        *sources,
    ]
    subprocess.run(command, check=True)


def stamp(source: Path) -> None:
    """Put the digest of *source* into the first line of what was made of it, for a freshness check without tools."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for suffix in OUTPUTS:
        output = source.with_name(source.stem + suffix)
        output.write_text(f"{DIGEST_LINE}{digest}\n{output.read_text(encoding='utf-8')}", encoding="utf-8")


def main() -> None:
    """Replace all generated code."""
    for suffix in OUTPUTS:
        for stale in PROTOS.glob(f"*{suffix}"):
            stale.unlink()
    sources = sorted(PROTOS.glob("*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        generate(install_tools(Path(directory)), sources)
    for source in sources:
        stamp(source)
    print(f"generated the code of {len(sources)} files in {PROTOS.relative_to(IMPORT_ROOT.parent)}")


if __name__ == "__main__":
    main()
