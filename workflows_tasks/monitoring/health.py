"""Is everything all right, and if not, why? For monitoring, and for whoever is woken at 3 a.m.

Each finding names what to look at: the queue and its worker, beat, the error of the flushes, the command to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from math import inf
from typing import Any, Final, TypeVar

from django.db import DatabaseError, InterfaceError, transaction

from workflows_tasks import conf
from workflows_tasks.capture import catalogue, installation, nudge, record, triggers, watch
from workflows_tasks.comparison.compare import advice_to_fill, trouble_of_filling
from workflows_tasks.errors import WrongShards
from workflows_tasks.host import host
from workflows_tasks.models import CHANGES, Installation, Shard
from workflows_tasks.monitoring import indexes, workers
from workflows_tasks.monitoring.status import ShardStatus, Status, age, ago, counted, names, status
from workflows_tasks.monitoring.telemetry import brief, printable
from workflows_tasks.monitoring.workers import LiveQueue
from workflows_tasks.projection.transactions import sqlstate
from workflows_tasks.sql import quoted

T = TypeVar("T")

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "FAIL"

MOST_NAMED: Final = 16
"""Shards with an error that are named one by one."""

STUCK_WINDOWS: Final = 3.0
"""Windows without a flush after which messages in the queue mean that no worker comes to them."""

UNDEFINED_TABLE: Final = "42P01"


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
        problems = _read(capture_problems)
        looked = _look()
    except (DatabaseError, InterfaceError) as error:
        yield Finding("database", FAIL, database_problem(error))
    else:
        yield Finding("database", OK, "answers, and is migrated")
        yield from (Finding("capture", FAIL, printable(problem)) for problem in problems)
        if not problems:
            yield Finding("capture", OK, "every table is captured")
        yield from findings(looked)
        for need, create in () if problems else indexes.missing(host()):
            table = need.model._meta.db_table
            yield Finding("indexes", WARN, f"no index of {table} serves {need.statement}; execute: {create}")
    yield from _redis()


def database_problem(error: Exception) -> str:
    """The database's error, with the command to run if one of our tables is missing."""
    missing = sqlstate(error) == UNDEFINED_TABLE
    lacks_log_only = missing and CHANGES in str(error) and catalogue.names() is not None
    command = triggers.COMMAND if lacks_log_only else "manage.py migrate"
    return brief(error) + (f"; run: {command}" if missing else "")


def capture_problems() -> list[str]:
    """What is wrong now: with triggers and log, and with settings that are not those the table is kept for."""
    row = Installation.objects.using(host().database).filter(pk=Installation.ONLY).first()
    try:
        record.check_shards(row.shards if row else conf.settings().shards)
    except WrongShards as error:
        return [str(error)]  # the functions are of the other number, and only seem to be wrong
    problems = [str(problem) for problem in watch.problems() + installation.problems_of_pages()]
    if row and record.fingerprint_changed(row):
        problems.append(
            "models, path, RUN_FILTER or GRAINS differ from those that the table was kept for, so old rows may be "
            f"wrong; deploy one setting everywhere, then run: {triggers.COMMAND}"
        )
    return problems


def _look() -> _Look:
    """Ask the queue where something is late. That takes a second, so the status is read again: it may be over."""
    looked = _Look(_read(status))
    if not looked.is_late:
        return looked
    try:
        queue: LiveQueue | str = workers.ask()
    except Exception as error:  # whatever a transport raises
        queue = brief(error)
    return _Look(_read(status), queue)


def _read(read: Callable[[], T]) -> T:
    """Read in a savepoint, because whoever asks may be in a transaction, which an error would end."""
    with transaction.atomic(using=host().database):
        return read()


def findings(looked: _Look) -> Iterator[Finding]:
    """What a status shows, good and bad."""
    now = looked.now
    yield looked.tick()
    yield looked.audit()
    if now.lacks_history:
        yield Finding("history", WARN, f"the table lacks runs from before capture; {advice_to_fill()}")
    if trouble := trouble_of_filling():
        yield Finding("backfill", WARN, printable(trouble))
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
            "rescan", WARN,
            "rows may be wrong until every workspace is looked at again, which waits for older writers to end: "
            + printable(now.rescan),
        )  # fmt: skip


class _Look:
    """A status; and the queue, or why the broker does not answer, if something is late."""

    def __init__(self, now: Status, queue: LiveQueue | str = "") -> None:
        self.now = now
        self._queue = queue

    @property
    def is_late(self) -> bool:
        """The tick is late, or a change that meets no error."""
        return self.now.tick_s is None or self.now.tick_s > late_s() or bool(self._late)

    @property
    def _late(self) -> list[ShardStatus]:
        return [
            shard for shard in self.now.shards
            if (shard.oldest_s or 0.0) > late_s() and not shard.is_failing
        ]  # fmt: skip

    def tick(self) -> Finding:
        age_s = self.now.tick_s
        if age_s is not None and age_s <= late_s():
            return Finding("tick", OK, f"{ago(age_s)}")
        why = self._stuck or (
            "beat is not running, or has no entry for workflows_tasks.tasks.tick"
            + (f", or its message waits behind others ({self._queue})" if self._messages else "")
            + "; start: celery -A … beat"
        )
        return Finding("tick", FAIL, f"{ago(age_s)}, {late_s():g} s are allowed: {why}")

    def audit(self) -> Finding:
        settings, now = conf.settings(), self.now
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
        if now.audit_findings:
            text = f"{counted(len(now.audit_findings), 'finding')} in this round, the last: {now.audit_findings[0]}"
            return Finding("audit", WARN, printable(f"{text}; compare again: manage.py recent_workflows verify"))
        return Finding("audit", OK, ago(now.audit_s))

    def changes(self) -> Iterator[Finding]:
        """A finding for each error of flushes, and one for all shards that wait without an error."""
        failing = self.now.failing
        yield from (Finding("changes", FAIL, _failing(error, shards)) for error, shards in failing.items())
        if late := self._late:
            yield Finding("changes", FAIL, f"{_waiting(late)}; {late_s():g} s are allowed: {self._why_late()}")
        elif not failing:
            pending, oldest_s = self.now.pending, self.now.oldest_s
            yield Finding("changes", OK, _pending(pending, oldest_s) if pending else "none waiting")

    def _why_late(self) -> str:
        if self._stuck:
            return self._stuck
        if self.tick().state == FAIL:
            return f"no flush message came, and the tick has stopped ({ago(self.now.tick_s)}); is beat running?"
        if self._messages:
            return self._busy()
        holders = catalogue.sessions_in(quoted(Shard._meta.db_table), lock_rows=True)
        held = f"the shard may be held by {holders}, or " if holders else ""
        return (
            f"the queue {conf.settings().queue!r} is empty and beat runs: {held}a worker took its message and does not "
            "finish; look at the worker's log"
        )

    @cached_property
    def _stuck(self) -> str:
        """Why messages of the queue are not processed, or only slowly. Empty if no reason was found."""
        name, queue = conf.settings().queue, self._queue
        if isinstance(queue, str):
            return f"the broker does not answer ({queue})"
        if not queue.workers:
            start = f"start: celery -A … worker -Q {name}"
            return f"no responding worker consumes the queue {name!r} ({queue}); {start}"
        if queue.slow:
            return f"{', '.join(worker.name for worker in queue.slow)} {workers.SLOW}"
        flushed_s = inf if self.now.flushed_s is None else self.now.flushed_s
        is_stuck = queue.messages and flushed_s > STUCK_WINDOWS * conf.settings().flush_window_s
        return self._busy() if queue.is_busy or is_stuck else ""

    @property
    def _messages(self) -> int:
        return self._queue.messages if isinstance(self._queue, LiveQueue) else 0

    def _busy(self) -> str:
        queue = self._queue
        assert isinstance(queue, LiveQueue)
        at_work = "; ".join(str(worker) for worker in queue.workers if worker.is_busy)
        are = "are busy" + (f" ({at_work})" if at_work else "")
        return (
            f"the workers of the queue {conf.settings().queue!r} {are}: {queue}, "
            f"the last flush {ago(self.now.flushed_s)}; give it a worker of its own, or more processes"
        )


def _pending(pending: int, oldest_s: float) -> str:
    return f"{counted(pending, 'change')} waiting, the oldest for {age(oldest_s)}"


def _failing(error: str, shards: list[ShardStatus]) -> str:
    since = [f"shard {shard.shard} since {age(shard.failing_s)}" for shard in shards[:MOST_NAMED]]
    since += [f"{len(shards) - MOST_NAMED} more"] if len(shards) > MOST_NAMED else []
    pending = counted(sum(shard.pending for shard in shards), "change")
    return f"flushes fail ({', '.join(since)}): {printable(error)} ({pending} waiting)"


def _waiting(late: list[ShardStatus]) -> str:
    oldest_s = max(shard.oldest_s or 0.0 for shard in late)
    pending = counted(sum(shard.pending for shard in late), "change")
    return f"{pending} waiting in {names(late)}, the oldest for {age(oldest_s)}"


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
