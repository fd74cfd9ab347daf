"""Become another program that dies when its parent does. Run as a script, with the standard library only.

    python -I -S guarded_exec.py PARENT_PID PROGRAM ARGUMENT...

On Linux the kernel sends SIGKILL to this process as soon as its parent is gone, however that came about; the setting
outlives `exec`. Elsewhere it only becomes the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 126


def main() -> None:
    """Ask for the signal, make sure that the parent has not died meanwhile, and become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(_CANNOT_RUN)
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is wanted; igw composed the command
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
