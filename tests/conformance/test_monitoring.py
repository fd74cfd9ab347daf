"""Dashboard and rules fit what the picker exposes, Grafana's own model, and the page that the alerts lead to."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

import monitoring
from endpoint_picker.telemetry.metrics import PickerMetrics

EXPRESSIONS = monitoring.expressions()
OURS = {
    series: set(family.labels) | ({"le"} if series.endswith("_bucket") else set())
    for family in PickerMetrics(clock=lambda: 0.0).families
    for series in family.series
}
KNOWN = OURS | monitoring.recorded()


def of_envoy(expression: monitoring.Expression) -> bool:
    return any(name.startswith("envoy_") for name in monitoring.asked_by(expression).metrics)


@pytest.mark.parametrize(
    "expression", [e for e in EXPRESSIONS if not of_envoy(e)], ids=lambda e: f"{e.where}-{e.text[:40]}"
)
def test_every_metric_and_label_that_is_asked_for_exists(expression: monitoring.Expression) -> None:
    assert monitoring.misfits(KNOWN, expression) == []


@pytest.mark.parametrize(
    ("text", "legend", "misfit"),
    [
        ("rate(inference_gateway_no_such_total[5m])", "", "no metric inference_gateway_no_such_total"),
        ('inference_gateway_failovers_total{pool="a"}', "", "inference_gateway_failovers_total has no label pool"),
        ("sum by (pool) (inference_gateway_failovers_total)", "", "nothing has the label pool"),
        ("inference_gateway_failovers_total", "{{pool}}", "nothing has the label pool"),
        ("up and on (pool) inference_gateway_failovers_total", "", "no metric up"),
    ],
)
def test_what_does_not_exist_is_noticed(text: str, legend: str, misfit: str) -> None:
    assert f"here: {misfit}" in monitoring.misfits(KNOWN, monitoring.Expression("here", text, legend))


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    asked = {name for e in EXPRESSIONS if e.where.startswith("panel") for name in monitoring.asked_by(e).metrics}
    families = [f for f in PickerMetrics(clock=lambda: 0.0).families if f.name.startswith("inference_gateway_")]
    assert [f.name for f in families if asked.isdisjoint(f.series)] == []


# -- the dashboard ----------------------------------------------------------------------------------------------------


def test_the_dashboard_is_fresh() -> None:
    script = monitoring.ROOT / "scripts" / "dashboard" / "generate.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Yield the places of *ours* that *theirs* does not have, or has otherwise."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from lost(value, theirs[key], f"{path}.{key}")
            elif value is not None:
                yield f"{path}.{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{path}[{place}]")
    elif ours != theirs:
        yield path


def test_grafanas_own_model_reads_all_of_the_dashboard() -> None:
    register_default_plugins()
    document = monitoring.dashboard()
    read = json.loads(JSONEncoder(sort_keys=True, indent=None).encode(Dashboard.from_json(document)))
    assert list(lost(document, read)) == []
    document["panels"][1]["fieldConfig"]["defaults"]["noSuchField"] = 1
    assert list(lost(document, read)) == [".panels[1].fieldConfig.defaults.noSuchField"]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    rows = [panel for panel in monitoring.dashboard()["panels"] if panel["type"] == "row"]
    shown = [panel for panel in monitoring.dashboard()["panels"] if panel["type"] != "row"]
    ids = [panel["id"] for panel in (*rows, *monitoring.panels())]
    assert len(ids) == len(set(ids))

    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    for group in ([*rows, *shown], *(row["panels"] for row in rows)):
        for one, other in combinations(group, 2):
            assert cells(one).isdisjoint(cells(other)), (one["title"], other["title"])


@pytest.mark.parametrize("panel", list(monitoring.panels()), ids=lambda panel: panel["title"])
def test_every_panel_says_how_to_read_it_and_asks_the_chosen_source(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


# -- the rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(monitoring.alerts()))
def test_every_alert_says_what_is_wrong_and_where_to_read_on(name: str) -> None:
    alert = monitoring.alerts()[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    annotations = alert["annotations"]
    assert annotations["summary"]
    assert annotations["description"].endswith(".")
    path, _, anchor = annotations["runbook_url"].partition("#")
    text = (monitoring.ROOT / path).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    assert anchor in headings
    assert f"`{name}`" in text


def test_names_of_rules_are_given_once() -> None:
    names = [rule.get("record") or rule["alert"] for rule in monitoring.rules()]
    assert len(names) == len(set(names))
