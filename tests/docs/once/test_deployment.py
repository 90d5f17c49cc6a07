"""What is in deploy/ and beside it: linted, and compared with the code it is about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.directives import metrics
from tests.commands import ROOT, python
from tests.docs.pages import DOCS
from tests.programs import of_the_system
from workflows_tasks.prometheus import exposition

BIN = Path(sys.executable).parent
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/recent-workflows.json").read_text())


def ran(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def metric_names(expression: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\brecent_workflows_\w+", expression)}


def test_the_dockerfile() -> None:
    assert ran(BIN / "hadolint", "Dockerfile") == ""
    final = (ROOT / "Dockerfile").read_text().rpartition("FROM ")[2]
    assert re.search(r"^USER (?!0\b|root\b)\w+$", final, re.MULTILINE), "it must not run as root"
    assert "HEALTHCHECK" in final


def test_the_dockerfile_copies_what_there_is() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split()), line


def test_compose() -> None:
    ran(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert {"web", "worker", "beat"} <= set(services)
    # The web process has the image's own.
    assert [name for name, service in services.items() if "healthcheck" not in service] == ["web"]


def test_the_web_process_of_compose() -> None:
    show = "from deploy.wsgi import application; from celery import current_app; print(application, current_app.main)"
    code, output = python("-c", show, env={"DJANGO_SETTINGS_MODULE": "demo.settings"})
    assert code == 0, output
    assert "WSGIHandler" in output
    assert "recent_workflows" in output


def test_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/srv/proj/.venv/bin", str(BIN)))
    nodes = re.findall(r" worker -n (\S+)", "".join(unit.read_text() for unit in UNITS))
    assert len(nodes) == len(set(nodes)) == 2, "two of one name on a machine answer for each other"
    assert ran(of_the_system("systemd-analyze"), "verify", *(tmp_path / unit.name for unit in UNITS)) == ""


def test_the_rules() -> None:
    assert "SUCCESS" in ran(of_the_system("promtool"), "check", "rules", metrics.RULES)


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    cases = ROOT / "tests" / "docs" / "alerts.yml"
    assert "SUCCESS" in ran(of_the_system("promtool"), "test", "rules", cases)
    assert all(rule["alert"] in cases.read_text() for rule in metrics.alerts())


def test_the_exposition_is_what_prometheus_reads() -> None:
    linted = subprocess.run(
        [of_the_system("promtool"), "check", "metrics"], input=exposition(), text=True, capture_output=True, check=False
    )
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


def test_the_rules_watch_metrics_that_there_are_and_name_a_page() -> None:
    exposed = {metric.name for metric in metrics.exposed()}
    for rule in metrics.alerts():
        assert metric_names(rule["expr"]) <= exposed, rule["alert"]
        assert (DOCS / rule["annotations"]["runbook"]).exists(), rule["alert"]


def test_the_dashboard_shows_every_metric_and_none_that_there_is_not() -> None:
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in metric_names(expression)}
    assert shown == {metric.name for metric in metrics.exposed()}


def test_the_dashboard_is_one() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(p["gridPos"]["x"] + dx, p["gridPos"]["y"]) for p in panels for dx in range(p["gridPos"]["w"])]
    assert len(set(places)) == len(places), "two panels in one place"
    assert max(x for x, _ in places) < 24
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels), "the importer chooses"
    assert all(panel["title"] and panel["description"] for panel in panels)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_the_workflows_of_github(workflow: Path) -> None:
    ran(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)
