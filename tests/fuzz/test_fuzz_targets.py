"""No input makes a reader do what it must not: a minute of generated ones, and all that ever failed."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz.findings import Findings, failure
from fuzz.mutation import next_input
from fuzz.registry import TARGETS
from fuzz.target import Target
from fuzz.targets.manifests import HOSTILE

ROOT = Path(__file__).parents[2]
REGRESSIONS = Path(__file__).parent / "regressions"
EXAMPLES = {
    "body": 2500,
    "sse": 1000,
    "json_usage": 2000,
    "metrics": 700,
    "session": 3000,
    "local_grpc": 1500,
    "manifests": 400,
    "accesslog": 3000,
}
"""About five seconds each."""


@pytest.mark.parametrize("name", TARGETS)
def test_generated_inputs(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    findings = Findings(target, ROOT / ".cache" / "fuzz" / name / "findings")

    # A seed cannot be made simpler; a finding is made small by leaving pieces out.
    @settings(
        max_examples=EXAMPLES[name],
        phases=[Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(min_value=0, max_value=2**64 - 1))
    def run(seed: int) -> None:
        data = next_input(target, random.Random(seed))
        error = failure(target, data)
        if error is not None:
            findings.add(data, error)
            raise error

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    assert TARGETS[name].seeds
    for seed in TARGETS[name].seeds:
        TARGETS[name].check(seed)


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=f"{file.parent.name}-{file.name}") for file in sorted(REGRESSIONS.glob("*/*"))]
)
def test_what_once_failed(file: Path) -> None:
    TARGETS[file.parent.name].check(file.read_bytes())


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_large_hostile_manifests_cost_what_their_size_allows(number: int) -> None:
    TARGETS["manifests"].check(HOSTILE[number](10_000))


def _refuse_three(data: bytes) -> None:
    assert data.count(b"x") < 3


def test_a_defect_is_found_made_small_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = Target("planted", _refuse_three, lambda rng: rng.randbytes(9), seeds=(b"abc",), tokens=(b"x", b"y"))
    findings = Findings(target, tmp_path)
    rng = random.Random(1)
    for _ in range(5000):
        data = next_input(target, rng)
        error = failure(target, data)
        if error is not None:
            findings.add(data, error)
    (kept,) = findings.files
    assert kept.read_bytes() == b"xxx"
    assert f'--target planted --input {kept}"' in capsys.readouterr().out
