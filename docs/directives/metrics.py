"""``{metrics}``: every metric, from the tables of ``telemetry``, each with the alerts of ``deploy/`` that watch it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from docutils.parsers.rst import directives

from docs.directives.written import Written, entry
from workflows_tasks.monitoring import telemetry
from workflows_tasks.monitoring.prometheus import PREFIX

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "recent_workflows.rules.yml"


class Metric(NamedTuple):
    """A metric as Prometheus shows it, and what it tells."""

    name: str
    kind: str
    meaning: str


def exposed() -> list[Metric]:
    """All of them."""
    return [
        Metric(f"{PREFIX}up", "gauge", telemetry.UP),
        *(Metric(f"{PREFIX}{name}", "gauge, by shard", meaning) for name, meaning in telemetry.GAUGES.items()),
        *(Metric(f"{PREFIX}{name}", "gauge", meaning) for name, meaning in telemetry.PROCESS_GAUGES.items()),
        *(Metric(f"{PREFIX}{name}", "histogram", meaning) for name, meaning in telemetry.HISTOGRAMS.items()),
        *(Metric(f"{PREFIX}{name}_total", "counter", meaning) for name, meaning in telemetry.COUNTERS.items()),
    ]


def alerts() -> list[dict[str, Any]]:
    """The alerts that ``deploy/`` ships."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


class MetricsReference(Written):
    """``:alerts:`` shows the alerts instead."""

    option_spec = {"alerts": directives.flag}

    def markdown(self) -> Iterable[str]:
        return self._alerts() if "alerts" in self.options else self._metrics()

    def _alerts(self) -> Iterator[str]:
        for rule in alerts():
            notes, lasting = rule["annotations"], f" for {rule['for']}" if "for" in rule else ""
            summary = re.sub(r"{{ \$value.*?}}", "N", notes["summary"])
            page = notes["runbook"]
            yield from entry(
                "alert",
                rule["alert"],
                f"`{rule['alert']}` · {rule['labels']['severity']}",
                summary,
                f"`{rule['expr']}`{lasting}. What to do: [{page.removesuffix('.md')}](../{page}).",
            )

    def _metrics(self) -> Iterator[str]:
        for metric in exposed():
            watching = [rule["alert"] for rule in alerts() if re.search(rf"\b{metric.name}(_bucket)?\b", rule["expr"])]
            named = ", ".join(f"[{alert}](#alert-{alert.lower()})" for alert in watching)
            alerted = f"Alert: {named}." if named else ""
            yield from entry("metric", metric.name, f"`{metric.name}` · {metric.kind}", metric.meaning, alerted)
