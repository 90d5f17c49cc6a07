"""Live traffic comes first, and why a backfill waits can be read."""

from __future__ import annotations

from typing import Any

import pytest

from backfill import leases, runner, throttle, work
from backfill.throttle import Effect, Reason, Throttle
from tests.backfill.history import History, assert_complete, carried_out, planned
from tests.conftest import Configure
from tests.hosts.adapter import Host
from workflows_tasks import inbox
from workflows_tasks.errors import InboxUnavailable

said: list[str | None] = []


def of_the_host() -> str | None:
    """What ``BACKFILL_THROTTLE`` names in these tests."""
    return said[-1] if said else None


def failing() -> str | None:
    raise RuntimeError("no idea")


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    said.clear()


def pending_for(monkeypatch: pytest.MonkeyPatch, age_s: float) -> None:
    shard = inbox.ShardStatus(0, 1, age_s, scheduled=True, claims=0, oldest_claim_s=None, aside=0, last_flush_s=None,
                              stats={})  # fmt: skip
    monkeypatch.setattr(inbox, "status", lambda: [shard])


@pytest.mark.parametrize(
    ("age_s", "effect", "text"),
    [
        (1.0, Effect.NONE, ""),
        (2.5, Effect.SHED, "live runs wait for 2.5 s (limit 2 s)"),
        (11.0, Effect.STOP, "live runs wait for 11.0 s (limit 10 s)"),
    ],
)
def test_the_live_inbox(live: Host, monkeypatch: pytest.MonkeyPatch, age_s: float, effect: Effect, text: str) -> None:
    pending_for(monkeypatch, age_s)
    seen = throttle.look()
    assert (seen.effect, str(seen)) == (effect, text)


def test_the_real_inbox_with_runs_that_nobody_flushes(history: History, configure: Configure) -> None:
    configure(BACKFILL_SHED_S=1e-6, BACKFILL_STOP_S=2e-6)
    history.saved(history.heavy)
    run = planned()
    assert work.work(run.pk) is False
    seen = runner.status(run.pk)
    assert seen.fill.done == 0
    assert seen.reasons[0].startswith("live runs wait for ")
    configure(BACKFILL_SHED_S=2.0, BACKFILL_STOP_S=10.0)
    assert_complete(history, carried_out(run))


def test_an_inbox_that_does_not_answer_keeps_it_from_growing(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Any:
        raise InboxUnavailable("not there")

    monkeypatch.setattr(inbox, "status", gone)
    seen = throttle.look()
    assert (seen.effect, seen.may_grow, seen.stops) == (Effect.HOLD, False, False)
    assert str(seen) == "the live inbox cannot be asked (InboxUnavailable: not there)"


def test_a_replica_that_is_behind(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert throttle.look() == Throttle()
    monkeypatch.setattr(throttle, "_REPLICA", "SELECT 'far away', 12.0::float8")
    assert str(throttle.look()) == "replica far away is 12.0 s behind (limit 10 s)"
    assert throttle.look().stops
    monkeypatch.setattr(throttle, "_REPLICA", "SELECT nothing")
    assert throttle.look().effect == Effect.HOLD


def test_sessions_that_wait_to_write_the_table(history: History) -> None:
    """A flush waits for rows that another transaction holds."""
    from tests.exactness.stepping import Actor, locked
    from tests.oracle import flush_all
    from workflows_tasks import announce
    from workflows_tasks.models import WorkspaceRecentWorkflow

    history.saved(history.heavy, minutes=5)
    flush_all()
    newest = history.saved(history.heavy)
    announce([newest])
    with locked(f"SELECT FROM {WorkspaceRecentWorkflow._meta.db_table} FOR UPDATE"):
        flushing = Actor(flush_all).stands()
        assert flushing.waits
        assert throttle.look() == Throttle((Reason(Effect.SHED, "1 sessions that write the table wait for locks"),))
    flushing.finish()
    assert throttle.look() == Throttle()


def test_a_callable_of_the_hosts_own(history: History, configure: Configure) -> None:
    configure(BACKFILL_THROTTLE="tests.backfill.test_throttle.of_the_host")
    run = planned()
    said.append("month-end closing")
    assert work.work(run.pk) is False
    assert runner.status(run.pk).reasons == ["month-end closing"]
    assert runner.tick() == (0, 0) or runner.status(run.pk).fill.done == 0
    said.append(None)
    assert_complete(history, carried_out(run))


def test_a_callable_that_fails_keeps_it_from_growing(live: Host, configure: Configure) -> None:
    configure(BACKFILL_THROTTLE="tests.backfill.test_throttle.failing")
    assert throttle.look().reasons == (
        Reason(Effect.HOLD, "tests.backfill.test_throttle.failing failed (RuntimeError: no idea)"),
    )


@pytest.mark.parametrize(
    ("effect", "now", "wanted", "width"),
    [
        (Effect.NONE, 1, 4, 2),
        (Effect.NONE, 4, 4, 4),
        (Effect.NONE, 4, 2, 2),
        (Effect.HOLD, 1, 4, 1),
        (Effect.SHED, 4, 4, 3),
        (Effect.SHED, 1, 4, 1),
        (Effect.STOP, 4, 4, 3),
    ],
)
def test_the_width(effect: Effect, now: int, wanted: int, width: int) -> None:
    assert Throttle((Reason(effect, "why"),)).width(now, wanted) == width


def test_a_tick_sheds_one_chunk_at_a_time_and_grows_back(
    history: History, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(BACKFILL_TICK_S=1e-6)
    run = planned(parallel=3)
    pending_for(monkeypatch, 3.0)
    widths = []
    for age_s in (3.0, 3.0, 3.0, 0.0, 0.0, 0.0):
        pending_for(monkeypatch, age_s)
        runner.tick()
        widths.append(runner.get(run.pk).width)
    assert widths == [2, 1, 1, 2, 3, 3]
    assert leases.claim(run.pk) is not None
