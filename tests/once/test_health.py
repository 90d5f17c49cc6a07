"""``recent_workflows health``: one word for a probe, and the reason for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from tests.conftest import Configure
from tests.hosts.adapter import Host
from workflows_tasks import health, inbox


def asked(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    """Its exit status, and each part's finding."""
    code = 0
    try:
        call_command("recent_workflows", "health", "--json", *options)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, {found["part"]: found for found in json.loads(capsys.readouterr().out)}


def test_all_is_well(live: Host, capsys: pytest.CaptureFixture[str]) -> None:
    inbox.add({"1": 0})
    code, found = asked(capsys)
    assert code == 0
    assert all(each["well"] for each in found.values())
    assert set(found) == {"database", "redis", "pending", "claims"}


@pytest.mark.parametrize("claimed", [False, True])
def test_what_waits_too_long(live: Host, capsys: pytest.CaptureFixture[str], *, claimed: bool) -> None:
    inbox.add({"1": 3})
    if claimed:
        inbox.claim(3)
    code, found = asked(capsys, "--oldest", "0")
    assert code == 1
    assert [part for part, each in found.items() if not each["well"]] == ["claims" if claimed else "pending"]
    assert "in shard 3" in found["claims" if claimed else "pending"]["seen"]


def test_without_redis(live: Host, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    configure(REDIS_URL="redis://127.0.0.1:1/0")
    code, found = asked(capsys)
    assert code == 1
    assert not found["redis"]["well"]
    assert "REDIS_URL" in found["redis"]["seen"]


@pytest.fixture
def no_table(live: Host) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE workflows_tasks_bookmark RENAME TO elsewhere")
        yield
        cursor.execute("ALTER TABLE elsewhere RENAME TO workflows_tasks_bookmark")


def test_a_database_that_was_not_migrated(no_table: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = asked(capsys)
    assert code == 1
    assert "UndefinedTable" in found["database"]["seen"] or "does not exist" in found["database"]["seen"]


def test_the_default_is_longer_than_any_one_loss_takes(configure: Configure) -> None:
    configure(CLAIM_LEASE_S=100.0, RESCUE_PERIOD_S=20.0)
    assert health.oldest_allowed_s() == 240.0
