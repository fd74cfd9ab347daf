"""The dashboard and the rules in docs/, and what each of their expressions asks for."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "docs" / "grafana" / "inference-gateway.json"
RULES = (ROOT / "docs" / "prometheus" / "recording-rules.yaml", ROOT / "docs" / "prometheus" / "alerts.yaml")

_VARIABLES = re.compile(r"\$(?:__rate_interval|__interval)\b")


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression and where it stands; *legend* is how its series are called, if they are."""

    where: str
    text: str
    legend: str = ""

    @property
    def plain(self) -> str:
        """The expression with Grafana's variables filled in."""
        return re.sub(r"\$(job|pool|model)\b", ".*", _VARIABLES.sub("5m", self.text))


@dataclass(slots=True)
class Asked:
    """What an expression asks for: label names that it selects by, for each metric, and those it groups by."""

    metrics: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text(encoding="utf-8")))


def panels() -> Iterator[dict[str, Any]]:
    """Yield every panel that is no row."""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def expressions() -> list[Expression]:
    """Every expression of the dashboard, its variables and annotations, and the rules."""
    found = [
        Expression(f"panel {panel['title']}", target["expr"], target["legendFormat"])
        for panel in panels()
        for target in panel["targets"]
    ]
    document = dashboard()
    found += [Expression(f"annotation {item['name']}", item["expr"]) for item in document["annotations"]["list"]]
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert asked, variable
            found.append(Expression(f"variable {variable['name']}", f"count by ({asked[2]}) ({asked[1]})"))
    found += [Expression(f"rule {rule.get('record') or rule['alert']}", rule["expr"]) for rule in rules()]
    return found


def asked_by(expression: Expression) -> Asked:
    """Return what *expression* asks for; fails where it is no PromQL."""
    asked = Asked()
    _walk(promql_parser.parse(expression.plain), asked)
    return asked


def _walk(node: Any, asked: Asked) -> None:
    match node:
        case promql_parser.VectorSelector():
            labels = asked.metrics.setdefault(node.name, set())
            labels.update(matcher.name for matcher in node.matchers.matchers)
        case promql_parser.MatrixSelector():
            _walk(node.vector_selector, asked)
        case promql_parser.AggregateExpr():
            if node.modifier is not None:
                asked.grouped.update(node.modifier.labels)
            _walk(node.expr, asked)
        case promql_parser.BinaryExpr():
            if node.modifier is not None and node.modifier.matching is not None:
                asked.grouped.update(node.modifier.matching.labels)
            _walk(node.lhs, asked)
            _walk(node.rhs, asked)
        case promql_parser.Call():
            for argument in node.args:
                _walk(argument, asked)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            _walk(node.expr, asked)
        case _:
            assert isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral), node


def recorded() -> dict[str, set[str]]:
    """Metrics that the rules record, with their labels."""
    made = {rule["record"]: asked_by(Expression(rule["record"], rule["expr"])) for rule in rules() if "record" in rule}
    return {name: asked.grouped - {"le"} for name, asked in made.items()}


def misfits(known: Mapping[str, set[str]], expression: Expression) -> list[str]:
    """Return what *expression* asks for that the *known* metrics, labels by name, do not have."""
    asked = asked_by(expression)
    found = [f"{expression.where}: no metric {name}" for name in asked.metrics if name not in known]
    available = {"job", "instance"}.union(*(known.get(name, set()) for name in asked.metrics))
    for name, labels in asked.metrics.items():
        extra = labels - known.get(name, set()) - {"job", "instance"}
        found += [f"{expression.where}: {name} has no label {label}" for label in extra if name in known]
    wanted = asked.grouped | set(re.findall(r"{{(\w+)}}", expression.legend))
    found += [f"{expression.where}: nothing has the label {label}" for label in wanted - available]
    return found
