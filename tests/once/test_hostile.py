"""What SECURITY.md says about values from elsewhere: they cannot make the table say what is not true, nor stop it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command

from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from workflows_tasks import announce, announcements, conf, inbox, recent_workflows, tally
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.flush import flush, rescue
from workflows_tasks.models import WorkspaceRecentWorkflow

NO_KEYS: list[Any] = [
    "1; DROP TABLE bots_savedrun",
    "1 OR 1=1",
    "1\0",
    "9" * 5_000,
    "",
    "1e400",
    {},
    10**30,
    -(2**80),
]

SCOPES = [
    "\0",
    "\0rows",
    "\0rows:0:workspace",
    "\0rows:0:workspace:not a number",
    "\0rows:0:id:1",
    "\0rows:0:state__secret:1",
    "\0runs:0:parent_version__published_run__title__startswith:S",
    "\0drop:0:workspace:1",
    "\0rows:99999:workspace:" + "9" * 5_000,
]
"""Like what waits for a deleted workspace, but naming what is none of its business."""


@pytest.fixture
def planted(live: Host, configure: Configure, alone: str) -> Iterator[redis.Redis]:
    """A saved run that waits in the one shard, and Redis for whoever can write to it."""
    configure(SHARDS=1)
    live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        yield client


def assert_well(live: Host) -> None:
    flush_all()
    assert len(assert_exact(live)) == 2
    call_command("recent_workflows", "status")
    call_command("recent_workflows", "metrics")


def test_a_counter_that_is_no_number_keeps_nobody_from_announcing(live: Host, planted: redis.Redis, alone: str) -> None:
    for shard in range(conf.settings().shards):
        planted.hset(f"{{{alone}:{shard}}}:stats", mapping={"save_failures": "many", "dropped": "many"})
    tally.add("save_failures")
    run = live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    assert inbox.where_is([str(run.pk)])
    assert not announcements._kept, "Redis was taken for one that does not answer"
    assert any(shard.scheduled for shard in inbox.status()), "and no flush message was sent"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_that_is_none(live: Host, planted: redis.Redis, alone: str, scope: str) -> None:
    planted.zadd(f"{{{alone}:0}}:pending", {scope: 1})
    assert_well(live)
    assert inbox.status()[0].aside == 1


def test_a_scope_that_is_one_only_has_something_looked_at(live: Host, planted: redis.Redis, alone: str) -> None:
    planted.zadd(f"{{{alone}:0}}:pending", {"\0rows:0:workspace:1": 1, "\0runs:0:parent_version:1": 1})
    assert_well(live)
    assert inbox.status()[0].aside == 0


@pytest.mark.parametrize("value", [b"many", b"nan", b"", b"\xff", b"1e999"])
def test_counters_that_are_no_numbers(live: Host, planted: redis.Redis, alone: str, value: bytes) -> None:
    planted.hset(f"{{{alone}:0}}:stats", mapping={b"healed": value, b"last_flush_ms": value, b"\xff": value})
    call_command("recent_workflows", "status")
    call_command("recent_workflows", "metrics")


@pytest.mark.parametrize("why", [b"no JSON", b"[]", b'{"why": {}}', b"\xff", b"[" * 100_000])
def test_reasons_that_are_none(live: Host, planted: redis.Redis, alone: str, why: bytes) -> None:
    planted.hset(f"{{{alone}:0}}:aside", mapping={"7": why})
    assert_well(live)
    call_command("recent_workflows", "drain", "--retry")


def test_claims_that_nobody_took(live: Host, planted: redis.Redis, alone: str) -> None:
    planted.zadd(f"{{{alone}:0}}:claims", {b"": 0, b"x}:pending": 0, b"\xff": 0, b"../../etc": 0})
    rescue(0)
    assert_well(live)
    assert inbox.status()[0].claims == 0


def test_text_that_would_forge_a_log_or_command_a_terminal(
    live: Host, planted: redis.Redis, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    inbox.add({"1\nERROR all is lost \x1b[2J": 0})
    flush_all()
    call_command("recent_workflows", "status")
    told = capsys.readouterr().out + "".join(record.getMessage() for record in caplog.records)
    assert "\x1b" not in told
    assert "\nERROR" not in told
    assert "all is lost" in told


@pytest.mark.parametrize("shard", [-1, 10**12, "0", "0}:x", None])
def test_a_message_for_a_shard_that_there_is_not(live: Host, planted: redis.Redis, shard: Any) -> None:
    flush(shard)
    assert_well(live)


@pytest.mark.parametrize("key", NO_KEYS, ids=range(len(NO_KEYS)))
def test_announced_keys_that_are_none(live: Host, key: Any) -> None:
    with pytest.raises(InvalidArgument):
        announce([key])
    assert not inbox.status()[0].pending


@pytest.mark.parametrize("key", NO_KEYS, ids=range(len(NO_KEYS)))
def test_workspaces_that_are_none(live: Host, key: Any) -> None:
    try:
        assert not list(recent_workflows(key, "anna"))
    except InvalidArgument:
        return


@pytest.mark.parametrize("user", ["' OR ''='", "%", "anna\0", "\ud800", "x" * 100_000])
def test_users_that_are_none(live: Host, user: str) -> None:
    live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user="anna")
    flush_all()
    workspace = WorkspaceRecentWorkflow.objects.values_list("workspace_id", flat=True)[0]
    try:
        assert not list(recent_workflows(workspace, user))
    except InvalidArgument:
        return


@pytest.mark.parametrize("text", ["1;DROP TABLE x-2", "a-b", "1", "1-\0"])
def test_ranges_that_are_none(live: Host, text: str) -> None:
    with pytest.raises(CommandError, match="no range of workspaces"):
        call_command("recent_workflows", "verify", f"--workspaces={text}")
