"""Each alert fires when it is to and at no other time, by promtool; ``make prometheus`` fetches it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import monitoring
from integration.alert_histories import CASES, ENVOY, Case, History
from integration.prometheus_programs import program


def history(series: History) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def unit_tests(name: str, case: Case) -> list[dict[str, Any]]:
    """What promtool is to check of one alert."""
    alert = monitoring.alerts()[name]
    job = {} if name == "InferenceGatewayGone" else {"job": "inference-gateway"}
    if "envoy" in alert["expr"]:
        job = {"job": ENVOY.split('"')[1]}
    fired = {
        "exp_labels": {**alert["labels"], **job, **case.labels},
        "exp_annotations": {**alert["annotations"], "summary": case.summary},
    }
    return [
        {
            "name": f"{name} {'keeps quiet' if quiet else 'fires'}",
            "interval": "1m",
            "input_series": history(series),
            "alert_rule_test": [{"eval_time": case.at, "alertname": name, "exp_alerts": [] if quiet else [fired]}],
        }
        for quiet, series in ((False, case.fires), *((True, series) for series in case.quiet))
    ]


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(monitoring.alerts())


def test_alerts_fire_when_they_are_to_and_at_no_other_time(tmp_path: Path) -> None:
    document = {
        "rule_files": [str(path) for path in monitoring.RULES],
        "evaluation_interval": "1m",
        "tests": [test for name, case in CASES.items() for test in unit_tests(name, case)],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    command = [program("promtool"), "test", "rules", str(tmp_path / "tests.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", *map(str, monitoring.RULES)),
        ("check", "config", str(monitoring.RULES[0].parent / "prometheus.yaml")),
    ],
    ids=["rules", "configuration"],
)
def test_prometheus_itself_finds_no_fault(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
