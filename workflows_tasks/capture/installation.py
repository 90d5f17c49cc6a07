"""Installing capture, watching that it stays installed, and turning it off.

``migrate`` installs it. Each statement that locks a host's table has a transaction of its own, and waits for a bounded
time. CREATE TRIGGER waits for every open writer, and everybody else queues behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from django.db import OperationalError, connections, transaction

from workflows_tasks import conf
from workflows_tasks.capture import triggers
from workflows_tasks.capture.triggers import Names, Table
from workflows_tasks.errors import NotInstalled, WrongShards
from workflows_tasks.host import described, host
from workflows_tasks.models import CHANGES, Installation, Shard, WorkspaceRecentWorkflow
from workflows_tasks.monitoring import telemetry

COMMAND: Final = "manage.py recent_workflows triggers --install"

LOCK_CLASS: Final = 0x52574654
"""First key of the advisory lock that whoever installs holds: two at once would update the same catalogue rows."""

NOWAIT_S: Final = 3.0
"""Seconds of attempts that make nobody wait, before the first that does."""

WAITS_MS: Final = (100, 1_000, 2_500)
"""Milliseconds that each further attempt waits for a table's lock. Writers wait behind it."""


_of_pages: Callable[[str], tuple[str, str, str]]


def function_of_pages(create: Callable[[str], tuple[str, str, str]]) -> None:
    """Register the function of fresh pages. It is installed with those of capture, though it captures nothing.

    Args:
        create: given the quoted schema, the function's name, body, and the statement that makes it.
    """
    global _of_pages  # set once, when the app is ready
    _of_pages = create


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps writes of a table from being captured, or a page from being read fresh."""

    table: str
    what: str

    def __str__(self) -> str:
        return f"{self.table}: {self.what}"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A host's table as the catalogue has it."""

    oid: int
    name: str
    """Qualified and quoted."""
    columns: dict[str, str]
    """Type and number of each. A column that was dropped and made again has another number."""
    partitions: list[int]
    bare: list[str]
    """Partitions whose TRUNCATE no trigger sees. The parent's trigger sees only its own."""
    triggers: dict[str, str]
    """Trigger name -> how it is enabled: ``O`` is the ordinary way, ``D`` disabled."""

    def of(self, columns: Sequence[str]) -> dict[str, str]:
        """Of these columns, those that are there."""
        return {column: self.columns[column] for column in columns if column in self.columns}


def names() -> Names | None:
    """Where our own tables are; None before they are migrated."""
    schemas = _rows(
        "SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE pg_class.oid = "
        "to_regclass(%s)",
        [_quoted(WorkspaceRecentWorkflow._meta.db_table)],
    )
    return Names.of_schema(schemas[0][0]) if schemas else None


def statements() -> list[str]:
    """All SQL that ``install`` would execute on an empty database, for whoever wants to read or run it by hand."""
    where = _names_or_raise()
    script = triggers.create_log(where)
    for table in triggers.tables(host()):
        script += [triggers.create_function(name, body) for name, body in triggers.functions(table, where).items()]
        script += triggers.create_triggers(_quoted(table.name), triggers.functions(table, where))
    return [*script, _of_pages(where.schema)[-1]]


def install(tell: Callable[[str], None] = lambda _: None) -> list[Problem]:
    """Make what is missing or outdated; returns what could not be made. Safe to repeat, and beside another.

    Args:
        tell: called with a sentence for each step, and for whom it waits.

    Raises:
        NotInstalled: our own tables are not migrated yet.
    """
    where = _names_or_raise()
    row, is_empty = installation(), not _has_rows()
    wrong = {*row.problems, *map(str, problems())}
    changed = _install_functions(where, tell)
    unbound = [table for table in triggers.tables(host()) if _unbound(table)]
    failed = [problem for table in unbound if (problem := _bind(table, where, tell))]
    with transaction.atomic(using=host().database):
        _note_watched()
        if row.lacks_history is None and is_empty and not failed:
            _note_history()
        left = [str(problem) for problem in problems()]
        if changed or wrong.difference(left):
            request_rescan("capture was installed, changed or mended")
        _only_row().update(problems=left, fingerprint=fingerprint())
    return failed


def turn_off() -> None:
    """Capture nothing from now on. Only functions are replaced, so no table of the host's is locked."""
    where = _names_or_raise()
    with _exclusively():
        for table in triggers.tables(host()):
            for name in _functions(table, where):
                _execute(triggers.create_function(name, triggers.OFF))
    telemetry.capture_turned_off()


def remove(tell: Callable[[str], None] = lambda _: None) -> list[Problem]:
    """Drop triggers and functions; returns the tables that could not be locked. The log stays."""
    where = _names_or_raise()
    turn_off()
    failed = []
    for table in triggers.tables(host()):
        functions = _functions(table, where)
        drops = [f'DROP TRIGGER "{name}" ON {relation}' for name, relation in _bound(functions)]
        problem = _patiently(table, "ACCESS EXCLUSIVE", drops, tell) if drops else None
        if problem:
            failed.append(problem)
            continue
        for name in functions:
            _execute(f"DROP FUNCTION IF EXISTS {name}()")
    _execute(f"DROP FUNCTION IF EXISTS {_of_pages(where.schema)[0]}")
    return failed


def problems() -> list[Problem]:
    """What the catalogue says is wrong now: one query for each table of the host's."""
    where = names()
    if where is None:
        return [Problem(CHANGES, "the tables of this package are missing; run: manage.py migrate")]
    if _is_absent(where):
        return [Problem(CHANGES, f"capture is not installed, so nothing is logged; run: {COMMAND}")]
    wrong = list(_problems_of_log(where))
    with suppress(Installation.DoesNotExist):
        watched = installation().watched
        for table in triggers.tables(host()):
            wrong += [Problem(table.name, what) for what in _wrong_with(table, where, watched.get(table.name, {}))]
    return wrong


def problems_of_pages() -> list[Problem]:
    """What is wrong with fresh pages. It is apart from ``problems``, because no write is missed meanwhile."""
    where = names()
    if where is None or _is_absent(where):
        return []
    name, body, _ = _of_pages(where.schema)
    what = f"is missing or outdated: fresh pages fail, or show what counted before; run: {COMMAND}"
    return [Problem(name, what)] if _body(name) != body else []


def _is_absent(where: Names) -> bool:
    """Whether no function that captures is there, and so no trigger."""
    return all(_body(name) is None for table in triggers.tables(host()) for name in _functions(table, where))


def _problems_of_log(where: Names) -> Iterator[Problem]:
    of_type = _rows("SELECT reloftype <> 0 FROM pg_class WHERE oid = to_regclass(%s)", [where.log])
    if not of_type:
        yield Problem(CHANGES, f"the change log is missing, so nothing is captured; run: {COMMAND}")
        return
    if not of_type[0][0]:
        undo = f"ALTER TABLE {where.log} OF {where.log_columns}"
        yield Problem(CHANGES, f"somebody may alter the change log, and your writes would fail; execute: {undo}")
    owners = _rows(
        "SELECT DISTINCT pg_get_userbyid(proowner)::text FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace"
        " WHERE proname LIKE 'recent\\_workflows\\_%%' AND quote_ident(nspname) = %s"
        " AND NOT has_table_privilege(proowner, to_regclass(%s), 'INSERT')",
        [where.schema, where.log],
    )
    for (owner,) in owners:
        yield Problem(CHANGES, f"{owner}, who owns the triggers' functions, may not write the log; grant INSERT on it")


def _wrong_with(table: Table, where: Names, watched: dict[str, Any]) -> Iterator[str]:
    seen = _seen(table.name)
    if seen is None:
        yield "is missing"
        return
    for name in (triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER):
        state = seen.triggers.get(name)
        if state is None:
            yield f"has no trigger {name}, so its writes are not captured; run: {COMMAND}"
        elif state not in "OA":
            mend = f"ALTER TABLE {seen.name} ENABLE TRIGGER {name}"
            yield f"has its trigger {name} disabled, so its writes are not captured; run this SQL: {mend}"
    if seen.bare:
        yield f"has partitions whose TRUNCATE is not captured: {', '.join(seen.bare[:5])}; run: {COMMAND}"
    yield from _outdated(table, where)
    yield from _altered(table, seen, watched)


def _outdated(table: Table, where: Names) -> Iterator[str]:
    """At most one sentence about a table's functions."""
    for name, body in _functions(table, where).items():
        present = _body(name)
        if present == triggers.OFF:
            yield f"is not captured: triggers are turned off; run: {COMMAND}"
        elif present != body:
            yield f"has {'an outdated' if present else 'no'} function {name}; run: {COMMAND}"
        if present != body:
            return


def _altered(table: Table, seen: _Seen, watched: dict[str, Any]) -> Iterator[str]:
    """What differs from the table that triggers were installed on."""
    gone = [column for column in table.columns if column not in seen.columns]
    if gone:
        yield f"has no column {', '.join(gone)}: changes name runs without their workspace; run migrate, or {COMMAND}"
    elif watched and watched.get("columns") != seen.of(table.columns):
        yield f"has other columns, or of another type, than when triggers were installed; run: {COMMAND}"
    if watched and watched.get("partitions") != seen.partitions:
        yield f"has other partitions than when triggers were installed; their runs may differ; run: {COMMAND}"


def installation() -> Installation:
    """The one row. It is made again if a host's test truncated the table.

    Raises:
        django.db.DatabaseError: the table is not there.
    """
    row: Installation
    row, _ = Installation.objects.using(host().database).get_or_create(
        pk=Installation.ONLY, defaults={"shards": conf.settings().shards, "fingerprint": fingerprint()}
    )
    return row


def check_shards(agreed: int) -> None:
    """Refuse to go on in a process that is set to another number of shards than the database.

    Raises:
        WrongShards: names this process and both numbers.
    """
    wanted = conf.settings().shards
    if wanted != agreed:
        raise WrongShards(
            f"SHARDS is {wanted} in process {os.getpid()} on {socket.gethostname()} and {agreed} in the database, so "
            f"that process flushes nothing. Deploy one number everywhere, then run: {COMMAND}"
        )


def fingerprint() -> str:
    """A digest of which runs count, and for whom. A deploy that changes this makes rows wrong without a write."""
    the_host, settings = host(), conf.settings()
    parts = [
        the_host.run._meta.label, str(the_host.workspace), str(the_host.user), *map(str, the_host.path),
        str(the_host.used_at), described(the_host.run_filter), ",".join(sorted(settings.grains)),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def fingerprint_changed(row: Installation) -> bool:
    """Whether models, path, filter or grains differ from those that the table was kept for."""
    return row.fingerprint != fingerprint()


def request_rescan(reason: str) -> None:
    """Request a look at every workspace, for when all writers that began before now have ended.

    It is needed whenever a problem of capture is over, because no change names what was missed.
    """
    if _has_rows():
        with transaction.atomic(using=host().database):
            ((number,),) = _rows("SELECT pg_current_xact_id()::text::bigint")
            _only_row().update(rescan_after=number, rescan_reason=reason)


def lacks_history() -> bool:
    """Whether runs from before capture are not all in the table. A host that had no runs lacks nothing."""
    return bool(_only_row().filter(lacks_history=True).exists())


def note_filled() -> None:
    """Note that all runs from before capture are in the table."""
    _only_row().update(lacks_history=False)


def is_written_from_before(transaction_id: int) -> bool:
    """Whether a transaction with this id, or an older one, may still write with the trigger functions of its time.

    Such a transaction has written to a table of the host's, so it holds a lock there. A transaction that takes its lock
    later sees the new functions. No other transaction counts: one that was prepared and forgotten may never end. An id
    that this cluster has not reached yet comes from the cluster that it was restored from. No writer of that time is
    left, so the answer is False.
    """
    watched = [_quoted(table.name) for table in triggers.tables(host())]
    ((is_written,),) = _rows(
        """
        WITH watched AS (
            SELECT to_regclass(name)::oid AS oid FROM unnest(%s::text[]) AS name
            UNION
            SELECT relid FROM unnest(%s::text[]) AS name CROSS JOIN pg_partition_tree(to_regclass(name))
        )
        SELECT %s < pg_snapshot_xmax(pg_current_snapshot())::text::bigint AND EXISTS (
            SELECT FROM pg_locks lock JOIN pg_locks own USING (virtualtransaction)
            WHERE lock.locktype = 'relation' AND lock.granted AND lock.mode LIKE '%%Exclusive%%'
              AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND lock.relation IN (SELECT oid FROM watched) AND own.locktype = 'transactionid' AND own.granted
              AND (%s - own.transactionid::text::bigint) & 4294967295 < 2147483648
        )
        """,
        [watched, watched, transaction_id, transaction_id],
    )
    return bool(is_written)


def _install_functions(where: Names, tell: Callable[[str], None]) -> bool:
    """Install the log, the functions and the number of shards; True if what was there before may have missed runs."""
    changed = False
    with _exclusively():
        for statement in triggers.create_log(where) if _log_is_missing(where) else ():
            _execute(statement)
        _set_shards()
        for table in triggers.tables(host()):
            for name, body in _functions(table, where).items():
                present = _body(name)
                if present == body:
                    continue
                changed = changed or present is not None
                _execute(triggers.create_function(name, body))
                _execute(f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC")
                tell(f"function {name} is {'replaced' if present else 'created'}")
        name, body, statement = _of_pages(where.schema)
        if _body(name) != body:
            _execute(statement)
            tell(f"function {name} is created, for fresh pages")
        for name in _left_over(where):
            _execute(triggers.create_function(name, triggers.OFF))
            tell(f"function {name} is turned off: its table is not read any more")
    row = installation()
    return changed or fingerprint_changed(row)


def _left_over(where: Names) -> list[str]:
    """Functions that still capture a table which the settings no longer lead to."""
    wanted = [name for table in triggers.tables(host()) for name in _functions(table, where)]
    capturing = _rows(
        "SELECT quote_ident(nspname) || '.\"' || proname || '\"'"
        " FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE proname LIKE 'recent\\_workflows\\_%%'"
        " AND prorettype = 'trigger'::regtype AND quote_ident(nspname) = %s AND prosrc <> %s",
        [where.schema, triggers.OFF],
    )
    return sorted({name for (name,) in capturing}.difference(wanted))


def _set_shards() -> None:
    """Make this process's number of shards everybody's. All shards are locked, so no flush is under way."""
    database, wanted = host().database, conf.settings().shards
    row = installation()
    if row.shards != wanted:
        list(Shard.objects.using(database).select_for_update().order_by("number").values_list("pk"))
        Installation.objects.using(database).filter(pk=row.pk).update(shards=wanted)
    Shard.objects.using(database).bulk_create([Shard(number=n) for n in range(wanted)], ignore_conflicts=True)


def _log_is_missing(where: Names) -> bool:
    return not _rows("SELECT 1 WHERE to_regclass(%s) IS NOT NULL", [where.log])


def _unbound(table: Table) -> bool:
    seen = _seen(table.name)
    if seen is None:
        return False
    return bool(seen.bare) or not {triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER} <= set(seen.triggers)


def _functions(table: Table, where: Names) -> dict[str, str]:
    """The table's two functions, by the names that its triggers call. A renamed table keeps the old names."""
    bound = dict(
        _rows(
            "SELECT tgname::text, quote_ident(nspname) || '.\"' || proname || '\"' FROM pg_trigger"
            " JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_namespace n ON n.oid = pronamespace"
            " WHERE tgrelid = to_regclass(%s)",
            [_quoted(table.name)],
        )
    )
    kinds = (triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER)
    composed = triggers.functions(table, where).items()
    return {bound.get(kind, name): body for kind, (name, body) in zip(kinds, composed, strict=True)}


def _bound(functions: Iterable[str]) -> list[Any]:
    """Triggers that call these functions, with the table or the partition that each is on."""
    return _rows(
        "SELECT tgname::text, tgrelid::regclass::text FROM pg_trigger WHERE tgparentid = 0 AND tgfoid IN"
        " (SELECT to_regproc(name) FROM unnest(%s::text[]) AS name)",
        [list(functions)],
    )


def _bind(table: Table, where: Names, tell: Callable[[str], None]) -> Problem | None:
    seen = _seen(table.name)
    assert seen is not None
    functions = _functions(table, where)
    row, truncate = triggers.create_triggers(seen.name, functions)
    wanted = [row] if triggers.ROW_TRIGGER not in seen.triggers else []
    wanted += [truncate] if triggers.TRUNCATE_TRIGGER not in seen.triggers else []
    wanted += [triggers.create_triggers(partition, functions)[1] for partition in seen.bare]
    return _patiently(table, "SHARE ROW EXCLUSIVE", wanted, tell)


def _patiently(table: Table, mode: str, wanted: list[str], tell: Callable[[str], None]) -> Problem | None:
    """Execute statements under a table's lock, in a transaction of their own; returns why there was no lock."""
    seen = _seen(table.name)
    assert seen is not None
    until_s = time.monotonic() + NOWAIT_S
    while time.monotonic() < until_s:
        if _once(f"LOCK TABLE {seen.name} IN {mode} MODE NOWAIT", *wanted):
            tell(f"{table.name}: done")
            return None
        time.sleep(0.005)  # not a wait for somebody: the next attempt at a moment without a writer
    for wait_ms in WAITS_MS:
        tell(f"{table.name}: waits up to {wait_ms / 1000:g} s for {_holders(seen.name)}")
        locking = [f"SET LOCAL lock_timeout = {wait_ms}", f"LOCK TABLE {seen.name} IN {mode} MODE"]
        if _once(*locking, *wanted):
            tell(f"{table.name}: done")
            return None
    return Problem(
        table.name, f"its lock was not to be had; it was held by {_holders(seen.name)}. Run later: {COMMAND}"
    )


def _once(*statements: str) -> bool:
    try:
        with transaction.atomic(using=host().database):
            for statement in statements:
                _execute(statement)
    except OperationalError:  # the lock was not available
        return False
    return True


def sessions_in(table: str, *, reading: bool = False) -> str:
    """Who writes or locks a table, for people; empty if nobody does.

    Args:
        table: quoted.
        reading: who locks rows of it, too.
    """
    holders = _rows(
        "SELECT DISTINCT a.pid, coalesce(a.usename::text, 'a prepared transaction'), coalesce(a.application_name, ''),"
        " coalesce(round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1)::text, '?')"
        " FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.relation = to_regclass(%s)"
        " AND l.granted AND (l.mode LIKE '%%Exclusive%%' OR %s AND l.mode = 'RowShareLock')"
        " AND l.pid IS DISTINCT FROM pg_backend_pid() ORDER BY 1 LIMIT 5",
        [table, reading],
    )
    sessions = [
        f"session {pid} of {who}{f' ({app})' if app else ''}, open for {age} s" for pid, who, app, age in holders
    ]
    return "; ".join(sessions)


def _holders(table: str) -> str:
    return sessions_in(table) or "sessions that have ended meanwhile"


def _note_watched() -> None:
    """Remember the tables as they are, so that a tick notices what no trigger sees."""
    seen_by_name = {table.name: (table, seen) for table in triggers.tables(host()) if (seen := _seen(table.name))}
    watched = {
        name: {"columns": seen.of(table.columns), "partitions": seen.partitions}
        for name, (table, seen) in seen_by_name.items()
        if set(table.columns) <= set(seen.columns)  # else it is in between two states, and neither is to be expected
    }
    _only_row().update(watched={**installation().watched, **watched})


def _note_history() -> None:
    """Note, at the first installation, whether there are runs. Every earlier one is committed: the triggers are there.

    If our row is lost while the table has rows, nobody knows whether history was filled. Then this is not asked again,
    and comparisons call every difference drift: a false alarm is better than none.
    """
    ((has_runs,),) = _rows(f"SELECT EXISTS (SELECT FROM {_quoted(host().run._meta.db_table)})")
    _only_row().update(lacks_history=has_runs)


def _has_rows() -> bool:
    return bool(WorkspaceRecentWorkflow.objects.using(host().database).exists())


def _only_row() -> Any:
    return Installation.objects.using(host().database).filter(pk=Installation.ONLY)


def _seen(table: str) -> _Seen | None:
    tables = _rows(
        """
        SELECT c.oid::bigint, quote_ident(nspname) || '.' || quote_ident(relname),
               (SELECT json_object_agg(attname, format_type(atttypid, atttypmod) || ' ' || attnum) FROM pg_attribute
                WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
               (SELECT coalesce(json_agg(relid::oid::bigint ORDER BY relid::oid), '[]')
                FROM pg_partition_tree(c.oid) WHERE level > 0),
               (SELECT coalesce(json_agg(relid::regclass::text), '[]') FROM pg_partition_tree(c.oid) AS part
                WHERE level > 0 AND NOT EXISTS (
                    SELECT FROM pg_trigger WHERE tgrelid = part.relid AND tgname = %s AND tgenabled IN ('O', 'A'))),
               (SELECT coalesce(json_object_agg(tgname, tgenabled), '{}') FROM pg_trigger
                WHERE tgrelid = c.oid AND tgname = ANY(%s))
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = to_regclass(%s)
        """,
        [triggers.TRUNCATE_TRIGGER, [triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER], _quoted(table)],
    )
    if not tables:
        return None
    oid, name, *rest = tables[0]
    columns, *others = (json.loads(each) if isinstance(each, str) else each for each in rest)
    return _Seen(oid, name, columns or {}, *others)


def _body(function: str) -> str | None:
    bodies = _rows("SELECT prosrc FROM pg_proc WHERE oid = to_regproc(%s)", [function])
    return str(bodies[0][0]) if bodies else None


@contextmanager
def _exclusively() -> Iterator[None]:
    """A transaction that nobody else installs in."""
    with transaction.atomic(using=host().database):
        _execute(f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, 0)")
        yield


def _names_or_raise() -> Names:
    where = names()
    if where is None:
        raise NotInstalled("The tables of this package are missing. Run: manage.py migrate.")
    return where


def _execute(statement: str) -> None:
    with connections[host().database].cursor() as cursor:
        cursor.execute(statement)


def _rows(statement: str, params: list[Any] | None = None) -> list[Any]:
    with connections[host().database].cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


def _quoted(name: str) -> str:
    return str(connections[host().database].ops.quote_name(name))


def install_after_migrate(*, using: str, verbosity: int = 1, **_: Any) -> None:
    """Receiver of ``post_migrate``. Whatever goes wrong is told and logged, and ``migrate`` goes on."""
    if using != host().database or names() is None:
        return
    tell = print if verbosity else (lambda _: None)
    try:
        failed = install(lambda line: tell(f"  Recent workflows: {line}"))
    except Exception as error:  # of a filter that does not compile, too: a migrate from code runs no checks
        telemetry.capture_not_installed(str(error).strip())
        tell(f"  Recent workflows: nothing is captured ({error}). Run later: {COMMAND}")
        return
    for problem in failed:
        telemetry.capture_not_installed(str(problem))
        tell(f"  Recent workflows: nothing is captured of {problem}")
