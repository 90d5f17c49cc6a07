"""Is everything all right, and if not, why? For container health checks, and for whoever is woken at 3 a.m.

Each finding names the part to look at: the queue and its worker, beat, the error that flushes meet, the command to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from celery import current_app
from django.db import DatabaseError, InterfaceError

from workflows_tasks import conf
from workflows_tasks.capture import installation, nudge
from workflows_tasks.host import host
from workflows_tasks.models import CHANGES, Installation
from workflows_tasks.monitoring.status import ShardStatus, Status, age, ago, counted, names, status
from workflows_tasks.monitoring.telemetry import brief, printable
from workflows_tasks.projection.transactions import sqlstate

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "FAIL"

UNDEFINED_TABLE: Final = "42P01"

BROKER_S: Final = 1.0
"""Seconds to wait for the broker's answer, once to connect and once for the answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: ``ok``, ``warn`` (it works, but not as it should) or ``FAIL``, and why."""

    part: str
    state: str
    why: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def late_s() -> float:
    """Seconds after which a change or a tick is late, whatever happened to one message."""
    settings = conf.settings()
    return max(5 * settings.flush_window_s, 3 * settings.tick_period_s)


def look(limit_s: float | None = None) -> Iterator[Finding]:
    """Ask the database, the broker where something is late, and Redis.

    Args:
        limit_s: seconds that a change may wait; ``late_s()`` by default.
    """
    try:
        yield from capture_findings()
        now = status(exactly=False)
    except (DatabaseError, InterfaceError) as error:
        yield Finding("database", FAIL, database_problem(error))
    else:
        yield Finding("database", OK, "answers, and is migrated")
        yield from findings(now, limit_s)
    yield from _redis()


def database_problem(error: Exception) -> str:
    """What the database said, and the command that makes a table of ours that is missing."""
    missing = sqlstate(error) == UNDEFINED_TABLE
    lacks_log_only = missing and CHANGES in str(error) and installation.names() is not None
    command = installation.COMMAND if lacks_log_only else "manage.py migrate"
    return brief(error) + (f"; run: {command}" if missing else "")


def capture_findings() -> Iterator[Finding]:
    """What the catalogue says now about triggers and log, and whether settings are those that the table is kept for."""
    problems = [str(problem) for problem in installation.problems()]
    row = Installation.objects.using(host().database).filter(pk=Installation.ONLY).first()
    if row and row.shards != conf.settings().shards:
        problems.append(
            f"SHARDS is {conf.settings().shards} here and {row.shards} in the database, so this process flushes "
            f"nothing; deploy one number everywhere, then run: {installation.COMMAND}"
        )
    if row and installation.fingerprint_changed(row):
        problems.append(
            "models, path, RUN_FILTER or GRAINS differ from those that the table was kept for, so old rows may be "
            f"wrong; run: {installation.COMMAND}"
        )
    for problem in problems:
        yield Finding("capture", FAIL, printable(problem))
    if not problems:
        yield Finding("capture", OK, "every table is captured")


def findings(now: Status, limit_s: float | None = None) -> Iterator[Finding]:
    """What a status says."""
    looked = _Look(now, late_s() if limit_s is None else limit_s)
    yield looked.tick()
    yield looked.audit()
    yield from looked.changes()
    if now.in_quarantine:
        refused = f"{counted(now.in_quarantine, 'change')} that the database refuses"
        first = f"; the oldest: {printable(now.quarantined[0].error)}" if now.quarantined else ""
        retry = "see status; once the cause is gone, run: manage.py recent_workflows flush --retry"
        yield Finding("quarantine", FAIL, f"{refused}{first}; {retry}")
    else:
        yield Finding("quarantine", OK, "empty")
    if now.rescan:
        yield Finding(
            "rescan", OK,
            f"every workspace will be looked at again, once older transactions have ended: {printable(now.rescan)}",
        )  # fmt: skip


class _Look:
    """A status, and the queue if it must be asked."""

    def __init__(self, now: Status, limit_s: float) -> None:
        self._now = now
        self._limit_s = limit_s

    def tick(self) -> Finding:
        age_s = self._now.tick_s
        if age_s is not None and age_s <= late_s():
            return Finding("tick", OK, f"{ago(age_s)}")
        why = self._worker_is_missing or (
            "beat is not running, or has no entry for workflows_tasks.tasks.tick; start: celery -A … beat"
        )
        return Finding("tick", FAIL, f"{ago(age_s)}, {late_s():g} s are allowed: {why}")

    def audit(self) -> Finding:
        settings, now = conf.settings(), self._now
        allowed_s = 3 * settings.audit_step_s + settings.compare_timeout_s
        if now.audit_s is None:
            return Finding(
                "audit", WARN, f"no step yet; the first comes {settings.audit_step_s:g} s after beat's start"
            )
        if now.audit_s > allowed_s:
            why = "is beat running, with an entry for workflows_tasks.tasks.audit?"
            return Finding("audit", FAIL, f"{ago(now.audit_s)}, {age(allowed_s)} are allowed: {why}")
        if now.audit_failures:
            failed = f"{counted(len(now.audit_failures), 'part')} could not be compared"
            return Finding("audit", WARN, f"{failed}; the last: {printable(now.audit_failures[0])}")
        return Finding("audit", OK, ago(now.audit_s))

    def changes(self) -> Iterator[Finding]:
        """One for each error that flushes meet, one for all shards that wait without one."""
        failing = self._now.failing
        yield from (Finding("changes", FAIL, _failing(error, shards)) for error, shards in failing.items())
        late = [
            shard for shard in self._now.shards
            if (shard.oldest_s or 0.0) > self._limit_s and not shard.is_failing
        ]  # fmt: skip
        if late:
            yield Finding("changes", FAIL, f"{_waiting(late)}; {self._limit_s:g} s are allowed: {self._why_late()}")
        elif not failing:
            pending, oldest_s = self._now.pending, self._now.oldest_s
            yield Finding("changes", OK, f"{pending:,} wait, the oldest {age(oldest_s)}" if pending else "none wait")

    def _why_late(self) -> str:
        if self._worker_is_missing:
            return self._worker_is_missing
        tick = self.tick()
        if tick.state == FAIL:
            return f"no flush message came, and the tick has stopped ({ago(self._now.tick_s)}); is beat running?"
        messages = self._queue[0]
        if messages:
            busy = f"the workers of queue {conf.settings().queue!r} are busy: {counted(messages, 'message')} there"
            return f"{busy}, the last flush {ago(self._now.flushed_s)}; give it a worker of its own, or more processes"
        return (
            f"the queue {conf.settings().queue!r} is empty and beat runs: another session holds the shard, or a "
            "worker took its message and does not finish; look at the worker's log"
        )

    @cached_property
    def _worker_is_missing(self) -> str:
        """Why no worker can be at work; empty if one may be."""
        name = conf.settings().queue
        try:
            messages, consumers = self._queue
        except Exception as error:  # whatever a transport raises
            return f"the broker does not answer ({brief(error)})"
        there = f"{counted(messages, 'message')} there"
        if consumers == 0:
            return f"no worker consumes the queue {name!r} ({there}); start: celery -A … worker -Q {name}"
        ages = [each for each in (self._now.flushed_s, self._now.tick_s) if each is not None]
        if messages and min(ages, default=late_s() + 1) > late_s():
            return (
                f"no worker takes messages from the queue {name!r} ({there}); start: celery -A … worker -Q {name}; "
                "if one runs, other tasks keep it busy, and the queue needs a worker of its own"
            )
        return ""

    @cached_property
    def _queue(self) -> tuple[int, int | None]:
        """Messages in the live queue; and its consumers, None where the broker does not know."""
        return _queue()


def _failing(error: str, shards: list[ShardStatus]) -> str:
    since_s = max((shard.failing_s or 0.0 for shard in shards), default=0.0)
    pending = counted(sum(shard.pending for shard in shards), "change")
    return f"flushes of {names(shards)} fail since {age(since_s)}: {printable(error)} ({pending} waiting)"


def _waiting(late: list[ShardStatus]) -> str:
    oldest_s = max(shard.oldest_s or 0.0 for shard in late)
    return f"{sum(shard.pending for shard in late):,} wait in {names(late)}, the oldest {age(oldest_s)}"


def _queue() -> tuple[int, int | None]:
    name = conf.settings().queue
    app: Any = current_app
    url = app.connection_for_write().as_uri(include_password=True)
    with nudge._bounded(app._get_current_object(), url, BROKER_S).clone() as connection:
        try:
            channel: Any = connection.default_channel
            declared = channel.queue_declare(queue=name, passive=True)
        except connection.channel_errors:  # there is no such queue: nobody consumes it, or it is empty in Redis
            return 0, 0 if connection.transport.driver_type == "amqp" else None
        return declared.message_count, declared.consumer_count if connection.transport.driver_type == "amqp" else None


def _redis() -> Iterator[Finding]:
    if not conf.settings().redis_url:
        return
    problem = next(iter(nudge.answers()), None)
    if problem is None:
        yield Finding("redis", OK, "answers")
    else:
        yield Finding(
            "redis",
            WARN,
            f"does not answer ({problem}); nothing is late, but each process sends flush messages of its own",
        )
