"""What PostgreSQL's catalogue says: the host's tables, our functions and triggers, and who holds locks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workflows_tasks.capture import triggers
from workflows_tasks.capture.tables import Table, tables
from workflows_tasks.capture.triggers import Names
from workflows_tasks.errors import NotInstalled
from workflows_tasks.host import host
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.sql import Sql, quoted, rows


@dataclass(frozen=True, slots=True)
class Present:
    """A host's table as it is now."""

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


def find(table: str) -> Present | None:
    """A table as it is now; None if it is missing."""
    tables_found = _ask(
        """
        SELECT quote_ident(nspname) || '.' || quote_ident(relname),
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
        triggers.TRUNCATE_TRIGGER, [triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER], quoted(table),
    )  # fmt: skip
    if not tables_found:
        return None
    name, *rest = tables_found[0]
    columns, *others = (json.loads(each) if isinstance(each, str) else each for each in rest)
    return Present(name, columns or {}, *others)


def names() -> Names | None:
    """Where our own tables are; None before they are migrated."""
    schemas = _ask(
        "SELECT quote_ident(nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE c.oid = to_regclass(%s)",
        quoted(WorkspaceRecentWorkflow._meta.db_table),
    )
    return Names.of_schema(schemas[0][0]) if schemas else None


def names_or_raise() -> Names:
    """Where our own tables are.

    Raises:
        NotInstalled: they are not migrated yet.
    """
    where = names()
    if where is None:
        raise NotInstalled("The tables of this package are missing. Run: manage.py migrate.")
    return where


def body(function: str) -> str | None:
    """The body of a function; None if it is missing."""
    bodies = _ask("SELECT prosrc FROM pg_proc WHERE oid = to_regproc(%s)", function)
    return str(bodies[0][0]) if bodies else None


def functions(table: Table, where: Names) -> dict[str, str]:
    """What a table's two functions should be: qualified name -> body.

    The names are those that its triggers call, which are still the old ones after the table was renamed. Without a
    trigger they are those that it would call.
    """
    called = dict(
        _ask(
            """SELECT tgname::text, quote_ident(nspname) || '."' || proname || '"' FROM pg_trigger
            JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_namespace n ON n.oid = pronamespace
            WHERE tgrelid = to_regclass(%s)""",
            quoted(table.name),
        )
    )
    kinds = (triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER)
    composed = triggers.functions(table, where).items()
    return {called.get(kind, name): body for kind, (name, body) in zip(kinds, composed, strict=True)}


def is_absent(where: Names) -> bool:
    """Whether no function that captures is there, and so no trigger."""
    return all(body(name) is None for table in tables(host()) for name in functions(table, where))


def left_over(where: Names) -> list[str]:
    """Functions that still capture a table which the settings no longer lead to."""
    wanted = [name for table in tables(host()) for name in functions(table, where)]
    capturing = _ask(
        """SELECT quote_ident(nspname) || '."' || proname || '"'
        FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE proname LIKE 'recent\\_workflows\\_%%'
        AND prorettype = 'trigger'::regtype AND quote_ident(nspname) = %s AND prosrc <> %s""",
        where.schema, triggers.OFF,
    )  # fmt: skip
    return sorted({name for (name,) in capturing}.difference(wanted))


def calls(of: Iterable[str]) -> list[tuple[str, str]]:
    """Triggers that call these functions, each with the table or the partition that it is on."""
    return _ask(
        """SELECT tgname::text, tgrelid::regclass::text FROM pg_trigger WHERE tgparentid = 0
        AND tgfoid IN (SELECT to_regproc(name) FROM unnest(%s::text[]) AS name)""",
        list(of),
    )


def is_log_typed(where: Names) -> bool | None:
    """Whether the change log is a table of a type, so that nobody can alter its columns; None if it is missing."""
    is_typed = _ask("SELECT reloftype <> 0 FROM pg_class WHERE oid = to_regclass(%s)", where.log)
    return bool(is_typed[0][0]) if is_typed else None


def owners_without_log(where: Names) -> list[str]:
    """Roles that own functions of triggers, and may not write the change log."""
    owners = _ask(
        """SELECT DISTINCT pg_get_userbyid(proowner)::text FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
        WHERE proname LIKE 'recent\\_workflows\\_%%' AND quote_ident(nspname) = %s
        AND NOT has_table_privilege(proowner, to_regclass(%s), 'INSERT')""",
        where.schema, where.log,
    )  # fmt: skip
    return [owner for (owner,) in owners]


def sessions_in(table: str, *, lock_rows: bool = False) -> str:
    """Who writes or locks a table, for people; empty if nobody does.

    Args:
        table: quoted.
        lock_rows: also who only locks rows.
    """
    sessions = _ask(
        """SELECT DISTINCT a.pid, coalesce(a.usename::text, 'a prepared transaction'), coalesce(application_name, ''),
            ', open for ' || round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1) || ' s'
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.relation = to_regclass(%s) AND l.granted
        AND (l.mode LIKE '%%Exclusive%%' OR %s AND l.mode = 'RowShareLock')
        AND l.pid IS DISTINCT FROM pg_backend_pid() ORDER BY 1 LIMIT 5""",
        table, lock_rows,
    )  # fmt: skip
    return "; ".join(
        f"session {pid} of {who}{f' ({app})' if app else ''}{open_for or ''}" for pid, who, app, open_for in sessions
    )


def writers() -> set[str]:
    """Virtual ids of the transactions that hold a lock to write a table of the host's.

    Those of now may still call trigger functions that were replaced, even if they have not written anything yet, and
    so have no transaction id. A transaction that takes its lock later calls the new ones. One that is prepared keeps
    its virtual id.
    """
    watched = [quoted(table.name) for table in tables(host())]
    holders = _ask(
        """
        WITH watched AS (
            SELECT to_regclass(name)::oid AS oid FROM unnest(%s::text[]) AS name
            UNION
            SELECT relid FROM unnest(%s::text[]) AS name CROSS JOIN pg_partition_tree(to_regclass(name))
        )
        SELECT DISTINCT virtualtransaction FROM pg_locks
        WHERE locktype = 'relation' AND granted AND mode LIKE '%%Exclusive%%'
          AND mode <> 'ShareUpdateExclusiveLock' -- VACUUM's, which may take an hour
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND relation IN (SELECT oid FROM watched)
        """,
        watched, watched,
    )  # fmt: skip
    return {holder for (holder,) in holders}


def _ask(statement: str, *params: Any) -> list[Any]:
    return rows(Sql(statement, params))
