"""Runs the workers as it stands::

    celery -A celeryconfig worker -Q recent-workflows --prefetch-multiplier=1
    celery -A celeryconfig worker -Q recent-workflows-backfill --prefetch-multiplier=1  # while history is filled
    celery -A celeryconfig beat

A host with a Celery app of its own needs only ``workflows_tasks.queues.configure(app)``; see docs/install.md.

Environment:

- ``DJANGO_SETTINGS_MODULE``: the host's settings; ``demo.settings`` by default.
- ``CELERY_BROKER_URL``: ``redis://localhost:6379/0`` by default; any URL Celery takes.
- ``CELERY_SERIALIZER``: ``json`` by default; ``pickle`` for a host that accepts nothing else.
- ``CELERY_REDELIVERY_S``: seconds after which Redis gives the message of a dead worker to another; 60 by default.
- ``CELERY_MAX_TASKS_PER_CHILD``: tasks a worker process runs before it is replaced; unlimited by default.
- ``WORKER_ALIVE``: a file that a living worker touches every two seconds; none by default.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery
from celery.signals import heartbeat_sent

from workflows_tasks.queues import configure

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

broker_url = os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0")
serializer = os.environ.get("CELERY_SERIALIZER", "json")
redelivery_s = float(os.environ.get("CELERY_REDELIVERY_S", "60"))
max_tasks_per_child = os.environ.get("CELERY_MAX_TASKS_PER_CHILD")
alive = os.environ.get("WORKER_ALIVE")

app = Celery("recent_workflows")
app.conf.update(
    broker_url=broker_url,
    broker_connection_retry_on_startup=True,
    task_serializer=serializer,
    accept_content=[serializer],
    task_ignore_result=True,
    # One message at a time: a flush that waits behind others in a busy process is late.
    worker_prefetch_multiplier=1,
    worker_max_tasks_per_child=int(max_tasks_per_child) if max_tasks_per_child else None,
)
if broker_url.startswith(("redis://", "rediss://", "sentinel://", "unix://", "socket://", "redis+socket://")):
    app.conf.broker_transport_options = {
        # Must outlast the longest task and countdown, or its message is delivered twice.
        "visibility_timeout": redelivery_s,
        # Without these Redis is asked for lost messages so rarely that redelivery took 102 s at a timeout of 3 s.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
app.autodiscover_tasks()
configure(app)


@heartbeat_sent.connect
def touch(**_: object) -> None:
    if alive:
        Path(alive).touch()
