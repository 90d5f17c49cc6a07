"""What is in Redis is not trusted: ids that no flush can write are set aside, and hold up nothing."""

from __future__ import annotations

import os
from io import StringIO
from typing import Any

import pytest
import redis
from django.core.management import call_command

from tests import hosts
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from workflows_tasks import inbox


@pytest.fixture
def good(live: Host, configure: Configure) -> Any:
    """A saved run that waits in the one shard."""
    configure(SHARDS=1)
    return live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())


@pytest.mark.parametrize("number", range(len(hosts.current().poison)))
def test_one_bad_id_does_not_block_the_others(live: Host, good: Any, number: int) -> None:
    inbox.add({live.poison[number]: 0})
    flush_all()
    assert len(assert_exact(live)) == 2
    (shard,) = inbox.status()
    assert (shard.pending, shard.claims, shard.aside) == (0, 0, 1)
    (entry,) = inbox.aside(0).values()
    assert entry["why"]
    assert entry["since_ms"] > 0


def test_many_bad_ids_among_many_good(live: Host, good: Any, caplog: pytest.LogCaptureFixture) -> None:
    keys = live.make_runs(
        500, workspaces=[live.make_workspace()], workflows=[live.make_workflow()], users=[live.make_user()]
    )
    inbox.add({str(key): 0 for key in keys[:250]} | dict.fromkeys(live.poison, 0) | {str(k): 0 for k in keys[250:]})
    flush_all()
    assert_exact(live)
    (shard,) = inbox.status()
    assert (shard.pending, shard.claims, shard.aside) == (0, 0, len(live.poison))
    told = [record for record in caplog.records if record.message.startswith("run set aside")]
    assert len(told) == len(live.poison)
    assert shard.stats["set_aside"] == len(live.poison)


def test_bytes_that_are_no_text_do_not_block_the_others(
    live: Host, good: Any, alone: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor do they break a log file, or an operator's terminal."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.zadd(f"{{{alone}:0}}:pending", {b"\xff\xfe\n\x1b[2J": 1})
    flush_all()
    assert len(assert_exact(live)) == 2
    (shard,) = inbox.status()
    assert (shard.pending, shard.claims, shard.aside) == (0, 0, 1)
    (logged,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    out = StringIO()
    call_command("recent_workflows", "status", stdout=out, no_color=True)
    shown = out.getvalue().splitlines()[-1]
    for told in (logged, shown):
        assert r"\udcff\udcfe\n\x1b[2J" in told
        assert told.encode().decode().isprintable()


def test_what_was_set_aside_can_be_taken_back(live: Host, good: Any) -> None:
    inbox.add(dict.fromkeys(live.poison, 0))
    flush_all()
    assert inbox.retry_aside(0) == len(live.poison)
    (shard,) = inbox.status()
    assert (shard.pending, shard.aside) == (len(live.poison), 0)
    flush_all()
    assert inbox.status()[0].aside == len(live.poison)
