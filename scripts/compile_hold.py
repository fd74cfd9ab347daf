"""Compile operator/envoy_config/hold.wat into hold_module.py; `--check` only compares."""

import base64
import sys
import textwrap
from pathlib import Path

from wasmtime import wat2wasm

FOLDER = Path(__file__).parents[1] / "operator" / "envoy_config"
SOURCE = FOLDER / "hold.wat"
TARGET = FOLDER / "hold_module.py"


def render() -> str:
    """Return the Python module that carries the compiled filter."""
    encoded = base64.b64encode(bytes(wat2wasm(SOURCE.read_text()))).decode()
    lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(encoded, 100))
    return (
        '"""The compiled hold.wat, base64; made by scripts/compile_hold.py, do not edit."""\n\n'
        f"from typing import Final\n\nHOLD_MODULE_BASE64: Final = (\n{lines}\n)\n"
    )


def main() -> int:
    """Write the module, or with ``--check`` return 1 when it is out of date."""
    text = render()
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
