"""Results as JSON: what was asked, on what machine, what came out."""

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from igw.envoy_binary import wheel_version


def write_results(path: Path | None, name: str, options: Mapping[str, object], figures: Mapping[str, object]) -> None:
    """Write one run to *path*; None writes nothing."""
    if path is None:
        return
    machine = {
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "envoy_wheel": wheel_version(),
        "load_average": os.getloadavg(),
    }
    asked = {key: value if isinstance(value, int | float | list) else str(value) for key, value in options.items()}
    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    document = {"benchmark": name, "finished": finished, "options": asked, "machine": machine, **figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")
