"""One target under atheris, guided by coverage; a process of its own, since libFuzzer never returns."""

import random
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["endpoint_picker", "inference_api", "inference_resolution", "envoy_config"],
    exclude=["endpoint_picker.protos"],
):
    from fuzz.registry import TARGETS

from fuzz.findings import Findings, failure
from fuzz.mutation import insert_piece

_FRESH = 0.08
_PIECES = 0.35


def main(name: str, findings_folder: str, arguments: list[str]) -> None:
    target = TARGETS[name]
    findings = Findings(target, Path(findings_folder))

    def one_input(data: bytes) -> None:
        error = failure(target, data)
        if error is not None:
            findings.add(data, error)

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        chance = rng.random()
        if chance < _FRESH:
            return target.generate(rng)[:max_size]
        if chance < _PIECES:
            return insert_piece(target, bytes(data), rng)[:max_size]
        return bytes(atheris.Mutate(data, max_size))

    atheris.Setup([sys.argv[0], *arguments], one_input, custom_mutator=mutated, internal_libfuzzer=True)
    started = time.monotonic()
    atheris.Fuzz()
    print(f"ended after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
