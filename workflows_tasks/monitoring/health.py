"""Is everything all right, and if not, why? For monitoring, and for whoever is woken at 3 a.m.

Each finding names what to look at: the queue and its worker, beat, the error of the flushes, the command to run.
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
from workflows_tasks.comparison.compare import advice_to_fill
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
"""Seconds to wait for the answer of the broker, of all workers, and of those that consume the queue."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: ``ok``, ``warn`` (it works, but not as it should) or ``FAIL``, and why."""

    part: str
    state: str
    why: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def late_s() -> float:
    """Seconds after which a change or a tick is late, even if one message was lost."""
    settings = conf.settings()
    return max(5 * settings.flush_window_s, 3 * settings.tick_period_s)


def look() -> Iterator[Finding]:
    """Ask the database and Redis; and the broker and its workers, if something is late."""
    try:
        problems = capture_problems()
        now = status()
    except (DatabaseError, InterfaceError) as error:
        yield Finding("database", FAIL, database_problem(error))
    else:
        yield Finding("database", OK, "answers, and is migrated")
        yield from (Finding("capture", FAIL, printable(problem)) for problem in problems)
        if not problems:
            yield Finding("capture", OK, "every table is captured")
        yield from findings(now)
    yield from _redis()


def database_problem(error: Exception) -> str:
    """The database's error, with the command to run if one of our tables is missing."""
    missing = sqlstate(error) == UNDEFINED_TABLE
    lacks_log_only = missing and CHANGES in str(error) and installation.names() is not None
    command = installation.COMMAND if lacks_log_only else "manage.py migrate"
    return brief(error) + (f"; run: {command}" if missing else "")


def capture_problems() -> list[str]:
    """What is wrong now: with triggers and log, and with settings that are not those the table is kept for."""
    problems = [str(problem) for problem in installation.problems() + installation.problems_of_pages()]
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
    return problems


def findings(now: Status) -> Iterator[Finding]:
    """What a status shows, good and bad."""
    looked = _Look(now)
    yield looked.tick()
    yield looked.audit()
    if now.lacks_history:
        yield Finding("history", WARN, f"the table lacks runs from before capture; {advice_to_fill()}")
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
            f"every workspace will be looked at again, once older writers have ended: {printable(now.rescan)}",
        )  # fmt: skip


class _Look:
    """A status, and the queue if it must be asked."""

    def __init__(self, now: Status) -> None:
        self._now = now

    def tick(self) -> Finding:
        age_s = self._now.tick_s
        if age_s is not None and age_s <= late_s():
            return Finding("tick", OK, f"{ago(age_s)}")
        why = self._stuck or (
            "beat is not running, or has no entry for workflows_tasks.tasks.tick; start: celery -A … beat"
        )
        return Finding("tick", FAIL, f"{ago(age_s)}, {late_s():g} s are allowed: {why}")

    def audit(self) -> Finding:
        settings, now = conf.settings(), self._now
        allowed_s = 3 * settings.audit_step_s + settings.compare_timeout_s
        if now.audit_s is None:
            return Finding(
                "audit",
                WARN,
                f"no step yet; the first comes {settings.audit_step_s:g} s after beat's start, "
                "if beat has an entry for workflows_tasks.tasks.audit",
            )
        if now.audit_s > allowed_s:
            why = "is beat running, with an entry for workflows_tasks.tasks.audit?"
            return Finding("audit", FAIL, f"{ago(now.audit_s)}, {age(allowed_s)} are allowed: {why}")
        if now.audit_failures:
            failed = f"{counted(len(now.audit_failures), 'part')} could not be compared"
            return Finding("audit", WARN, f"{failed}; the last: {printable(now.audit_failures[0])}")
        return Finding("audit", OK, ago(now.audit_s))

    def changes(self) -> Iterator[Finding]:
        """A finding for each error of flushes, and one for all shards that wait without an error."""
        failing = self._now.failing
        yield from (Finding("changes", FAIL, _failing(error, shards)) for error, shards in failing.items())
        late = [
            shard for shard in self._now.shards
            if (shard.oldest_s or 0.0) > late_s() and not shard.is_failing
        ]  # fmt: skip
        if late:
            yield Finding("changes", FAIL, f"{_waiting(late)}; {late_s():g} s are allowed: {self._why_late()}")
        elif not failing:
            pending, oldest_s = self._now.pending, self._now.oldest_s
            yield Finding("changes", OK, f"{pending:,} wait, the oldest {age(oldest_s)}" if pending else "none wait")

    def _why_late(self) -> str:
        if self._stuck:
            return self._stuck
        if self.tick().state == FAIL:
            return f"no flush message came, and the tick has stopped ({ago(self._now.tick_s)}); is beat running?"
        queue = conf.settings().queue
        return (
            _busy(self._queue[0], self._now)
            if self._queue[0]
            else (
                f"the queue {queue!r} is empty and beat runs: another session holds the shard, or a worker took its "
                "message and does not finish; look at the worker's log"
            )
        )

    @cached_property
    def _stuck(self) -> str:
        """Why messages of the queue are not processed, or only slowly. Empty if no reason was found."""
        name = conf.settings().queue
        try:
            messages, pools = self._queue
        except Exception as error:  # whatever a transport raises
            return f"the broker does not answer ({brief(error)})"
        if not pools:
            there, start = f"{counted(messages, 'message')} there", f"start: celery -A … worker -Q {name}"
            return f"no worker that answers consumes the queue {name!r} ({there}); {start}"
        slow = [worker for worker, pool in pools.items() if pool.get("max-tasks-per-child") == 1]
        if slow:
            return (
                f"{', '.join(slow)} replaces its process after each task, which takes seconds; "
                "start it with --max-tasks-per-child=1000"
            )
        ages = [each for each in (self._now.flushed_s, self._now.tick_s) if each is not None]
        return _busy(messages, self._now) if messages and min(ages, default=late_s() + 1) > late_s() else ""

    @cached_property
    def _queue(self) -> tuple[int, dict[str, dict[str, Any]]]:
        return _queue()


def _busy(messages: int, now: Status) -> str:
    return (
        f"the workers of the queue {conf.settings().queue!r} are busy: {counted(messages, 'message')} there, the last "
        f"flush {ago(now.flushed_s)}; give it a worker of its own, or more processes"
    )


def _failing(error: str, shards: list[ShardStatus]) -> str:
    since_s = max((shard.failing_s or 0.0 for shard in shards), default=0.0)
    pending = counted(sum(shard.pending for shard in shards), "change")
    return f"flushes of {names(shards)} fail since {age(since_s)}: {printable(error)} ({pending} waiting)"


def _waiting(late: list[ShardStatus]) -> str:
    oldest_s = max(shard.oldest_s or 0.0 for shard in late)
    return f"{sum(shard.pending for shard in late):,} wait in {names(late)}, the oldest {age(oldest_s)}"


def _queue() -> tuple[int, dict[str, dict[str, Any]]]:
    """Messages in the live queue; and the workers that consume it, each with what it says of its pool."""
    name, app = conf.settings().queue, current_app._get_current_object()  # type: ignore[attr-defined]
    url = app.connection_for_write().as_uri(include_password=True)
    with nudge._bounded(app, url, BROKER_S).clone() as connection:
        asked = {"connection": connection, "timeout": BROKER_S}
        consumed = app.control.inspect(**asked).active_queues() or {}
        workers = [worker for worker, queues in consumed.items() if name in {queue["name"] for queue in queues}]
        told = app.control.inspect(workers, limit=len(workers), **asked).stats() if workers else None
        pools = {worker: stats["pool"] for worker, stats in (told or {}).items()}
        try:
            channel: Any = connection.default_channel
            return channel.queue_declare(queue=name, passive=True).message_count, pools
        except connection.channel_errors:  # there is no such queue, or in Redis it is empty
            return 0, pools


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
            f"does not answer ({problem}); that alone makes nothing late, but each process sends flush messages of its "
            "own",
        )
