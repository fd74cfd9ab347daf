"""``igw demo --once``: the whole tour with real processes ends well, and leaves nothing behind."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "igw", "demo", "--once", "--port", "0", "--admin-port", "0")


def simulators() -> set[int]:
    """Process ids of the demo's servers, all demos of this machine taken together."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if b"simulate" in command and b"qwen-2.5-7b-instruct" in command:
                found.add(int(folder.name))
    return found


@pytest.mark.slow
def test_the_tour_ends_well() -> None:
    before = simulators()
    result = subprocess.run(COMMAND, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Try it:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "Traceback" not in result.stderr
    assert simulators() <= before


@pytest.mark.slow
def test_ctrl_c_in_the_middle_ends_it_cleanly() -> None:
    before = simulators()
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "killing server" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
    assert said.splitlines()[-1] == "igw: the demo was stopped before its end"
    assert "Traceback" not in said
    assert simulators() <= before
