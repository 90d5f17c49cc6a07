"""What is in deploy/ and beside it: linted, and compared with the code it is about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ROOT, python
from tests.programs import of_the_system
from workflows_tasks.monitoring import telemetry
from workflows_tasks.monitoring.prometheus import PREFIX

pytestmark = pytest.mark.host_independent

BIN = Path(sys.executable).parent
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
RULES = ROOT / "deploy" / "prometheus" / "recent_workflows.rules.yml"
CASES = Path(__file__).parent / "alerts.yml"
PANELS: list[dict[str, Any]] = json.loads((ROOT / "deploy/grafana/recent-workflows.json").read_text())["panels"]
METRICS = {
    PREFIX + name
    for name in (
        "up", *telemetry.GAUGES, *telemetry.PROCESS_GAUGES, *telemetry.HISTOGRAMS,
        *(f"{name}_total" for name in telemetry.COUNTERS),
    )
}  # fmt: skip


def _ran(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _metrics_in(text: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(rf"\b{PREFIX}\w+", text)}


def _rules() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load(RULES.read_text())["groups"][0]["rules"])


def test_the_image_runs_without_rights_and_copies_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert _ran(BIN / "hadolint", "Dockerfile") == ""
    final = text.rpartition("FROM ")[2]
    assert re.search(r"^USER (?!0\b|root\b)\w+$", final, re.MULTILINE), "it must not run as root"
    assert "HEALTHCHECK" in final
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split()), line


def test_compose() -> None:
    yaml = pytest.importorskip("yaml")
    _ran(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert {"web", "worker", "beat"} <= set(services)
    # The web process has the image's own.
    assert [name for name, service in services.items() if "healthcheck" not in service] == ["web"]


def test_the_web_process_of_compose_sends_through_the_hosts_app() -> None:
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
    assert _ran(of_the_system("systemd-analyze"), "verify", *(tmp_path / unit.name for unit in UNITS)) == ""


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    assert "SUCCESS" in _ran(of_the_system("promtool"), "test", "rules", CASES)
    assert all(rule["alert"] in CASES.read_text() for rule in _rules())


def test_the_rules_watch_metrics_that_there_are_and_name_a_page() -> None:
    for rule in _rules():
        assert _metrics_in(rule["expr"]) <= METRICS, rule["alert"]
        assert (ROOT / "docs" / rule["annotations"]["runbook"]).exists(), rule["alert"]


def test_the_dashboard_shows_every_metric_and_none_that_there_is_not() -> None:
    assert _metrics_in(json.dumps([panel["targets"] for panel in PANELS])) == METRICS
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [(p["gridPos"]["x"] + dx, p["gridPos"]["y"]) for p in PANELS for dx in range(p["gridPos"]["w"])]
    assert len(set(places)) == len(places), "two panels in one place"
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in PANELS), "the importer chooses"
