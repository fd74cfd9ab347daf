"""The endpoint picker with a sampling profiler that a signal switches on and another switches off and writes out.

``python -m benchmarks.profiled_picker FILE ARGUMENT…``: SIGUSR1 starts, SIGUSR2 stops and writes FILE, a JSON list of
``[stack, samples]`` with the outermost function first. A sample is taken per slice of CPU time that the whole process
has used (4 ms on most kernels), so idle time and other processes do not count and short functions are not inflated.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from endpoint_picker.__main__ import run

_SLICE_SECONDS = 0.001


class Sampler:
    """Counts the stacks of the main thread."""

    def __init__(self) -> None:
        self._stacks: Counter[tuple[CodeType, ...]] = Counter()

    def start(self, _number: int, _frame: FrameType | None) -> None:
        """Begin; a signal handler."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _SLICE_SECONDS, _SLICE_SECONDS)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append(frame.f_code)
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1

    def write(self, target: Path) -> None:
        """Stop and write what was counted; the file appears complete."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        stacks = [([_place(code) for code in reversed(stack)], count) for stack, count in self._stacks.items()]
        draft = target.with_suffix(".draft")
        draft.write_text(json.dumps(stacks), encoding="utf-8")
        draft.replace(target)


def _place(code: CodeType) -> str:
    return f"{'/'.join(Path(code.co_filename).parts[-3:])}:{code.co_firstlineno} {code.co_name}"


def main() -> int:
    """Run the picker; return its exit code."""
    target, sampler = Path(sys.argv[1]), Sampler()
    signal.signal(signal.SIGUSR1, sampler.start)
    signal.signal(signal.SIGUSR2, lambda _number, _frame: sampler.write(target))
    return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
