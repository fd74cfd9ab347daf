"""Results as JSON: what was asked, on what machine, what came out."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import describe


def write_results(
    path: Path | None, name: str, options: Mapping[str, object], figures: Mapping[str, object]
) -> dict[str, Any]:
    """Write one run to *path*, None writes nothing; return the document."""
    envoy = options.get("envoy")
    machine = describe(str(envoy) if envoy else None)
    asked = {key: value if isinstance(value, int | float | list) else str(value) for key, value in options.items()}
    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    document: dict[str, Any] = {
        "benchmark": name,
        "finished": finished,
        "options": asked,
        "machine": machine,
        **figures,
    }
    if path is None:
        return document
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")
    return document
