"""The nudge: after the commit of a save, see that a flush of its shard is to come.

The first save after a pause is flushed at once, further ones once a window; without saves nothing is sent. Redis holds
one marker a shard. It says that a flush is to come, and its time to live says when (it ends ``GRACE_S`` later). While a
process knows that a flush is due later, it asks nobody: that flush includes whatever it commits until then, because a
flush never comes early. While Redis does not answer, or is not configured, each process sends at most about one message
a window and shard.

Nothing depends on a nudge. The tick finds every change that has no flush to come.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import redis
from celery import Celery, current_app, signature
from django.apps import apps
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_save
from django.utils.module_loading import import_string
from kombu import Connection
from kombu.pools import producers
from redis.backoff import NoBackoff
from redis.retry import Retry

from workflows_tasks import conf, keys, queues
from workflows_tasks.host import Host, host
from workflows_tasks.monitoring import spans, telemetry

FLUSH: Final = "workflows_tasks.tasks.flush"

GRACE_S: Final = 8.0
"""Seconds past its due time after which a flush counts as lost, and its marker goes."""

WORKER_TIMEOUT_S: Final = 1.0
"""Seconds a worker waits for Redis. It is patient: a marker that it fails to drop silences savers until a tick."""

ONE_RETRY: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""One more attempt, at once: the pooled connection may be from before a restart of the broker."""


class _Service:
    """Redis or the broker, as this process knows it. After a failure it is left alone for a while, and logged once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._away_until_s = 0.0

    @property
    def is_away(self) -> bool:
        return time.monotonic() < self._away_until_s

    def failed(self, error: BaseException) -> None:
        global _failures
        _failures += 1
        if not self._away_until_s:
            telemetry.nudge_failed(self._name, error, pause_s=conf.settings().pause_s)
        self._away_until_s = time.monotonic() + conf.settings().pause_s

    def answered(self) -> None:
        if self._away_until_s:
            self._away_until_s = 0.0
            telemetry.nudge_recovered(self._name)


_redis = _Service("Redis")
_broker = _Service("The broker")
_due_s: dict[int, float] = {}
"""The gate: when the next flush of a shard is due, by this process's clock."""
_failures = 0
"""Failures that no flush message has carried to the counters yet."""


def reset() -> None:
    """Forget what this process knows: after a fork, and between tests."""
    global _redis, _broker, _failures
    _redis, _broker, _failures = _Service("Redis"), _Service("The broker"), 0
    _due_s.clear()


os.register_at_fork(after_in_child=reset)


def connect(the_host: Host) -> None:
    """Nudge after every Django save of a run, also by a proxy, a child or a multi-table parent of its model."""
    for model in apps.get_models():
        if issubclass(model, the_host.run) or model in the_host.run._meta.parents:
            post_save.connect(_nudge_after_save, sender=model, dispatch_uid="workflows_tasks.nudge")


def _nudge_after_save(*, instance: Model, using: str, update_fields: frozenset[str] | None, **_: Any) -> None:
    the_host = host()
    if using != the_host.database or (update_fields is not None and update_fields.isdisjoint(_relevant(the_host))):
        return
    # Not by getattr, which would load a deferred field.
    workspace = instance.__dict__.get(the_host.workspace.attname)
    if workspace is None:
        return
    try:
        shard = _shard_of(workspace)
    except Exception:  # whatever a host's own field raises; only the database must judge what is saved
        return
    if shard is not None:
        # No partial: it has no __qualname__, which Django logs if a robust hook raises.
        transaction.on_commit(lambda: nudge(shard), using=using, robust=True)


@conf.cached
def _shard_of(workspace: Any) -> int | None:
    """The shard of a workspace's key; None where only PostgreSQL knows its text."""
    text = keys.as_text(host().workspace, workspace)
    return None if text is None else keys.shard_of(text, conf.settings().shards)


@conf.cached
def _relevant(the_host: Host) -> frozenset[str]:
    """Names under which ``save(update_fields=...)`` may change what a row of ours says."""
    reads = [field for prefix, field in the_host.filter_reads.fields if not prefix]
    fields = [the_host.workspace, the_host.user, the_host.path[0], the_host.used_at, *reads]
    return frozenset(name for field in fields for name in (field.name, getattr(field, "attname", field.name)))


def nudge(shard: int) -> None:
    """See that a flush of a shard is to come. Never raises. In an outage a process waits briefly, once a pause."""
    now_s = time.monotonic()
    if now_s < _due_s.get(shard, 0.0):
        return
    settings = conf.settings()
    if settings.redis_url and not _redis.is_away:
        try:
            due_in_s = _take_marker(shard)
        except Exception as error:  # whatever a client, or a host's own factory, raises must not reach the save
            _redis.failed(error)
        else:
            _redis.answered()
            if due_in_s is not None:
                _due_s[shard] = now_s + due_in_s
            elif not send(shard):
                unmark(shard, settings.save_timeout_s)
            return
    _due_s[shard] = now_s + 0.9 * settings.flush_window_s
    send(shard, gated=True)


def mark(shard: int, due_in_s: float) -> None:
    """In a worker: tell savers when the next flush is due."""
    _quietly(lambda redis: redis.set(_marker(shard), 1, px=round((due_in_s + GRACE_S) * 1000)), WORKER_TIMEOUT_S)


def unmark(shard: int, timeout_s: float = WORKER_TIMEOUT_S) -> None:
    """Tell savers that no flush is to come."""
    _quietly(lambda redis: redis.delete(_marker(shard)), timeout_s)


def send(shard: int, *, wait_s: float = 0.0, due_us: int | None = None, gated: bool = False) -> bool:
    """Send a flush message; False if the broker did not take it. Never raises. The task says what it carries."""
    global _failures
    settings = conf.settings()
    if _broker.is_away:
        return False
    carried, app = _failures, _app()
    if wait_s and queues.delays_in_whole_seconds(app):
        wait_s = max(1, math.ceil(wait_s))  # a fraction of a second is an error there
    try:
        with _producer() as producer:
            signature(FLUSH, args=(shard, carried), kwargs={"due_us": due_us, "gated": gated}, app=app).apply_async(
                countdown=wait_s,
                headers=spans.headers() if due_us is None else {},  # the chain's next flush is no saver's
                queue=settings.queue,
                producer=producer,
                time_limit=settings.flush_time_limit_s,
                soft_time_limit=settings.flush_time_limit_s,  # or the host's own would hold
                retry=True,
                retry_policy=ONE_RETRY,
            )
    except Exception as error:  # whatever a transport raises must not reach the save
        _broker.failed(error)
        return False
    _broker.answered()
    _failures -= carried
    return True


def _take_marker(shard: int) -> float | None:
    """Try to take the marker. None if this call took it; else the seconds until the flush that it stands for is due.

    The result is at most one window, or 1 s if a window is shorter. Without this limit, savers would wait far too long
    after Redis' clock was set back.
    """
    pipeline = client(conf.settings().save_timeout_s).pipeline(transaction=False)
    pipeline.set(_marker(shard), 1, nx=True, px=round(GRACE_S * 1000))
    pipeline.pttl(_marker(shard))
    is_ours, left_ms = pipeline.execute()
    return None if is_ours else min(max(left_ms / 1000 - GRACE_S, 0.0), max(conf.settings().flush_window_s, 1.0))


def _quietly(command: Callable[[Any], object], timeout_s: float) -> None:
    """Send Redis a command. Its failure costs no more than an extra message, or a wait for the tick."""
    if not conf.settings().redis_url or _redis.is_away:
        return
    try:
        command(client(timeout_s))
    except Exception as error:
        _redis.failed(error)
    else:
        _redis.answered()


def _marker(shard: int) -> str:
    return f"{conf.settings().key_prefix}:{shard}"


@conf.cached
def client(timeout_s: float) -> Any:
    """A client that gives up after ``timeout_s`` to connect and as long again for an answer, whatever options the URL
    has. Safe across forks."""
    url = conf.settings().redis_url
    if "://" not in url:
        return import_string(url)(timeout_s=timeout_s)
    pool = redis.ConnectionPool.from_url(url)
    # One attempt: the caller decides what a failure costs. redis-py's default would retry with backoff.
    pool.connection_kwargs |= {
        "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False, "retry_on_error": [],
    }  # fmt: skip
    return redis.Redis(connection_pool=pool)


def _app() -> Celery:
    app: Celery = current_app._get_current_object()  # type: ignore[attr-defined]
    return app


def _producer() -> Any:
    app, settings = _app(), conf.settings()
    connection = bounded(app, str(app.conf.broker_write_url), settings.broker_timeout_s)
    return producers[connection].acquire(block=True, timeout=settings.broker_timeout_s)


@cache
def bounded(app: Celery, url: str, timeout_s: float) -> Connection:
    """The app's broker connection with bounded waits; a hanging broker would otherwise hang every save with it."""
    connection = app.connection_for_write(connect_timeout=timeout_s)
    limits = {
        "amqp": {"read_timeout": timeout_s, "write_timeout": timeout_s},
        "redis": {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s},
    }.get(connection.transport.driver_type, {})
    # The retry is named here too: before 5.4 kombu waits 2 s between attempts to connect, whatever the message says.
    return connection.clone(transport_options={**(connection.transport_options or {}), **limits, **ONE_RETRY})


def answers() -> Iterator[str]:
    """Yield why Redis does not answer. Yields nothing if it answers, or is not configured."""
    if conf.settings().redis_url:
        try:
            client(WORKER_TIMEOUT_S).ping()
        except Exception as error:
            yield telemetry.brief(error)
