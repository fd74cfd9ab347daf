"""Decides when the time limit of requests may be applied: not just after this process stood still."""

from collections.abc import Callable

from endpoint_picker.requestcontrol.ports import Clock


class Sweeper:
    """Sweeps at regular moments; after a standstill it first lets the reports come in that piled up meanwhile.

    A process that was stopped, on a machine that was suspended for instance, finds every request last seen too long
    ago, although the data plane still reports them.

    Args:
        sweep: Applies the time limit.
        clock: Monotonic seconds.
        interval_seconds: Between two calls of `tick`.
        report_seconds: A request that is under way is reported as often.
    """

    def __init__(
        self, sweep: Callable[[], object], *, clock: Clock, interval_seconds: float, report_seconds: float
    ) -> None:
        self._sweep = sweep
        self._clock = clock
        self._late_seconds = 2.0 * interval_seconds
        self._rest_seconds = report_seconds + 2.0 * interval_seconds
        self._last = clock()
        self._rests_until = self._last

    def tick(self) -> None:
        """Sweep, unless the call comes late or soon after one that did."""
        now = self._clock()
        if now - self._last > self._late_seconds:
            self._rests_until = now + self._rest_seconds
        self._last = now
        if now >= self._rests_until:
            self._sweep()
