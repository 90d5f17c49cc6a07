"""Live traffic comes first, and why a backfill waits can be read."""

from __future__ import annotations

import re

import pytest

from backfill import control, throttle, worker
from backfill.throttle import Effect, Reason, Throttle
from tests.backfill.given import TABLE, History, assert_complete, carried_out, locked, planned
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import flush_all
from tests.sessions import execute
from tests.threads import beside, until_waiting
from workflows_tasks.models import CHANGES

pytestmark = pytest.mark.host_independent

said: list[str | None] = []


def of_the_host() -> str | None:
    """What ``BACKFILL_THROTTLE`` names in these tests."""
    return said[-1] if said else None


def failing() -> str | None:
    raise RuntimeError("no idea")


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    said.clear()


def waiting_for(seconds: float) -> None:
    """The oldest change of the log has waited for so long."""
    execute(f'UPDATE "{CHANGES}" SET at = clock_timestamp() - make_interval(secs => %s)', [seconds])


def test_the_change_log(history: History, configure: Configure) -> None:
    configure(BACKFILL_TICK_S=29.0)  # a tick that is late here must not be the reason
    assert throttle.look() == Throttle()
    history.saved(history.heavy)
    backfill = planned()
    for seconds, effect in ((1.0, Effect.NONE), (3.0, Effect.SHED), (12.0, Effect.STOP)):
        waiting_for(seconds)
        assert throttle.look().effect == effect
    assert worker.work(backfill.pk) is False
    progress = control.status(backfill.pk)
    assert (progress.fill.done, progress.waits, progress.runs_per_s) == (0, True, None)
    assert re.match(r"live changes wait for 1[2-9]\.", progress.reasons[0])
    flush_all()
    configure(BACKFILL_TICK_S=0.2)
    assert_complete(history, carried_out(backfill))


def test_a_change_log_that_cannot_be_asked_keeps_it_from_growing(live: Host) -> None:
    execute(f'ALTER TABLE "{CHANGES}" RENAME TO elsewhere')
    try:
        seen = throttle.look()
    finally:
        execute(f'ALTER TABLE elsewhere RENAME TO "{CHANGES}"')
    assert (seen.effect, seen.may_grow, seen.stops) == (Effect.HOLD, False, False)
    assert str(seen).startswith("the change log cannot be asked (")


def test_a_replica_that_is_behind(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has none, so another statement stands for what it would say."""
    monkeypatch.setattr(throttle, "_REPLICA", "SELECT 'far away', 12.0::float8")
    assert str(throttle.look()) == "replica far away is 12.0 s behind (limit 10 s)"
    assert throttle.look().stops
    monkeypatch.setattr(throttle, "_REPLICA", "SELECT nothing")
    assert throttle.look().effect == Effect.HOLD


def test_sessions_that_wait_to_write_the_table(history: History) -> None:
    """A flush waits for rows that another transaction holds."""
    history.saved(history.heavy, minutes=5)
    flush_all()
    history.saved(history.heavy)
    with beside() as start:
        with locked(f'SELECT FROM "{TABLE}" FOR UPDATE'):
            flushing = start(flush_all)
            until_waiting(1)
            assert throttle.look() == Throttle((Reason(Effect.SHED, "1 sessions that write the table wait for locks"),))
        flushing.result(20)
    assert throttle.look() == Throttle()


def test_a_callable_of_the_hosts_own(history: History, configure: Configure) -> None:
    configure(BACKFILL_THROTTLE=f"{__name__}.of_the_host", BACKFILL_TICK_S=29.0)
    backfill = planned()
    said.append("month-end closing")
    assert worker.work(backfill.pk) is False
    assert control.status(backfill.pk).reasons == ["month-end closing"]
    assert control.tick() == (backfill.pk, 0)
    assert control.status(backfill.pk).fill.done == 0
    said.append(None)
    configure(BACKFILL_TICK_S=0.2)
    assert_complete(history, carried_out(backfill))


def test_a_callable_that_fails_keeps_it_from_growing(live: Host, configure: Configure) -> None:
    configure(BACKFILL_THROTTLE=f"{__name__}.failing")
    assert throttle.look().reasons == (Reason(Effect.HOLD, f"{__name__}.failing failed (RuntimeError: no idea)"),)


@pytest.mark.parametrize(
    ("effect", "now", "wanted", "concurrency"),
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
def test_the_concurrency(effect: Effect, now: int, wanted: int, concurrency: int) -> None:
    assert Throttle((Reason(effect, "why"),)).concurrency(now, wanted) == concurrency


def test_a_tick_sheds_one_chunk_at_a_time_and_grows_back(history: History, configure: Configure) -> None:
    configure(BACKFILL_TICK_S=1e-6)
    history.saved(history.heavy)
    backfill = planned(concurrency=3)
    seen = []
    for seconds in (3.0, 3.0, 3.0, 0.0, 0.0, 0.0):
        waiting_for(seconds)
        control.tick()
        seen.append(control.get(backfill.pk).current_concurrency)
    assert seen == [2, 1, 1, 2, 3, 3]
