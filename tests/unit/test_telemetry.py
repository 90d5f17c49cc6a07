"""Lines of the log: words for people, and their values as fields of the record for formatters that write JSON."""

from __future__ import annotations

import inspect
import json
import logging
from typing import Any

import pytest

from workflows_tasks.monitoring import telemetry

pytestmark = pytest.mark.host_independent

ERROR = ValueError("broken\nand more")
OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime"}

LINES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "slice_flushed": (
        {"shard": 3, "changes": 2, "counts": {"rows_advanced": 4, "rows_removed": 0}, "took_s": 0.0123},
        "flushed shard=3 changes=2 took_s=0.012 rows_advanced=4",
        {"shard": 3, "changes": 2, "took_s": 0.0123, "rows_advanced": 4, "rows_removed": 0},
    ),
    "flush_failed": (
        {"error": ERROR, "shard": 3},
        "flush failed shard=3 error=ValueError: broken; its changes stay in the log",
        {"shard": 3, "error": "ValueError: broken"},
    ),
    "flush_recovered": ({"shard": 0}, "flush recovered shard=0", {"shard": 0}),
    "quarantined": (
        {"shard": 1, "what": "run=7\n", "why": "100 % wrong"},
        r"change quarantined shard=1 run=7\n error=100 % wrong (see: manage.py recent_workflows status)",
        {"shard": 1, "what": r"run=7\n", "error": "100 % wrong"},
    ),
    "scope_split": (
        {"shard": 1, "what": "workflow=7", "parts": 5},
        "scope split shard=1 workflow=7 parts=5",
        {"shard": 1, "what": "workflow=7", "parts": 5},
    ),
    "messages_lost": ({"shards": [1, 4]}, "flush messages lost shards=1,4: sent again", {"shards": "1,4"}),
    "drift_found": (
        {"differences": 2, "first": {"run": 7}},
        "drift=2 differences that no change explains; they are repaired. First: {'run': 7}",
        {"drift": 2, "first": "{'run': 7}"},
    ),
    "range_not_compared": (
        {"what": "workspaces 1-9", "error": ERROR},
        "not compared workspaces 1-9 error=ValueError: broken",
        {"what": "workspaces 1-9", "error": "ValueError: broken"},
    ),
    "capture_problems": ({"problems": ["50 % missing"]}, "capture: 50 % missing", {"problem": "50 % missing"}),
    "capture_recovered": ({}, "capture: all writes are captured again", {}),
    "capture_turned_off": ({}, "capture: turned off; writes from now on leave no change", {}),
    "capture_not_installed": ({"why": "no right"}, "capture: not installed: no right", {"error": "no right"}),
    "rescan_begun": (
        {"reason": "capture was off"},
        "rescan: every workspace is looked at again, because capture was off",
        {"reason": "capture was off"},
    ),
    "settings_changed": (
        {},
        (
            "settings: models, path, filter or grains differ from those that the table was kept for; "
            "run: manage.py recent_workflows triggers --install"
        ),
        {},
    ),
    "periodic_failed": (
        {"error": ERROR, "task": "tick"},
        "tick failed error=ValueError: broken; the next one tries again",
        {"task": "tick", "error": "ValueError: broken"},
    ),
    "worker_is_slow": ({"worker": "w@h", "why": "replaces it"}, "worker w@h replaces it", {"worker": "w@h"}),
    "nudge_failed": (
        {"what": "Redis", "error": ERROR, "pause_s": 5.0},
        (
            "Redis does not answer; saves go on, and the tick finds their changes. Next try in 5 s. "
            "error=ValueError: broken"
        ),
        {"what": "Redis", "pause_s": 5.0, "error": "ValueError: broken"},
    ),
    "nudge_recovered": ({"what": "The broker"}, "The broker answers again", {"what": "The broker"}),
}
"""Function: what it is told, its line, its fields."""


class AsJson(logging.Formatter):
    """As formatters for JSON do it: the message, and whatever a record has beyond what every record has."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in OF_EVERY_RECORD}
        return json.dumps({"line": record.getMessage(), "from": record.funcName, "fields": fields})


@pytest.mark.parametrize("name", LINES)
def test_a_line_and_its_fields(name: str, caplog: pytest.LogCaptureFixture) -> None:
    told, line, fields = LINES[name]
    caplog.set_level("INFO", "workflows_tasks")
    getattr(telemetry, name)(**told)
    (record,) = caplog.records
    assert json.loads(AsJson().format(record)) == {"line": line, "from": name, "fields": fields}


def test_every_line_is_in_the_table() -> None:
    speaking = {
        name for name, function in inspect.getmembers(telemetry, inspect.isfunction)
        if function.__module__ == telemetry.__name__ and {"say", "log"}.intersection(function.__code__.co_names)
    }  # fmt: skip
    assert speaking == {*LINES, "say"}
