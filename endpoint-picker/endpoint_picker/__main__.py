"""Start-up of the endpoint picker: settings, signals, exit codes."""

import asyncio
import contextlib
import ctypes
import logging
import signal
import sys
from collections.abc import Callable, Sequence

from endpoint_picker.config.settings import PickerSettings, SettingsProblem, read_settings
from endpoint_picker.config.standby import STANDBY, wait_for_turn
from endpoint_picker.telemetry.logs import LogForm, set_up_logging
from endpoint_picker.wiring import ManifestProblems, Picker

logger = logging.getLogger(__name__)

_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD_BYTES = 1024 * 1024


async def _serve(settings: PickerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Picker(settings).run(stop)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - there is none on some platforms
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _give_memory_back() -> None:
    """Make the C library map large blocks one by one, so that the memory of a large body returns when it is freed.

    By default its threshold grows with what is freed, up to 32 MiB, and freed bodies would stay with the process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)


def _wait(arguments: Sequence[str]) -> bool:
    """Do everything slow beforehand and wait for the turn of this process; return whether it came."""
    _loop_factory()().close()
    with contextlib.suppress(SettingsProblem):
        read_settings(arguments)  # warms up; what holds is read when it is time
    return wait_for_turn(sys.stdin.buffer)


def run(arguments: Sequence[str]) -> int:
    """Run the picker; return 0 after a drain, 1 when it cannot run, 2 on bad settings or manifests."""
    if arguments and arguments[0] == STANDBY:
        arguments = arguments[1:]
        if not _wait(arguments):
            return 0
    try:
        settings = read_settings(arguments)
        _give_memory_back()
        set_up_logging(sys.stderr, form=LogForm(settings.log_format), level=settings.log_level)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings))
    except (SettingsProblem, ManifestProblems) as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201 - the words a person gets on a bad start
        return 2
    except OSError as error:
        print(f"endpoint-picker: {error}", file=sys.stderr)  # noqa: T201 - as above
        return 1
    return 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
