"""Rules, dashboard and runbook agree with each other and with what the service exports."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.infra.monitoring import (
    PROMETHEUS,
    ROOT,
    RUNBOOK,
    Expression,
    alerts,
    dashboard,
    drawn,
    exported,
    load,
    panels,
    ruled,
    section,
    series,
    squeezed,
    unknown,
)

from poller.settings import Settings
from poller.watch import STUCK_SECONDS

_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
PROMTOOL = shutil.which("promtool", path=_PATH)

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: deploy/prometheus/install gets it"
)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *arguments], capture_output=True, text=True, timeout=600, check=False
    )


def is_parsed(expressions: list[Expression], directory: Path) -> bool:
    """Whether Prometheus can read them all."""
    rules = [{"record": f"r{i}", "expr": e.text} for i, e in enumerate(expressions)]
    (directory / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]})
    )
    return promtool("check", "rules", directory / "rules.yml").returncode == 0


@needs_promtool
@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-local.yml"])
def test_a_configuration_is_one(name: str) -> None:
    """With the rules that it names."""
    checked = promtool("check", "config", PROMETHEUS / name)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout


@needs_promtool
@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda p: p.stem)
def test_rules_do_what_they_are_for(path: Path) -> None:
    """As their own tests say, which are run by Prometheus's own engine."""
    tested = promtool("test", "rules", path)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_has_two_situations() -> None:
    """One in which it must fire and one, close to it, in which it must not."""
    situations = [one["name"] for one in load(PROMETHEUS / "tests/alerts_test.yml")["tests"]]
    text = " ".join(situations)

    for alert in alerts():
        assert f"{alert} fires" in text or f"{alert} says" in text, alert
        assert f"{alert} is silent" in text, alert


@needs_promtool
def test_an_alert_that_never_fires_is_noticed(tmp_path: Path) -> None:
    """Whichever it is: here all are broken, and the situation of each fails."""
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    path = tmp_path / "prometheus" / "rules" / "alerts.yml"
    broken = load(path)
    for rule in (rule for group in broken["groups"] for rule in group["rules"]):
        rule["expr"] = "vector(0) > 1"
    path.write_text(yaml.safe_dump(broken))

    tested = promtool("test", "rules", tmp_path / "prometheus" / "tests" / "alerts_test.yml")

    missed = re.findall(r'alertname="(\w+)"', tested.stdout + tested.stderr)
    assert set(missed) == set(alerts())


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_says_what_to_do(alert: str) -> None:
    """Its summary, its description, and a section of the runbook with the same expression."""
    rule = alerts()[alert]
    said = rule["annotations"]
    document, _, anchor = said["runbook_url"].partition("#")
    found = section(anchor)

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert said["summary"]
    assert said["description"]
    assert document == "{{ $externalLabels.runbook }}"
    assert found is not None
    assert f"`{alert}`" in found
    assert squeezed(rule["expr"]) in squeezed(found)


@pytest.mark.parametrize("path", sorted(PROMETHEUS.glob("*.yml")), ids=lambda p: p.stem)
def test_a_page_links_the_runbook(path: Path) -> None:
    """Its address is told once, to all alerts, and is no label of theirs."""
    config = load(path)
    telling = config.get("alerting")
    dropped = [{"regex": "runbook", "action": "labeldrop"}]

    assert list(config["global"]["external_labels"]) == ["runbook"]
    assert "#" not in config["global"]["external_labels"]["runbook"]
    assert telling is None or telling["alert_relabel_configs"] == dropped


def test_the_runbook_knows_no_other_alert() -> None:
    """One that is gone would be looked for."""
    assert set(re.findall(r"`(Poller[A-Z]\w+)`", RUNBOOK)) == set(alerts())


@pytest.mark.parametrize("expression", [*ruled(), *drawn()], ids=lambda e: e.where)
def test_an_expression_names_what_is_exported(expression: Expression) -> None:
    """Series of the service or of the recording rules, and labels that they have."""
    assert series(expression.text)
    assert unknown(expression.text) == set()


@pytest.mark.parametrize("expression", ruled(), ids=lambda e: e.where)
def test_a_rule_keeps_environments_apart(expression: Expression) -> None:
    """One Prometheus may watch several; nothing is added up over them."""
    for listed in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression.text):
        assert "environment" in listed.split(", ")
    assert not re.search(r"\b(?:sum|max|min|avg|count)\s*\(", expression.text)


def test_cloudwatch_names_the_same_sections() -> None:
    """Its alarms tell of what Prometheus cannot see, and lead to the same runbook."""
    told = (ROOT / "terraform/modules/alarms/main.tf").read_text("utf-8")
    named = re.findall(r"Runbook: \${var\.runbook}#([\w-]+)", told)

    assert len(named) == told.count("Runbook: ") >= 7
    assert [anchor for anchor in named if section(anchor) is None] == []


@needs_promtool
def test_what_the_runbook_asks_is_parsed(tmp_path: Path) -> None:
    """Its queries beside the alerts, too, and they name what is exported."""
    fences = re.findall(r"```promql\n(.*?)```", RUNBOOK, re.DOTALL)
    asked = [Expression("runbook", text) for text in fences]

    assert len(asked) > len(alerts())
    assert is_parsed(asked, tmp_path)
    assert set().union(*(unknown(one.text) for one in asked)) == set()


@needs_promtool
def test_every_expression_of_the_dashboard_is_parsed(tmp_path: Path) -> None:
    """With its variables filled in."""
    assert is_parsed(drawn(), tmp_path)


@needs_promtool
@pytest.mark.parametrize(
    "text",
    ["sum(rate(poller_errors_total[5m])", "rate(poller_errors_total)", "poller_slots by (job)"],
)
def test_what_is_no_promql_is_refused(text: str, tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    assert not is_parsed([Expression("planted", text)], tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rate(poller_errors[5m])", "poller_errors"),
        ("rate(poller_error_total[5m])", "poller_error_total"),
        ("poller_stage_seconds", "poller_stage_seconds"),
        ('poller_queue_messages{queu="main"}', "poller_queue_messages{queu}"),
        ("sum by (verdikt) (rate(poller_messages_settled_total[5m]))", "verdikt"),
        ("environment:poller_slots:max > 1", "environment:poller_slots:max"),
        ('environment:poller_slots:sum{queue="main"}', "environment:poller_slots:sum{queue}"),
    ],
)
def test_what_nobody_exports_is_found(text: str, named: str) -> None:
    """A misspelt series or label would draw an empty panel, and an alert that never fires."""
    assert unknown(text) == {named}


def test_every_metric_is_looked_at() -> None:
    """By a panel or by a rule; one that nobody looks at need not be exported."""
    used = set().union(*(series(one.text) for one in [*ruled(), *drawn()]))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}

    unseen = {name for name in families if not any(one.startswith(name) for one in used)}
    assert unseen == set()


def test_alerts_use_the_numbers_of_the_service_and_of_terraform() -> None:
    """A number that is changed in one place is changed in all."""
    settings = {name: field.default for name, field in Settings.model_fields.items()}
    terraform = (ROOT / "terraform/modules/stack/variables.tf").read_text("utf-8")
    defaults = {
        name: float(number)
        for name, number in re.findall(
            r'variable "(\w+)" \{[^}]*?default\s*= (\d+)\n', terraform, re.DOTALL
        )
    }
    numbers = {
        name: [float(n) for n in re.findall(r"(?:[<>]=?) ([\d.]+)", rule["expr"])]
        for name, rule in alerts().items()
    }

    assert numbers["PollerDrainLong"] == [settings["drain_seconds"]]
    assert 3 * settings["wait_time_seconds"] in numbers["PollerReceivesNothing"]
    assert numbers["PollerVideoStuck"] == [STUCK_SECONDS]
    assert numbers["PollerLeaseShort"] == [
        settings["lease_seconds"] - 2 * settings["heartbeat_seconds"]
    ]
    assert numbers["PollerHeartbeatsLate"][0] < settings["lease_seconds"] / 2
    assert numbers["PollerQueueDeep"] == [defaults["alarm_depth"]]
    assert numbers["PollerDuplicates"][-1] == defaults["duplicates_per_video"]


def test_dns_names_are_those_that_terraform_makes() -> None:
    """One for each environment, which the relabelling calls by its name."""
    environments = sorted(p.parent.name for p in ROOT.glob("terraform/environments/*/main.tf"))
    made = [
        re.findall(r'\n  name = "([\w-]+)"', (ROOT / path).read_text("utf-8"))[0]
        for path in (f"terraform/environments/{name}/main.tf" for name in environments)
    ]
    service = (ROOT / "terraform/modules/service/main.tf").read_text("utf-8")
    (job, *_) = load(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    (relabel,) = job["relabel_configs"]

    assert 'name        = "${var.name}.internal"' in service
    assert 'name = "poller"' in service
    assert discovery["names"] == [f"poller.{name}.internal" for name in made]
    assert discovery["port"] == Settings.model_fields["http_port"].default
    for name, environment in zip(discovery["names"], environments, strict=True):
        match = re.fullmatch(relabel["regex"], name)
        assert match is not None
        assert match[1] == environment


def test_ecs_discovery_differs_in_nothing_but_the_discovery() -> None:
    """The other file is not forgotten when one is changed."""
    by_dns, by_ecs = (load(PROMETHEUS / f"prometheus{kind}.yml") for kind in ("", "-ecs"))
    dns, ecs = by_dns["scrape_configs"][0], by_ecs["scrape_configs"][0]
    (discovery,) = ecs["aws_sd_configs"]

    assert discovery["port"] == dns["dns_sd_configs"][0]["port"]
    assert {*dns} - {*ecs} == {"dns_sd_configs"}
    for job in (dns, ecs):
        for key in ("dns_sd_configs", "aws_sd_configs", "relabel_configs"):
            job.pop(key, None)
    assert by_dns == by_ecs


def test_panels_can_be_read() -> None:
    """Each says what it shows and in which unit, and none lies on another."""
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        grid = panel["gridPos"]
        area = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not area & cells, panel["title"]
        assert max(x for x, _ in area) < 24
        cells |= area
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))


def test_panels_use_the_variables() -> None:
    """Each keeps to the chosen environment and source; the price is asked for."""
    variables = {one["name"] for one in dashboard()["templating"]["list"]}

    assert variables == {"datasource", "environment", "price"}
    for panel in panels():
        for target in panel["targets"]:
            selected = re.findall(r"(?:\w+:)?poller_[\w:]+(\{[^}]*\})?", target["expr"])
            assert all('environment=~"$environment"' in one for one in selected), panel["title"]
            assert target["datasource"]["uid"] == "${datasource}"
    assert any("$price" in target["expr"] for panel in panels() for target in panel["targets"])


def test_compose_mounts_what_there_is() -> None:
    """And Grafana finds its dashboard where compose puts it."""
    compose = load(ROOT / "deploy" / "compose.monitoring.yaml")["services"]
    mounts = [v.split(":") for one in compose.values() for v in one["volumes"]]
    provider = load(ROOT / "deploy/grafana/provisioning/dashboards/video-poller.yaml")
    (source,) = load(ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml")[
        "datasources"
    ]
    named = {source["url"], source["jsonData"]["timeInterval"]}

    assert all((ROOT / "deploy" / here).is_dir() for here, *_ in mounts)
    assert provider["providers"][0]["options"]["path"] in {there for _, there, _ in mounts}
    assert {name.removeprefix("$") for name in named} <= {*compose["grafana"]["environment"]}
