"""Live traffic comes first, and why a backfill waits can be read."""

from __future__ import annotations

import re

import pytest

from backfill import control, throttle, worker
from tests.backfill.given import History, assert_complete, carry_out, plan_backfill
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import flush_all
from tests.sessions import execute
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
    configure(TICK_PERIOD_S=29.0, BACKFILL_STOP_S=4.0)  # a tick that is late here must not be the reason
    assert throttle.reasons_to_wait() == []
    history.save_run(history.heavy)
    backfill = plan_backfill()
    waiting_for(1.0)
    assert throttle.reasons_to_wait() == []
    waiting_for(12.0)
    assert worker.work(backfill.pk) is False
    progress = control.status(backfill.pk)
    assert (progress.fill.done, progress.waits, progress.runs_per_s) == (0, True, None)
    assert re.match(r"live changes wait for 1[2-9]\.", progress.reasons[0])
    flush_all()
    configure(TICK_PERIOD_S=0.2, BACKFILL_STOP_S=600.0)
    assert_complete(history, carry_out(backfill))


def test_a_change_log_that_cannot_be_asked_is_a_reason(live: Host) -> None:
    execute(f'ALTER TABLE "{CHANGES}" RENAME TO renamed')
    try:
        (reason,) = throttle.reasons_to_wait()
    finally:
        execute(f'ALTER TABLE renamed RENAME TO "{CHANGES}"')
    assert reason.startswith("the change log cannot be asked (")


def test_a_replica_that_is_behind(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has none, so another statement stands for what it would say."""
    monkeypatch.setattr(throttle, "_REPLICA", "SELECT 'far away', 12.0::float8")
    assert throttle.reasons_to_wait() == ["replica far away is 12.0 s behind (limit 10 s)"]
    monkeypatch.setattr(throttle, "_REPLICA", "SELECT nothing")
    assert throttle.reasons_to_wait()[0].startswith("replicas cannot be asked (")


def test_a_callable_of_the_hosts_own(history: History, configure: Configure) -> None:
    configure(BACKFILL_THROTTLE=f"{__name__}.of_the_host", TICK_PERIOD_S=29.0)
    backfill = plan_backfill()
    said.append("month-end closing")
    assert worker.work(backfill.pk) is False
    assert control.status(backfill.pk).reasons == ["month-end closing"]
    assert control.tick() == (backfill.pk, 0)
    assert control.status(backfill.pk).fill.done == 0
    said.append(None)
    configure(TICK_PERIOD_S=0.2)
    assert_complete(history, carry_out(backfill))


def test_a_callable_that_fails_is_a_reason(live: Host, configure: Configure) -> None:
    configure(BACKFILL_THROTTLE=f"{__name__}.failing")
    assert throttle.reasons_to_wait() == ["BACKFILL_THROTTLE cannot be asked (RuntimeError: no idea)"]
