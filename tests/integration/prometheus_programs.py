"""Where prometheus and promtool are: on the PATH, or where ``make prometheus`` puts them."""

import shutil

import pytest

import monitoring

FETCHED = monitoring.ROOT / ".cache" / "prometheus"


def program(name: str) -> str:
    """Path of a program; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path=str(FETCHED))
    if found is None:
        pytest.skip(f"no {name} here: `make prometheus` fetches it")
    return found
