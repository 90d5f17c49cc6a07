"""The SQL of capture: the change log, and a function for each table of the host's that a trigger calls.

Nothing here executes anything. The functions keep three promises:

- *The host's write never fails because of us.* The host's columns and the log's shape are read inside an ``EXCEPTION``
  block. If a column cannot be read, the change names the key alone, for every shard. If the log cannot be written, a
  warning says so.
- *They take no subtransaction id.* The log is written outside that block.
- *They read no table of the host's.* Another transaction may be changing it. What they cannot know from the row itself
  goes to every shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from workflows_tasks import conf
from workflows_tasks.capture.tables import RunPart, ScopePart, Table
from workflows_tasks.host import Host, host
from workflows_tasks.keys import column_type, shard_sql, text_of
from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow

ROW_TRIGGER: Final = "recent_workflows_capture"
TRUNCATE_TRIGGER: Final = "recent_workflows_truncate"

LOG_COLUMNS: Final = {
    "id": "uuid PRIMARY KEY DEFAULT gen_random_uuid()",  # no sequence: a restore or a promoted replica cannot collide
    "shard": "integer NOT NULL",
    "shards": "integer NOT NULL",  # the number of shards that the writer knew
    "workspace": "text",  # null: unknown, or not only one
    "run": "text",  # null: a scope
    "lookup": "text",  # of a scope: the foreign keys that lead from its runs to its key; '' is every run
    "key": "text",
    "low": "text",  # of a scope: only runs past this one; of "every run": only workspaces past this one
    "high": "text",  # of a scope: only runs up to this one
    "at": "timestamptz NOT NULL DEFAULT clock_timestamp()",
    "error": "text",  # why it is in quarantine
    "tries": "integer",
    "retry_at": "timestamptz",
}
"""The change log. Columns are only ever added, nullable: triggers of an older release may still be writing."""

EVERY_RUN: Final = ""
"""``lookup`` of the scope that names every run."""

COMMAND: Final = "manage.py recent_workflows triggers --install"
"""What mends nearly everything about capture."""

OFF: Final = "BEGIN RETURN NULL; END"
"""Body of a function that captures nothing."""


@dataclass(frozen=True, slots=True)
class Names:
    """Qualified and quoted names in the database that triggers are composed for."""

    schema: str
    log: str
    log_columns: str
    stored: str

    @classmethod
    def of_schema(cls, schema: str) -> Names:
        """The names in a schema, which is quoted already."""
        tables = CHANGES, f"{CHANGES}_columns", WorkspaceRecentWorkflow._meta.db_table
        return cls(schema, *(f'{schema}."{name}"' for name in tables))

    def function(self, table: Table) -> str:
        return f'{self.schema}."{table.function}"'

    def truncate_function(self, table: Table) -> str:
        return f'{self.schema}."{table.function}_t"'


_VACUUM: Final = ", ".join(
    f"autovacuum_{name}"
    for name in (
        "vacuum_scale_factor = 0", "vacuum_threshold = 2000", "vacuum_cost_delay = 0", "vacuum_insert_threshold = -1",
        "analyze_scale_factor = 0", "analyze_threshold = 20000",
    )
)  # fmt: skip


def create_log(names: Names) -> list[str]:
    """Statements that make the change log where it is missing."""
    kinds = {name: kind.partition(" ") for name, kind in LOG_COLUMNS.items()}
    columns = ", ".join(f'"{name}" {kind}' for name, (kind, _, _) in kinds.items())
    options = ", ".join(f'"{name}" WITH OPTIONS {rest}' for name, (_, _, rest) in kinds.items() if rest)
    return [
        f"DROP TYPE IF EXISTS {names.log_columns}",
        f"CREATE TYPE {names.log_columns} AS ({columns})",
        # Of a type, so that PostgreSQL lets nobody add, rename or drop a column: the host's writes would fail.
        # The log is a queue, so most of its rows are dead: vacuum them by their number, at full speed.
        f"CREATE TABLE IF NOT EXISTS {names.log} OF {names.log_columns} ({options}) WITH ({_VACUUM})",
        # A flush takes a workspace's oldest changes by it, and a fresh page reads the workspace's changes.
        f'CREATE INDEX IF NOT EXISTS "{CHANGES}_take" ON {names.log} (shard, workspace, at)',
        f'CREATE INDEX IF NOT EXISTS "{CHANGES}_scopes" ON {names.log} (shard, at) WHERE run IS NULL',
        f'CREATE INDEX IF NOT EXISTS "{CHANGES}_quarantine" ON {names.log} (shard, at) WHERE error IS NOT NULL',
        f"REVOKE ALL ON {names.log} FROM PUBLIC",
    ]


def create_function(name: str, body: str) -> str:
    """A trigger's function. ``search_path`` is fixed, so that nobody can put a function of theirs in the way."""
    style = " SET datestyle = 'ISO, YMD'" if _has_dated_key(host()) else ""
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        f"SET search_path = pg_catalog, pg_temp{style} AS $recent_workflows${body}$recent_workflows$"
    )


def _has_dated_key(the_host: Host) -> bool:
    """Whether a key's text depends on the session's style of dates. Only then it is set, as that slows writes."""
    fields = (the_host.run_key, the_host.workspace, *(hop.target_field for hop in the_host.path))
    return any(column_type(each).startswith(("date", "time", "interval")) for each in fields)


def row_body(table: Table, names: Names, shards: int) -> str:
    """Body of the function that a row's INSERT, UPDATE or DELETE calls."""
    parts = [_run_code(table.run, names, shards)] if table.run else []
    parts += [_scope_code(part, names, shards) for part in table.scopes]
    return f"""
DECLARE
    was text[]; now_is text[]; problem text; ready boolean; key_was text; key_is text;
BEGIN
{"".join(parts)}
    RETURN NULL;
END
"""


def _is_ready(names: Names) -> str:
    """SQL: the log is there, and may be written. Every change asks this, so it must be cheap."""
    return f"coalesce(has_table_privilege(to_regclass('{_literal(names.log)}'), 'INSERT'), false)"


def _reading(columns: Sequence[str], key: str | None, names: Names, *, without_insert: bool) -> str:
    """Code that fills ``was`` and ``now_is`` and leaves ``problem`` null if all went well."""

    def row(prefix: str) -> str:
        return ", ".join(text_of(f"{prefix}.{_quote(column)}") for column in columns)

    def key_of(prefix: str) -> str:
        return text_of(f"{prefix}.{_quote(key)}") if key else "NULL"

    unchanged = "was IS NOT DISTINCT FROM now_is" + (" OR TG_OP = 'INSERT'" if without_insert else "")
    return f"""
    problem := NULL; was := NULL; now_is := NULL; ready := false; key_was := NULL; key_is := NULL;
    BEGIN
        IF TG_OP <> 'INSERT' THEN was := ARRAY[{row("OLD")}]; END IF;
        IF TG_OP <> 'DELETE' THEN now_is := ARRAY[{row("NEW")}]; END IF;
        ready := {unchanged} OR ({_is_ready(names)});
    EXCEPTION WHEN OTHERS THEN
        problem := SQLERRM;
        BEGIN
            ready := {_is_ready(names)};
            IF TG_OP <> 'INSERT' THEN key_was := {key_of("OLD")}; END IF;
            IF TG_OP <> 'DELETE' THEN key_is := {key_of("NEW")}; END IF;
        EXCEPTION WHEN OTHERS THEN
            key_was := NULL; key_is := NULL;
        END;
        RAISE WARNING 'recent workflows: columns of % cannot be read (%); run: {COMMAND}',
            TG_RELID::regclass, problem;
    END;
    IF NOT ready THEN
        RAISE WARNING
            'recent workflows: the change log cannot be written, so this change of % is not captured; run: {COMMAND}',
            TG_RELID::regclass;
    ELSIF problem IS NULL AND ({unchanged}) THEN
        NULL;
"""


def _for_every_shard(names: Names, shards: int, columns: str, values: str, where: str = "true") -> str:
    return (
        f"INSERT INTO {names.log} (shard, shards, {columns}) "
        f"SELECT shard, {shards}, {values} FROM generate_series(0, {shards - 1}) AS shard WHERE {where};"
    )


def _every_run(names: Names, shards: int) -> str:
    return _for_every_shard(names, shards, "lookup", f"'{EVERY_RUN}'")


def _run_code(part: RunPart, names: Names, shards: int) -> str:
    others = [column for column in part.columns if column not in (part.key, part.workspace)]
    columns = [part.key, *([part.workspace] if part.workspace else []), *others]

    def unknown(key: str) -> str:
        return _for_every_shard(names, shards, "run", key)

    def known(row: str) -> str:
        return (
            f"INSERT INTO {names.log} (shard, shards, workspace, run) "
            f"VALUES ({shard_sql(f'{row}[2]', shards)}, {shards}, {row}[2], {row}[1]);"
        )

    if part.workspace:
        normal = f"""
        IF now_is[2] IS NOT NULL THEN {known("now_is")} END IF;
        IF was[2] IS NOT NULL AND was[1:2] IS DISTINCT FROM now_is[1:2] THEN {known("was")} END IF;"""
    else:
        # An INSERT is not logged here: the child's row follows, and its trigger logs the run. A DELETE must be logged
        # here: this row alone may go, and come back before foreign keys are checked at the end of the transaction.
        normal = f"""
        IF now_is IS NOT NULL THEN {unknown("now_is[1]")} END IF;
        IF was[1] IS DISTINCT FROM now_is[1] THEN {unknown("was[1]")} END IF;"""
    return f"""{_reading(columns, part.key, names, without_insert=part.workspace is None)}
    ELSIF problem IS NULL THEN{normal}
    ELSIF key_was IS NULL AND key_is IS NULL THEN
        {_every_run(names, shards)}
    ELSE
        IF key_is IS NOT NULL THEN {unknown("key_is")} END IF;
        IF key_was IS NOT NULL AND key_was IS DISTINCT FROM key_is THEN {unknown("key_was")} END IF;
    END IF;
"""


def _scope_code(part: ScopePart, names: Names, shards: int) -> str:
    """Code that logs a scope: the runs that lead to this row, by lookup and key. The trigger cannot know them."""
    if part.key is None:
        columns, writes = list(part.columns), {"now_is": _every_run(names, shards), "was": ""}
        fallback = _every_run(names, shards)
    else:
        columns = [part.key, *(column for column in part.columns if column != part.key)]

        def scope(key: str) -> str:
            lookup = _literal(part.lookup)
            if part.is_workspace:
                return (
                    f"INSERT INTO {names.log} (shard, shards, workspace, lookup, key) "
                    f"VALUES ({shard_sql(key, shards)}, {shards}, {key}, '{lookup}', {key});"
                )
            return _for_every_shard(names, shards, "lookup, key", f"'{lookup}', {key}")

        writes = {row: scope(f"{row}[1]") for row in ("now_is", "was")}
        fallback = f"""IF key_was IS NULL AND key_is IS NULL THEN {_every_run(names, shards)} END IF;
        IF key_is IS NOT NULL THEN {scope("key_is")} END IF;
        IF key_was IS NOT NULL AND key_was IS DISTINCT FROM key_is THEN {scope("key_was")} END IF;"""
    if part.key is None:
        normal = writes["now_is"]
    else:
        normal = f"""
        IF now_is[1] IS NOT NULL THEN {writes["now_is"]} END IF;
        IF was[1] IS NOT NULL AND was[1] IS DISTINCT FROM now_is[1] THEN {writes["was"]} END IF;"""
    return f"""{_reading(columns, part.key, names, without_insert=False)}
    ELSIF problem IS NULL THEN
        {normal}
    ELSE
        {fallback}
    END IF;
"""


def truncate_body(table: Table, names: Names, shards: int) -> str:
    """Body of the function that a TRUNCATE calls.

    If our own table is empty, no row can be wrong, and nothing is logged: a host's tests truncate all tables all the
    time. If the runs are gone too, the changes in the log concern nothing any more, and are deleted. Both need a
    snapshot that is newer than the table's lock, and only READ COMMITTED takes one.
    """
    forget = f"""
        IF has_table_privilege(to_regclass('{_literal(names.log)}'), 'DELETE') THEN DELETE FROM {names.log}; END IF;"""
    return f"""
DECLARE
    ready boolean := false; is_empty boolean := false;
BEGIN
    BEGIN
        IF current_setting('transaction_isolation') = 'read committed' THEN
            is_empty := NOT EXISTS (SELECT FROM {names.stored});
        END IF;
        ready := {_is_ready(names)};
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    IF NOT ready THEN
        RAISE WARNING
            'recent workflows: the change log cannot be written, so a TRUNCATE of % is not captured; run: {COMMAND}',
            TG_RELID::regclass;
    ELSIF is_empty THEN{forget if table.run else " NULL;"}
    ELSE
        {_every_run(names, shards)}
    END IF;
    RETURN NULL;
END
"""


def create_triggers(relation: str, functions: Iterable[str]) -> list[str]:
    """Statements that bind a table to its two functions. A trigger never changes; its function may.

    They say ``OR REPLACE`` because another process may have made the triggers meanwhile.
    """
    row, truncate = functions
    return [
        f"""CREATE OR REPLACE TRIGGER "{ROW_TRIGGER}" AFTER INSERT OR UPDATE OR DELETE ON {relation}
        FOR EACH ROW EXECUTE FUNCTION {row}()""",
        f"""CREATE OR REPLACE TRIGGER "{TRUNCATE_TRIGGER}" AFTER TRUNCATE ON {relation}
        FOR EACH STATEMENT EXECUTE FUNCTION {truncate}()""",
    ]


def functions(table: Table, names: Names) -> dict[str, str]:
    """The two functions of a table without triggers: qualified name -> body."""
    shards = conf.settings().shards
    return {
        names.function(table): row_body(table, names, shards),
        names.truncate_function(table): truncate_body(table, names, shards),
    }


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return text.replace("'", "''")
