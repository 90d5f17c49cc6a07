"""Redis emptied while saved runs wait in it: the sweep finds them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from demo.servers import Valkey
from tests.conftest import Configure
from tests.endurance.kills import SHORT, SLACK_S, Ensemble, Kill, Scene, exact, seconds_until_settled, settled
from tests.hosts.adapter import Host
from tests.waiting import until
from workflows_tasks import conf

SWEPT = {**SHORT, "SWEEP_PERIOD_S": 5.0, "FLUSH_WINDOW_S": 1.0, "MARKER_S": 2.0}


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
