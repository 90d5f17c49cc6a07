"""The tables, the inbox and the messages of each release so far, read by the code as it is now."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all, stored
from tests.upgrade import scene
from workflows_tasks import flush, inbox, repair

RELEASES = sorted(path.name for path in scene.HERE.iterdir() if (path / "schema.sql").exists())
FIRST = {"workflows_tasks": "0001_initial", "backfill": "0001_initial"}
"""The migrations that a release had applied; each release after adds to them."""


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> Path:
    return scene.HERE / str(request.param)


@pytest.fixture
def upgraded(live: Host, release: Path) -> Iterator[list[tuple[Any, ...]]]:
    """The release's tables, with the migrations that came since; returns the schema of a new installation."""
    fresh = scene.schema()
    ours = [app for app in scene.APPS if apps.is_installed(app)]
    for app in reversed(ours):
        call_command("migrate", app, "zero", verbosity=0)
    assert scene.tables() == []
    with connection.cursor() as cursor:
        cursor.execute((release / "schema.sql").read_text())
    for app in ours:
        MigrationRecorder(connection).record_applied(app, FIRST[app])
    call_command("migrate", verbosity=0)
    yield fresh
    for app in reversed(ours):
        call_command("migrate", app, "zero", verbosity=0)
    call_command("migrate", verbosity=0)


def test_its_tables_become_those_of_a_new_installation(upgraded: list[tuple[Any, ...]]) -> None:
    assert scene.schema() == upgraded
    assert len(stored()) == 2
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)


def test_its_inbox_is_flushed_and_its_numbers_go_on(
    live: Host, upgraded: list[tuple[Any, ...]], release: Path, alone: str, configure: Configure
) -> None:
    scene.make_runs()
    shard = inbox.shard_of(1)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        scene.write(client, alone, json.loads((release / "inbox.json").read_text()))
    before = inbox.status()[shard]
    assert (before.pending, before.claims, before.aside, before.scheduled) == (2, 1, 1, True)
    assert before.stats["flushes"] == 1
    assert "must be an integer" in inbox.aside(shard)["no number"]["why"]
    configure(CLAIM_LEASE_S=1.0, FLUSH_TIME_LIMIT_S=0.9)  # however lately it was frozen
    assert flush.rescue(shard) == 1
    configure(CLAIM_LEASE_S=30.0, FLUSH_TIME_LIMIT_S=20.0)
    flush_all()
    after = inbox.status()[shard]
    assert (after.pending, after.claims, after.aside) == (0, 0, 1)
    assert after.stats["flushes"] > before.stats["flushes"]
    assert len(assert_exact(live)) == 6
    assert repair.sweep() == 0, "from where the release's own sweep had come"


def test_its_messages_are_understood(
    live: Host, upgraded: list[tuple[Any, ...]], release: Path, celery_app_in_process: Celery
) -> None:
    celery_app_in_process.loader.import_default_modules()
    messages = json.loads((release / "messages.json").read_text())
    assert messages
    for message in messages:
        task = celery_app_in_process.tasks[message["task"]]
        assert task.apply(args=message["args"], kwargs=message["kwargs"]).successful()
