"""Programs whose wall clock can be set while they run.

A file holds one double, the seconds by which the clock is ahead. Python modules need nothing else:
``python jumping_clock.py FILE MODULE ARGUMENT…``. For other programs a library is compiled, to be preloaded.
"""

import mmap
import runpy
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

OFFSET = struct.Struct("d")
COMPILER = shutil.which("cc") if sys.platform == "linux" else None
"""A C compiler; None where there is none."""


def set_ahead(file: Path, seconds: float) -> None:
    """Let the wall clock of those who run with *file* jump."""
    with file.open("r+b" if file.exists() else "w+b") as opened:
        opened.write(OFFSET.pack(seconds))


def preloaded(file: Path, library: Path) -> dict[str, str]:
    """Environment in which a program has the clock of *file*; compiles *library*. Needs `COMPILER`."""
    assert COMPILER is not None
    source = Path(__file__).with_suffix(".c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return {"JUMPING_CLOCK": str(file), "LD_PRELOAD": str(library)}


def main() -> None:
    """Put the clock in place and become the module."""
    file, module, *arguments = sys.argv[1:]
    with Path(file).open("rb") as opened:
        shared = mmap.mmap(opened.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + OFFSET.unpack_from(shared)[0]
    time.time_ns = lambda: real_ns() + int(OFFSET.unpack_from(shared)[0] * 1e9)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
