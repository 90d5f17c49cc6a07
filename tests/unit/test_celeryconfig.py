"""``celeryconfig.py`` runs the workers as it stands, and takes what differs from the environment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.commands import python

pytestmark = pytest.mark.host_independent

SHOW = """
import json
from celeryconfig import app
names = ["broker_url", "task_serializer", "accept_content", "worker_prefetch_multiplier", "worker_max_tasks_per_child",
         "broker_transport_options", "task_ignore_result"]
shown = {name: app.conf[name] for name in names}
shown["queues"] = [queue.name for queue in app.conf.task_queues]
shown["beat"] = sorted(entry["task"] for entry in app.conf.beat_schedule.values())
app.loader.import_default_modules()
shown["tasks"] = sorted(name for name in app.tasks if not name.startswith("celery."))
print(json.dumps(shown))
"""


def shown(**env: str) -> dict[str, Any]:
    code, output = python("-c", SHOW, env=env)
    assert code == 0, output
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def test_on_redis() -> None:
    conf = shown(CELERY_BROKER_URL="redis://broker:6379/3")
    assert conf["broker_url"] == "redis://broker:6379/3"
    assert conf["queues"] == ["celery", "recent-workflows", "recent-workflows-backfill"]
    assert "workflows_tasks.tasks.tick" in conf["beat"]
    assert set(conf["beat"]) | {"workflows_tasks.tasks.flush", "backfill.tasks.work"} <= set(conf["tasks"])
    assert conf["worker_prefetch_multiplier"] == 1
    assert conf["task_ignore_result"] is True
    assert (conf["task_serializer"], conf["accept_content"]) == ("json", ["json"])
    assert conf["broker_transport_options"] == {
        "visibility_timeout": 60.0,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }


def test_on_rabbitmq_with_pickle_and_a_task_per_child() -> None:
    conf = shown(CELERY_BROKER_URL="amqp://guest@broker//", CELERY_SERIALIZER="pickle", CELERY_MAX_TASKS_PER_CHILD="1")
    assert conf["broker_transport_options"] == {}
    assert (conf["task_serializer"], conf["accept_content"]) == ("pickle", ["pickle"])
    assert conf["worker_max_tasks_per_child"] == 1


def test_the_redelivery_time() -> None:
    conf = shown(CELERY_BROKER_URL="redis://broker/0", CELERY_REDELIVERY_S="90")
    assert conf["broker_transport_options"]["visibility_timeout"] == 90.0


def test_a_time_that_is_none_is_refused() -> None:
    code, output = python("-c", "import celeryconfig", env={"CELERY_REDELIVERY_S": "soon"})
    assert code == 1
    assert "could not convert string to float: 'soon'" in output


@pytest.mark.parametrize("module", ["workflows_tasks", "celeryconfig"])
def test_importing_needs_no_server(module: str) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    env = {"REDIS_URL": nowhere, "CELERY_BROKER_URL": nowhere, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    code, output = python("-c", f"import django; django.setup(); import {module}", env=env)
    assert (code, output) == (0, "")
