"""What deploy/prometheus, deploy/grafana and the runbook say, read as their programs read it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

from poller import metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "video-poller.json"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")

_VARIABLES = {"$environment": ".*", "$price": "1.006", "$__rate_interval": "5m"}
_WORDS = {"by", "on", "and", "or", "unless", "without", "bool"}
_NOT_OURS = {"up", "ALERTS", "process_start_time_seconds"}
_TARGETS = {"environment", "instance", "job", "le"}
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True, slots=True)
class Expression:
    """PromQL, and where it stands."""

    where: str
    text: str


def load(path: Path) -> Any:
    """Parse a YAML file."""
    return yaml.safe_load(path.read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    return [rule for file in files for group in load(file)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by their names."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> dict[str, Any]:
    """The dashboard as it is."""
    parsed: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return parsed


def panels() -> Iterator[dict[str, Any]]:
    """What shows something."""
    return (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def drawn() -> list[Expression]:
    """The dashboard's expressions, with its variables filled in as Grafana would."""
    found = []
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"]
            for variable, value in _VARIABLES.items():
                text = text.replace(variable, value)
            found.append(Expression(f"{panel['id']} {panel['title']} {target['refId']}", text))
    return found


def ruled() -> list[Expression]:
    """The rules' expressions."""
    return [Expression(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]


def exported() -> dict[str, set[str]]:
    """Each series of the service and of the recording rules, with the labels it may have."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for suffix in _SUFFIXES[str(metric._type)]:
                found[metric._name + suffix] = {*metric._labelnames, *_TARGETS}
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = grouping(rule["expr"])
    return found


def grouping(text: str) -> set[str]:
    """The labels that the outermost aggregation leaves; those of the first, in a quotient."""
    kept = re.search(r"\bby \(([^)]*)\)", text)
    assert kept is not None, text
    return {label.strip() for label in kept[1].split(",")} - {"le"}


def series(text: str) -> set[str]:
    """The names of the series in an expression."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", " ", bare)
    names = re.findall(r"(?<![\w:.])([A-Za-z_:][\w:]*)(?!\s*\()(?![\w:])", bare)
    return set(names) - _WORDS


def unknown(text: str) -> set[str]:
    """What an expression names, and nobody exports: series, and labels of series."""
    known = exported()
    found = {name for name in series(text) if name not in known and name not in _NOT_OURS}
    for name, selector in re.findall(r"([A-Za-z_:][\w:]*)\{([^}]*)\}", text):
        wanted = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        if name in known:
            found |= {f"{name}{{{label}}}" for label in wanted - known[name]}
    labels = set().union(*(known.get(name, {"alertname", *_TARGETS}) for name in series(text)))
    for listed in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", text):
        found |= {label.strip() for label in listed.split(",")} - labels - {""}
    return found


def section(anchor: str) -> str | None:
    """The text under the runbook's heading that has this anchor."""
    for heading, text in re.findall(r"^##+ (.+)\n((?:(?!^##).*\n?)*)", RUNBOOK, re.MULTILINE):
        if re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") == anchor:
            return str(text)
    return None


def squeezed(text: str) -> str:
    """Without what is only layout."""
    return re.sub(r"\s+", " ", text).replace("( ", "(").replace(" )", ")").strip()
