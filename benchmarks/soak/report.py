"""The result of a soak: figures for JSON and a page in Markdown."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from benchmarks.soak.history import Ending, History
from benchmarks.soak.samples import Samples, slope

_SHOWN: Final = 30
_RECOVERY: Final = (
    "Recovery: how long after the strike a client without retries had an answer to what it asked since, and how long "
    "until the process was back; median and longest, seconds."
)
_GROWTH: Final = (
    "Memory in MiB and open files of the longest life of each process, with the slope of the straight line that fits "
    "best."
)


def summary(
    history: History, samples: Samples, violations: Sequence[str], *, seconds: float, seed: int
) -> dict[str, Any]:
    """Return the figures of a run."""
    return {
        "seconds": seconds,
        "seed": seed,
        "violations": list(violations),
        "requests": {kind: dict(counts) for kind, counts in sorted(history.endings().items())},
        "cut": [r.detail for r in history.requests if r.ending is Ending.CUT],
        "recovery": _recovery(history),
        "growth": _growth(samples),
    }


def _recovery(history: History) -> list[dict[str, Any]]:
    rows = []
    for name in dict.fromkeys(fault.name for fault in history.faults):
        faults = [fault for fault in history.faults if fault.name == name]
        answered = [f.answered_after for f in faults if f.answered_after is not None]
        back = [f.back_after for f in faults if f.back_after is not None]
        rows.append(
            {
                "fault": name,
                "times": len(faults),
                "answered_median_seconds": median(answered) if answered else None,
                "answered_max_seconds": max(answered, default=None),
                "back_median_seconds": median(back) if back else None,
                "back_max_seconds": max(back, default=None),
            }
        )
    return sorted(rows, key=lambda row: str(row["fault"]))


def _growth(samples: Samples) -> list[dict[str, Any]]:
    rows = []
    for name in sorted({life.name for life in samples.lives}):
        lives = [life for life in samples.lives if life.name == name]
        longest = max(lives, key=lambda life: life.seconds)
        rows.append(
            {
                "process": name,
                "lives": len(lives),
                "longest_seconds": longest.seconds,
                "memory_first_mib": longest.memory_mib[0],
                "memory_last_mib": longest.memory_mib[-1],
                "memory_max_mib": max(max(life.memory_mib) for life in lives),
                "memory_slope_mib_per_hour": slope(longest.moments, longest.memory_mib),
                "files_first": longest.files[0],
                "files_last": longest.files[-1],
                "files_max": max(max(life.files) for life in lives),
                "files_slope_per_hour": slope(longest.moments, longest.files),
            }
        )
    return rows


def markdown(figures: Mapping[str, Any]) -> str:
    """Return the page about a run."""
    requests: Mapping[str, Mapping[str, int]] = figures["requests"]
    endings = [ending.value for ending in Ending]
    total = sum(sum(counts.values()) for counts in requests.values())
    violations = figures["violations"]
    lines = [
        "# Soak",
        "",
        f"{figures['seconds'] / 60:.1f} minutes, {total} requests, seed {figures['seed']}: "
        + (f"**{len(violations)} violations**" if violations else "nothing lost"),
        "",
        *(f"- {violation}" for violation in violations[:_SHOWN]),
        *([f"- and {len(violations) - _SHOWN} more"] if len(violations) > _SHOWN else []),
        *([""] if violations else []),
        *_table(
            ("request", *endings),
            [(kind, *(str(counts.get(ending, 0)) for ending in endings)) for kind, counts in requests.items()],
        ),
        "",
        _RECOVERY,
        "",
        *_table(
            ("fault", "times", "answered", "longest", "back", "longest"),
            [
                (
                    row["fault"],
                    str(row["times"]),
                    *(
                        _seconds(row[key])
                        for key in (
                            *("answered_median_seconds", "answered_max_seconds"),
                            *("back_median_seconds", "back_max_seconds"),
                        )
                    ),
                )
                for row in figures["recovery"]
            ],
        ),
        "",
        _GROWTH,
        "",
        *_table(
            ("process", "lives", "longest", "MiB", "most", "MiB/h", "files", "most", "files/h"),
            [
                (
                    row["process"],
                    str(row["lives"]),
                    f"{row['longest_seconds']:.0f} s",
                    f"{row['memory_first_mib']:.0f} → {row['memory_last_mib']:.0f}",
                    f"{row['memory_max_mib']:.0f}",
                    f"{row['memory_slope_mib_per_hour']:+.0f}",
                    f"{row['files_first']} → {row['files_last']}",
                    str(row["files_max"]),
                    f"{row['files_slope_per_hour']:+.0f}",
                )
                for row in figures["growth"]
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
