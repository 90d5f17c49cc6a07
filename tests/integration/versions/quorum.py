"""Celery's configuration for quorum queues, as its documentation has it. ``CELERY_CONFIG_MODULE`` names this module.

A countdown is then waited for by the broker, in queues of Celery's own. It needs topic exchanges.
"""

from __future__ import annotations

task_default_queue_type = "quorum"
task_default_exchange_type = "topic"
task_create_missing_queue_type = "quorum"
task_create_missing_queue_exchange_type = "topic"
