"""Histogram buckets; those of the Inference Extension, so that its dashboards fit."""

from typing import Final


def _doubling(first: int, last: int) -> tuple[float, ...]:
    bounds = [float(first)]
    while bounds[-1] < last:
        bounds.append(2 * bounds[-1])
    return tuple(bounds)


REQUEST_SECONDS: Final = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0),
    *(30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0),
)
REQUEST_BYTES: Final = _doubling(64, 2**30)
RESPONSE_BYTES: Final = (1.0, *_doubling(8, 2**16))
INPUT_TOKENS: Final = (1.0, *_doubling(8, 2**20))
OUTPUT_TOKENS: Final = (1.0, *_doubling(8, 2**13))
SECONDS_PER_REQUEST_TOKEN: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SECONDS_PER_OUTPUT_TOKEN: Final = (
    *(0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
    *(1.5, 2.0, 3.0, 4.5, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 360.0),
)
SCHEDULER_SECONDS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
HIT_RATIO: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FIRST_TOKEN_SECONDS: Final = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 30.0, 60.0, 120.0)
"""Coarser than a request's: one histogram per endpoint."""
