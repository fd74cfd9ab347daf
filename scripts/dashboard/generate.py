"""Write docs/grafana/inference-gateway.json, the dashboard; `--check` only compares."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from endpoints import ENDPOINTS, FAILING, SCHEDULING
from gateway import BOOKS, PROCESSES
from panels import ONE, Panel
from traffic import LATENCY, OVERVIEW, TRAFFIC

ROOT: Final = Path(__file__).parents[2]
TARGET: Final = ROOT / "docs" / "grafana" / "inference-gateway.json"

Json = dict[str, Any]

_SOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA_VERSION: Final = 41
"""Of Grafana 11.6; later ones migrate it."""
_WIDTH: Final = 24

ROWS: Final[tuple[tuple[str, tuple[Panel, ...], bool], ...]] = (
    ("Overview", OVERVIEW, False),
    ("Traffic", TRAFFIC, False),
    ("Latency", LATENCY, False),
    ("Endpoints", ENDPOINTS, False),
    ("Failing endpoints", FAILING, False),
    ("Scheduling", SCHEDULING, True),
    ("Ledger, metrics pages, configuration", BOOKS, True),
    ("Processes", PROCESSES, True),
)
"""Title of a row, its panels, and whether it is folded at first."""


def _thresholds(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.warn is not None:
        steps.append({"color": "orange", "value": panel.warn})
    if panel.bad is not None:
        steps.append({"color": "red", "value": panel.bad})
    return {"mode": "absolute", "steps": steps}


def _defaults(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    if panel.kind in {"timeseries", "stat"} and not panel.signed:
        defaults["min"] = 0
    if panel.most is not None:
        defaults["max"] = panel.most
    marked = panel.warn is not None or panel.bad is not None
    match panel.kind:
        case "timeseries":
            defaults["custom"] = {
                "fillOpacity": 30 if panel.stacked else 5,
                "lineWidth": 1,
                "showPoints": "never",
                "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "dashed" if marked else "off"},
            }
            defaults["color"] = {"mode": "palette-classic"}
        case "state-timeline":
            defaults["color"] = {"mode": "thresholds"}
            defaults["mappings"] = [
                {
                    "type": "value",
                    "options": {
                        "0": {"text": "closed", "index": 0},
                        "1": {"text": "half-open", "index": 1},
                        "2": {"text": "open", "index": 2},
                    },
                }
            ]
        case _:
            defaults["color"] = {"mode": "thresholds"}
    return defaults


_OPTIONS: Final[dict[str, Json]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "orientation": "auto",
        "textMode": "value",
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
    },
    "state-timeline": {
        "showValue": "auto",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "heatmap": {
        "calculate": False,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "steps": 64,
            "exponent": 0.5,
            "fill": "dark-orange",
            "reverse": False,
        },
        "cellGap": 1,
        "filterValues": {"le": 1e-9},
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "legend": {"show": False},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True},
    },
}


def _panel(panel: Panel, number: int, x: int, y: int) -> Json:
    height = 4 if panel.kind == "stat" else 8
    heatmap = panel.kind == "heatmap"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"h": height, "w": panel.width, "x": x, "y": y},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "format": "heatmap" if heatmap else "time_series",
                "exemplar": query.exemplars,
                "range": True,
                "instant": False,
            }
            for place, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


def _panels() -> list[Json]:
    """Return rows and panels, laid out from left to right and then down."""
    found: list[Json] = []
    number = y = 0
    for title, panels, folded in ROWS:
        number += 1
        row: Json = {"id": number, "type": "row", "title": title, "collapsed": folded, "panels": []}
        row["gridPos"] = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        found.append(row)
        x, line = 0, y + 1
        for panel in panels:
            number += 1
            if x + panel.width > _WIDTH:
                x, line = 0, line + 8
            placed = _panel(panel, number, x, line)
            (row["panels"] if folded else found).append(placed)
            x += panel.width
            y = max(y, line + placed["gridPos"]["h"])
        y = y if not folded else row["gridPos"]["y"] + 1
    return found


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
        "regex": "",
        "skipUrlSync": False,
    }


def _restarts() -> Json:
    expression = f"changes(process_start_time_seconds{{{ONE}}}[1m]) > 0 and on (job, instance) inference_extension_info"
    return {
        "name": "Picker started",
        "enable": True,
        "hide": False,
        "iconColor": "orange",
        "datasource": _SOURCE,
        "expr": expression,
    }


def dashboard() -> Json:
    """Return the dashboard."""
    variables: Sequence[Json] = (
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {"selected": False, "text": "default", "value": "default"},
            "options": [],
            "hide": 0,
            "refresh": 1,
            "regex": "",
            "multi": False,
            "includeAll": False,
            "skipUrlSync": False,
        },
        _variable("job", "Gateway", "label_values(inference_extension_info, job)"),
        _variable("pool", "Pool", f"label_values(inference_pool_ready_pods{{{ONE}}}, name)"),
        _variable("model", "Model", f"label_values(inference_objective_request_total{{{ONE}}}, model_name)"),
    )
    return {
        "uid": "inference-gateway",
        "title": "Inference Gateway",
        "description": "Traffic, latency, endpoints and health of Inference Gateway.",
        "tags": ["inference-gateway", "llm"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": list(variables)},
        "annotations": {"list": [_restarts()]},
        "links": [],
        "panels": _panels(),
    }


def main() -> int:
    """Write the dashboard, or with ``--check`` return 1 when it is out of date."""
    text = json.dumps(dashboard(), indent=2) + "\n"
    if "--check" in sys.argv[1:]:
        if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET.relative_to(ROOT)} is out of date: make docs", file=sys.stderr)
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
