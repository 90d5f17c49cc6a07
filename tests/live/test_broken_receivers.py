"""What follows a save or a delete is broken: the write goes on, somebody is told, and it is counted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hosts.adapter import Host
from workflows_tasks import announcements, inbox, tally


def fails(*_: Any, **__: Any) -> None:
    raise RuntimeError("broken, as a test says")


@pytest.fixture
def run(live: Host, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run that was saved while all was well."""
    made = live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    for name in ("gather", "announce"):
        monkeypatch.setattr(announcements, name, fails)
    return made


def told(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.message.startswith("a run was not announced") for record in caplog.records)


def counted() -> float:
    return sum(shard.stats.get("save_failures", 0) for shard in inbox.status())


def test_a_save_and_a_delete_go_on(live: Host, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    live.save_again(run)
    assert (told(caplog), counted()) == (1, 1)
    run.delete()
    assert (told(caplog), counted()) == (2, 2)
    assert not live.run_model._base_manager.exists()


def test_a_queryset_goes_on(live: Host, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    announcements.announce_or_report([run], using="default")
    assert (told(caplog), counted()) == (1, 1)


def test_while_redis_is_left_alone_it_is_counted_later(live: Host, run: Any) -> None:
    announcements._breaker.fail(60)
    live.save_again(run)
    assert counted() == 0
    assert tally.taken() == {"save_failures": 1}
