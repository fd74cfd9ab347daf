"""The machine: what it is, how much of it is used, how much memory a process has."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from igw.envoy_binary import find_envoy, wheel_version

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_VERSION: Final = re.compile(r"version: \w+/([\w.-]+)/")
_CPU_INFO: Final = Path("/proc/cpuinfo")
_STAT: Final = Path("/proc/stat")


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def busy_seconds() -> float:
    """Return the CPU time that all processes of the machine together have used since it started."""
    fields = _STAT.read_text(encoding="ascii").splitlines()[0].split()
    user, nice, system, _idle, _wait, irq, soft, *_ = (int(field) for field in fields[1:])
    return (user + nice + system + irq + soft) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def describe(envoy: str | None = None) -> Mapping[str, object]:
    """Return what a reader must know of the machine and the versions on it."""
    return {
        "processors": processors(),
        "processor": _processor(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "envoy_wheel": wheel_version(),
        "envoy": _envoy_version(envoy),
        "load_average": os.getloadavg(),
    }


def _processor() -> str:
    for line in _CPU_INFO.read_text(encoding="utf-8").splitlines() if _CPU_INFO.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()


def _envoy_version(envoy: str | None) -> str:
    """Return what Envoy's binary says of itself, such as ``1.40.0``."""
    said = subprocess.run([find_envoy(envoy), "--version"], capture_output=True, text=True, timeout=20, check=False)
    found = _VERSION.search(said.stdout)
    return found[1] if found else said.stdout.strip()
