"""SIGKILL at every step between a save and the acknowledgement of its flush: the table is exact within 45 seconds.

Without the help of sweep and audit, which beat leaves alone here. With the settings a host gets by default the 45 are
the lease of a claim (30), the rescuer's period (10), a flush window (1), and 4 for everything else; with the short
ones used for most of the matrix the same sum is shorter. ``python -m tests.endurance.kill_matrix`` prints the times.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from demo.servers import Valkey
from tests.conftest import Configure
from tests.endurance import fatal
from tests.endurance.kills import Ensemble, Kill, Scene, exact, save_and_die, seconds_until_settled, settled
from tests.endurance.steps import FLUSH
from tests.hosts.adapter import Host
from tests.waiting import until
from workflows_tasks import conf

NEVER_S = 1e6
ALONE = {"SWEEP_PERIOD_S": NEVER_S, "AUDIT_STEP_S": NEVER_S, "AUDIT_PERIOD_S": NEVER_S}
SHORT = {**ALONE, "FLUSH_TIME_LIMIT_S": 2.5, "CLAIM_LEASE_S": 3.0, "RESCUE_PERIOD_S": 1.0, "MARKER_S": 1.5,
         "FLUSH_WINDOW_S": 0.5, "SHARDS": 1}  # fmt: skip
SWEPT = {**SHORT, "SWEEP_PERIOD_S": 5.0, "FLUSH_WINDOW_S": 1.0, "MARKER_S": 2.0}
AS_SHIPPED = {**ALONE, "MARKER_S": 8.0, "FLUSH_WINDOW_S": 1.0}
SLACK_S = 4.0

SAVING = [fatal.ADDED, fatal.MARKED]
IN_A_WORKER = [fatal.WAITING, *FLUSH, f"after the claim{fatal.ALONE}", f"lowered, before the commit{fatal.ALONE}"]
EXACT_AT_THE_KILL = {"before the second look for stale rows", "before the acknowledgement"}


def bound_s() -> float:
    settings = conf.settings()
    return settings.claim_lease_s + settings.rescue_period_s + settings.flush_window_s + SLACK_S


@pytest.mark.workers(**SHORT)
@pytest.mark.timeout(400)
def test_killed_at_any_step(
    live: Host, node_env: dict[str, str], alone: str, tmp_path: Path, matrix: list[Kill]
) -> None:
    with Ensemble(tmp_path, alone, node_env) as ensemble:
        for step in SAVING:
            ensemble.ready()
            matrix.append(_saving_killed(ensemble, live, step))
        for step in IN_A_WORKER:
            ensemble.ready()
            matrix.append(_worker_killed(ensemble, live, step, "short"))
            ensemble.replace_the_dead()


@pytest.mark.workers(**AS_SHIPPED)
@pytest.mark.timeout(120)
def test_with_the_settings_of_a_host_it_takes_less_than_45_seconds(
    live: Host, node_env: dict[str, str], alone: str, tmp_path: Path, matrix: list[Kill]
) -> None:
    assert bound_s() == 45
    with Ensemble(tmp_path, alone, node_env) as ensemble:
        ensemble.ready()
        matrix.append(_worker_killed(ensemble, live, "after the claim", "default"))


def _worker_killed(ensemble: Ensemble, live: Host, step: str, settings: str) -> Kill:
    scene = Scene(live)
    until(lambda: settled(live))
    ensemble.order(step)
    scene.change()
    killed_at_s = ensemble.killed_at_s()
    assert exact(live) == (step in EXACT_AT_THE_KILL), f"{step}: killed elsewhere"
    took_s = seconds_until_settled(live, since_s=killed_at_s, within_s=bound_s())
    return Kill(f"flush: {step}", settings, took_s, bound_s())


def _saving_killed(ensemble: Ensemble, live: Host, step: str) -> Kill:
    scene = Scene(live)
    until(lambda: settled(live))
    ensemble.order(step)
    assert save_and_die(scene.stays, ensemble.order_file, ensemble.env) == -signal.SIGKILL
    took_s = seconds_until_settled(live, since_s=ensemble.killed_at_s(), within_s=bound_s())
    return Kill(f"saving: {step}", "short", took_s, bound_s())


@pytest.fixture
def own_redis(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    """A server of this test's own for inbox and broker, which keeps nothing when it is killed."""
    server = Valkey(tmp_path / "valkey")
    server.start()
    monkeypatch.setenv("CELERY_BROKER_URL", f"{server.url.removesuffix('/0')}/1")
    configure(REDIS_URL=server.url)
    yield server
    server.stop()


@pytest.mark.workers(**SWEPT)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["every key deleted", "the server killed, and started anew"])
def test_redis_emptied(
    live: Host, own_redis: Valkey, node_env: dict[str, str], alone: str, tmp_path: Path, matrix: list[Kill], how: str
) -> None:
    with Ensemble(tmp_path, alone, node_env) as ensemble:
        ensemble.ready()
        scene = Scene(live)
        until(lambda: settled(live))
        scene.change()
        emptied_at_s = time.time()
        if how == "every key deleted":
            _delete_keys(own_redis.url)
        else:
            own_redis.stop()
            own_redis.start()
        assert not exact(live), "flushed before Redis was emptied"
        # The sweep leaves alone what was used within two windows, which a flush may be about to write.
        bound_s = SWEPT["SWEEP_PERIOD_S"] + 3 * SWEPT["FLUSH_WINDOW_S"] + SLACK_S
        took_s = seconds_until_settled(live, since_s=emptied_at_s, within_s=bound_s)
        matrix.append(Kill(f"Redis emptied: {how}", "sweep on", took_s, bound_s))


def _delete_keys(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(f"{{{conf.settings().key_prefix}:*"))
        assert keys
        client.unlink(*keys)
