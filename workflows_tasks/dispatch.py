"""Into the inbox, and a flush message after it: at most one per shard and window, never at the cost of the save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

from celery import Celery, current_app, signature
from kombu import Connection
from kombu.pools import producers

from workflows_tasks import conf, events, inbox, tally
from workflows_tasks.breaker import Breaker
from workflows_tasks.errors import InboxUnavailable

FLUSH: Final = "workflows_tasks.tasks.flush"

ONE_RETRY: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""At once, for the pooled connection may be from before a restart of the broker."""

_breaker = Breaker("broker")


def deliver(runs: Mapping[str, int], *, patient: bool = False) -> None:
    """Put ids in the inbox, each with its shard, and send the flush messages that are due.

    Args:
        patient: as ``inbox.add``.

    Raises:
        InboxUnavailable: Redis refused or did not answer in time; some ids may have been added.
    """
    if not runs:
        return
    counts = tally.taken()
    try:
        # While the broker is down no marker is taken, so that no save waits for it; the rescuer finds the shard.
        marked, dropped = inbox.add(runs, patient=patient, counts=counts, mark=not _breaker.is_open)
    except BaseException:  # also a host's own client factory's, or a timeout's of gevent
        tally.put_back(counts)
        raise
    if dropped:
        events.inbox_full(dropped)
    for position, shard in enumerate(marked, start=1):
        if not send_flush(shard):  # one timeout is enough: the others would wait as long
            _give_back(marked[position:])
            break


def send_flush(shard: int, *, delay_s: float | None = None) -> bool:
    """Send the flush message of a shard whose marker the caller holds; on failure give the marker back.

    Never raises: the ids are in the inbox, and the rescuer finds any shard that has ids and no message.

    Args:
        delay_s: seconds until the flush; one flush window by default.
    """
    settings = conf.settings()
    message = signature(FLUSH, args=(shard,))
    if delay_s is not None and message.app.conf.task_always_eager:
        _give_back([shard])  # "later" would be now, inside the failure that asks for it
        return False
    try:
        with _producer() as producer:
            message.apply_async(
                countdown=settings.flush_window_s if delay_s is None else delay_s,
                queue=settings.queue,
                producer=producer,
                time_limit=settings.flush_time_limit_s,
                soft_time_limit=settings.flush_time_limit_s,  # or the host's own would hold
                retry=True,
                retry_policy=ONE_RETRY,
            )
    except Exception as error:  # whatever a transport raises must not reach the save
        count_failure()
        if _breaker.fail(settings.breaker_s):
            events.broker_failed(error, pause_s=settings.breaker_s)
        _give_back([shard])
        return False
    if _breaker.succeed():
        events.broker_recovered()
    return True


def count_failure() -> None:
    """Count what failed beside a save, now or, where Redis does not answer either, with the next ids. Never raises."""
    try:
        inbox.count("save_failures", 1, timeout_s=conf.settings().save_timeout_s)
    except Exception:  # also settings that are none
        tally.add("save_failures")


def _give_back(shards: Sequence[int]) -> None:
    with suppress(InboxUnavailable):  # then the markers expire by themselves
        inbox.unmark(shards)


def _producer() -> Any:
    app: Celery = current_app._get_current_object()  # type: ignore[attr-defined]
    settings = conf.settings()
    connection = _bounded(app, app.connection_for_write().as_uri(include_password=True), settings.broker_timeout_s)
    return producers[connection].acquire(block=True, timeout=settings.broker_timeout_s)


@cache
def _bounded(app: Celery, url: str, timeout_s: float) -> Connection:
    """The app's broker connection with bounded waits; a hanging broker would otherwise hang every save with it."""
    connection = app.connection_for_write(connect_timeout=timeout_s)
    limits = {
        "amqp": {"read_timeout": timeout_s, "write_timeout": timeout_s},
        "redis": {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s},
    }.get(connection.transport.driver_type, {})
    # The retry is named here too: before 5.4 kombu waits 2 s between attempts to connect, whatever the message says.
    return connection.clone(transport_options={**(connection.transport_options or {}), **limits, **ONE_RETRY})
