"""Ways to reach Redis and the broker: sockets, options, users with few rights, failover, forks, other schedulers."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from django.db import connections

from demo.servers import Process, Valkey, free_port
from tests import programs
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.integration.nudge.conftest import Taken, perform
from tests.integration.nudge.test_redis_outage import times_logged
from tests.waiting import until
from workflows_tasks.capture import nudge
from workflows_tasks.models import Shard
from workflows_tasks.projection import chain
from workflows_tasks.tasks import flush

pytestmark = pytest.mark.host_independent

REDIS_PY = tuple(map(int, version("redis").split(".")))


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Valkey that listens on a unix socket only."""
    if REDIS_PY < (4, 5, 4):
        pytest.skip("redis-py 4.5.2 and 4.5.3 cannot use a unix socket at all")
    directory = tmp_path_factory.mktemp("unix")
    path = directory / "r.sock"
    server = Process(
        [str(programs.valkey()), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(directory)],
        directory / "valkey.log",
    )
    server.start(path.exists)
    yield path
    server.stop()


def marker_is_kept(live: Host, run: Any, taken: Taken, client: Any, marker: str) -> bool:
    """A save takes the marker; what a flush makes of it is there too; the end of a chain drops it."""
    live.save_again(run)
    is_set = client.exists(marker)
    perform(*taken())
    is_kept = client.pttl(marker) > 1_000 * nudge.GRACE_S - 5_000
    perform(*taken())
    return bool(is_set and is_kept and not client.exists(marker))


@pytest.mark.parametrize("options", ["", "?protocol=2", "?protocol=3", "?protocol=3&decode_responses=True"])
def test_options_of_the_url(
    live: Host, run: Any, taken: Taken, quiet: None, configure: Configure, alone: str, shard: int, options: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if "protocol" in options and REDIS_PY < (5,):
        pytest.skip("redis-py chooses a protocol since 5.0")
    configure(REDIS_URL=os.environ["REDIS_URL"] + options)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.delete(f"{alone}:{shard}")
        assert marker_is_kept(live, run, taken, client, f"{alone}:{shard}")
    assert not times_logged(caplog, "Redis does not")


def test_a_unix_socket(
    live: Host, run: Any, taken: Taken, quiet: None, configure: Configure, socket: Path, alone: str, shard: int
) -> None:
    configure(REDIS_URL=f"unix://{socket}?db=2&socket_timeout=9")
    with redis.Redis(unix_socket_path=str(socket), db=2) as client:
        assert marker_is_kept(live, run, taken, client, f"{alone}:{shard}")


def test_a_user_who_may_touch_the_prefix_and_nothing_else(
    live: Host,
    run: Any,
    taken: Taken,
    quiet: None,
    configure: Configure,
    alone: str,
    shard: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The rights that docs/install.md names: keys that start with KEY_PREFIX, and four commands."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        rights = ["on", ">secret", f"~{alone}*", "-@all", "+set", "+pttl", "+del", "+ping"]
        # What redis-py says to every server when it connects; it does without an answer to the last.
        client.execute_command("ACL", "SETUSER", alone, *rights, "+@connection")
        client.delete(f"{alone}:{shard}")
        try:
            configure(REDIS_URL=os.environ["REDIS_URL"].replace("//", f"//{alone}:secret@"))
            assert marker_is_kept(live, run, taken, client, f"{alone}:{shard}")
            assert list(nudge.answers()) == []
            client.execute_command("ACL", "SETUSER", alone, "resetkeys", "~another*")
            live.save_again(run)
            assert times_logged(caplog, "Redis does not answer") == 1, "a key of another name is not allowed"
        finally:
            client.execute_command("ACL", "DELUSER", alone)


def test_keys_of_no_other_prefix_are_touched(
    live: Host, run: Any, taken: Taken, quiet: None, own_redis: Valkey, alone: str, shard: int
) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        assert marker_is_kept(live, run, taken, client, f"{alone}:{shard}")
        live.save_again(run)
        assert {key.decode() for key in client.scan_iter()} == {f"{alone}:{shard}"}


def test_a_failover_list_whose_first_broker_is_dead(
    live: Host, run: Any, quiet: None, shard: int, celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch,
    taken: Taken, alone: str, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Celery itself takes the second; so does a save."""
    second = os.environ["CELERY_BROKER_URL"]
    monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{free_port()}/1;{second}")
    live.save_again(run)
    nudge.reset()
    monkeypatch.setenv("CELERY_BROKER_URL", second)
    assert [message.payload[0][0] for message in taken()] == [shard]
    assert not times_logged(caplog, "The broker does not answer")


@pytest.mark.parametrize("scheme", ["redis", "redis+socket"])
def test_children_forked_after_the_first_save(
    live: Host, celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch, alone: str, taken: Taken, scheme: str,
    request: pytest.FixtureRequest, configure: Configure,
) -> None:  # fmt: skip
    """As ``gunicorn --preload`` makes them: each saves over connections of its own, and knows of no failure before."""
    if scheme == "redis+socket":
        monkeypatch.setenv("CELERY_BROKER_URL", f"redis+socket://{request.getfixturevalue('socket')}")
    fields = {"workflow": live.make_workflow(), "user": live.make_user()}

    def save(times: int) -> None:
        for _ in range(times):
            live.make_run(workspace=live.make_workspace(), **fields)

    save(2)
    nudge._redis.failed(OSError("of the parent, before the fork"))
    nudge._redis._away_until_s = 0.0
    connections.close_all()

    def save_in_child() -> None:
        assert nudge._failures == 0, "of the parent"
        save(15)

    children = [_forked(save_in_child) for _ in range(3)]
    save(15)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert live.run_model._base_manager.count() == 2 + 4 * 15
    sent = [message.payload[0] for message in taken()]
    assert {shard for shard, _ in sent} == set(range(8))
    carried = sum(failures for _, failures in sent)
    assert carried + nudge._failures == 1, "the parent's, once, with its next message if it has sent one"


def _forked(function: Callable[[], Any]) -> int:
    """Call it in a child, which ends without a word to pytest; returns the child's process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def test_celery_without_utc(
    live: Host, run: Any, quiet: None, celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch, taken: Taken,
    shard: int, configure: Configure,
) -> None:  # fmt: skip
    """A delay of a second is a second, in whatever zone its time is written."""
    from datetime import datetime, timezone

    monkeypatch.setitem(celery_app_in_process.conf, "enable_utc", False)
    monkeypatch.setitem(celery_app_in_process.conf, "timezone", "America/New_York")
    configure(FLUSH_WINDOW_S=15.0)
    for _ in range(chain.CHANGES_A_WINDOW):
        live.save_again(run)
    flush(shard)
    at_once, later = taken()
    assert at_once.headers["eta"] is None
    due = datetime.fromisoformat(later.headers["eta"])
    assert due.tzinfo is not None
    assert 5 < (due - datetime.now(timezone.utc)).total_seconds() <= 15


def test_messages_of_beat_expire_whoever_sends_them(live: Host, alone: str, taken: Taken, configure: Configure) -> None:
    """django-celery-beat drops what an entry says, and knows whole seconds only: so the task itself expires."""
    from backfill.tasks import tick as backfill_tick
    from workflows_tasks import tasks
    from workflows_tasks.queues import beat_schedule

    configure(TICK_PERIOD_S=2.5, AUDIT_STEP_S=60.0)
    for task, period_s in ((tasks.tick, 2.5), (tasks.audit, 60.0), (backfill_tick, 2.5)):
        assert task.expires == 5 * period_s
        task.apply_async(queue=alone)  # without the options of its entry, as that scheduler sends it
    assert all(message.headers["expires"] for message in taken())
    assert {entry["options"]["expires"] for entry in beat_schedule().values()} >= {12.5, 300.0}
    Shard.objects.all().delete()


@pytest.mark.usefixtures("redis_as_broker")
def test_an_expired_tick_is_not_run(live: Host, alone: str, celery_app_in_process: Celery) -> None:
    """Forty of them after an outage of the workers are one look."""
    from tests import broker
    from tests.integration.nudge.worker import working
    from workflows_tasks import tasks
    from workflows_tasks.models import Installation

    tasks.tick.apply_async(queue=alone, expires=-1)
    with working(celery_app_in_process, alone):
        until(lambda: broker.waiting(celery_app_in_process, alone) == 0)
    assert not Installation.objects.filter(ticked_at__isnull=False).exists()
