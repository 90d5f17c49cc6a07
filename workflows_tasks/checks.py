"""System checks. Each message says what would happen, each hint what to do. All are in docs/reference/checks.md.

Those that ask the server run where Django's own database checks do: ``check --database default``, ``migrate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from celery import current_app
from django.core import checks
from django.db import DatabaseError, InterfaceError, connections, router
from django.db.migrations.exceptions import NodeNotFoundError
from django.db.migrations.loader import MigrationLoader

from workflows_tasks import conf
from workflows_tasks import host as hosts
from workflows_tasks.capture import catalogue, nudge, tables
from workflows_tasks.host import Host
from workflows_tasks.monitoring import health, indexes
from workflows_tasks.projection.fragments import compose
from workflows_tasks.queues import beat_schedule
from workflows_tasks.sql import Sql, quoted, rows, value

OLDEST_POSTGRESQL: Final = 15


def register() -> None:
    """Register every check of this package."""
    for check in (check_settings, check_filter, check_database_engine, check_redis, check_beat):
        checks.register(check)
    checks.register(check_database, checks.Tags.database)


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """``RECENT_WORKFLOWS`` by itself, and what it names in the host's models."""
    problems = conf.problems() or list(hosts.problems())
    return [checks.Error(problem.msg, hint=problem.hint, id=problem.id) for problem in problems]


def check_filter(**_: Any) -> Iterator[checks.CheckMessage]:
    """A part of the filter that leads to no column has no trigger."""
    host = _host()
    for part in host.filter_reads.unseen if host else ():
        yield checks.Warning(
            f"{conf.NAME}['RUN_FILTER'] reads {part}, which leads to no column that a trigger could watch; "
            "a change there is late until the audit comes by.",
            hint="Compare with a column of the run, or of a model that its foreign keys lead to; or silence this.",
            id="recent_workflows.W003",
        )


def check_database_engine(**_: Any) -> Iterator[checks.CheckMessage]:
    """Runs and our table must be in one PostgreSQL."""
    host = _host()
    if host is None:
        return
    from workflows_tasks.models import WorkspaceRecentWorkflow

    ours = router.db_for_write(WorkspaceRecentWorkflow)
    if connections[host.database].vendor != "postgresql":
        yield checks.Error(
            f"Database {host.database!r} is {connections[host.database].display_name}; flushes would fail on it.",
            hint=f"Keep {host.run._meta.label} in PostgreSQL {OLDEST_POSTGRESQL} or newer.",
            id="recent_workflows.E020",
        )
    if ours != host.database:
        yield checks.Error(
            f"Runs are written to database {host.database!r} but recent workflows to {ours!r}; "
            "a flush reads one and writes the other in one statement.",
            hint="Route the app workflows_tasks to the database of the runs.",
            id="recent_workflows.E021",
        )


def check_redis(**_: Any) -> Iterator[checks.CheckMessage]:
    """Whether ``REDIS_URL`` makes a client. ``health`` asks whether the server answers."""
    if _host() is None or not conf.settings().redis_url:
        return
    try:
        nudge.client(conf.settings().save_timeout_s)
    except Exception as error:  # a client factory that cannot be imported, a URL that cannot be parsed
        yield checks.Error(
            f"{conf.NAME}['REDIS_URL'] makes no client ({error}); each process would send flush messages of its own.",
            hint="Give a redis:// URL, or the dotted path of a callable factory(*, timeout_s) -> Redis.",
            id="recent_workflows.E023",
        )


def check_beat(**_: Any) -> Iterator[checks.CheckMessage]:
    """Without its beat entries a lost message is not noticed."""
    if _host() is None:
        return
    scheduled = {entry.get("task") for entry in (current_app.conf.beat_schedule or {}).values()}
    missing = [entry["task"] for entry in beat_schedule().values() if entry["task"] not in scheduled]
    if missing:
        yield checks.Warning(
            f"Celery beat has no entry for {', '.join(missing)}; changes whose message is lost would wait for "
            "the next save, and nobody would notice that writes are not captured.",
            hint="Call workflows_tasks.queues.configure(app) where your Celery app is made, and import that module in "
            "your project's __init__; or, if another scheduler sends them, silence this.",
            id="recent_workflows.W002",
        )


def check_database(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Checks that query the database. An error of its ends them without a word, because Django reports it itself.

    Missing tables are no finding: ``migrate`` runs the checks before it makes them.
    """
    host = _host()
    if host is None or host.database not in (databases or ()) or connections[host.database].vendor != "postgresql":
        return []
    messages: list[checks.CheckMessage] = []
    try:
        for check in (_version, _row_security, _spelling, _columns):
            messages += check(host)
        unapplied = _unapplied(host)
        messages += [*_capture(host, unapplied), *_indexes(host, unapplied)]
    except (DatabaseError, InterfaceError, NodeNotFoundError):
        pass  # Django says so itself, and better
    return messages


def _version(host: Host) -> Iterator[checks.CheckMessage]:
    version = connections[host.database].pg_version  # type: ignore[attr-defined]
    if version < OLDEST_POSTGRESQL * 10_000:
        yield checks.Error(
            f"Database {host.database!r} is PostgreSQL {version // 10_000}; flushes are not tested on it.",
            hint=f"Upgrade to PostgreSQL {OLDEST_POSTGRESQL} or newer.",
            id="recent_workflows.E022",
        )


def _row_security(host: Host) -> Iterator[checks.CheckMessage]:
    """Runs that a policy hides would look deleted. So flushes set ``row_security = off``, which makes it an error."""
    for table in tables.tables(host):
        ((is_active, role),) = rows(
            Sql("SELECT coalesce(row_security_active(to_regclass(%s)), false), current_user", (quoted(table.name),))
        )
        if is_active:
            yield checks.Error(
                f"Row-level security of {table.name} holds for {role}; every flush would refuse "
                "(row_security = off), for rows that a policy hides would look deleted.",
                hint=f'Let flushes run as a role that sees every row: ALTER ROLE "{role}" BYPASSRLS; or as the '
                f"owner of {table.name}, without FORCE ROW LEVEL SECURITY.",
                id="recent_workflows.E030",
            )


def _spelling(host: Host) -> Iterator[checks.CheckMessage]:
    """The table compares keys as text. It would disagree with a column in which two spellings are equal."""
    for field in (host.workspace, host.user, host.workflow):
        statement = """
            WITH RECURSIVE kind(oid, name, base) AS (
                SELECT t.oid, t.typname, t.typbasetype FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
                WHERE attrelid = to_regclass({table}) AND attname = {column} AND NOT attisdropped
                UNION ALL SELECT t.oid, t.typname, t.typbasetype FROM kind JOIN pg_type t ON t.oid = kind.base
            )
            SELECT CASE WHEN EXISTS (SELECT FROM kind WHERE name = 'citext') THEN 'is of type citext'
                        ELSE 'has the nondeterministic collation ' || collname END
            FROM pg_attribute LEFT JOIN pg_collation c ON c.oid = attcollation
            WHERE attrelid = to_regclass({table}) AND attname = {column}
              AND (NOT coalesce(collisdeterministic, true) OR EXISTS (SELECT FROM kind WHERE name = 'citext'))
        """
        table, column = value(quoted(str(field.model._meta.db_table))), value(field.column)
        for (why,) in rows(compose(statement, table=table, column=column)):
            yield checks.Error(
                f"{field} {why}: two spellings are one to PostgreSQL and two to the table, so rows would be wrong.",
                hint="Make the column a text or varchar with a deterministic collation, and keep one spelling in it.",
                id="recent_workflows.E031",
            )


def _columns(host: Host) -> Iterator[checks.CheckMessage]:
    """Our columns are made as the host's fields say. Where the host's table was made by somebody else, the two differ.

    Types must compare, and collations be one: a tie that one of them decides otherwise would be drift for ever.
    """
    from workflows_tasks.models import WorkspaceRecentWorkflow as Ours

    names = {"workspace": host.workspace, "published_run": host.workflow, "last_run": host.run_key}
    for name, field in names.items():
        statement = """
            SELECT format_type(theirs.atttypid, theirs.atttypmod), format_type(ours.atttypid, ours.atttypmod),
                   coalesce(theirs.attcollation::regcollation::text, ''),
                   coalesce(ours.attcollation::regcollation::text, ''),
                   t.oid = o.oid OR t.typcategory = 'N' AND o.typcategory = 'N'
                   OR t.typname IN ('varchar', 'text') AND o.typname IN ('varchar', 'text')
            FROM pg_attribute theirs JOIN pg_type declared ON declared.oid = theirs.atttypid
            JOIN pg_type t ON t.oid = coalesce(nullif(declared.typbasetype, 0), declared.oid)
            CROSS JOIN pg_attribute ours JOIN pg_type o ON o.oid = ours.atttypid
            WHERE theirs.attrelid = to_regclass({their_table}) AND theirs.attname = {their_column}
              AND ours.attrelid = to_regclass({our_table}) AND ours.attname = {our_column}
        """
        asked = compose(
            statement,
            their_table=value(quoted(str(field.model._meta.db_table))), their_column=value(field.column),
            our_table=value(quoted(Ours._meta.db_table)), our_column=value(f"{name}_id"),
        )  # fmt: skip
        for theirs, ours, their_order, our_order, compares in rows(asked):
            if compares and their_order == our_order:
                continue
            they, we = (theirs, ours) if not compares else (f"ordered by {their_order}", f"by {our_order}")
            yield checks.Error(
                f"The column of {field} is {they} in the database, and {we} as its field says and our table has it; "
                "flushes would fail, or decide ties in another order.",
                hint="Give the field the type and the db_collation that its column has, then make the table of "
                "workflows_tasks anew: migrate workflows_tasks zero, and migrate.",
                id="recent_workflows.E032",
            )


def _capture(host: Host, unapplied: set[str]) -> Iterator[checks.CheckMessage]:
    """Silent while ``migrate`` has something to do, for it installs what is missing when it has done it."""
    ours = {"workflows_tasks", host.run._meta.app_label, *(hop.model._meta.app_label for hop in host.path)}
    if catalogue.names() is None or ours & unapplied:
        return
    for problem in health.capture_problems():
        yield checks.Warning(
            f"Rows may become wrong: {problem}.",
            hint="manage.py recent_workflows health says the same; migrate installs what is missing, too.",
            id="recent_workflows.W010",
        )


def _indexes(host: Host, unapplied: set[str]) -> Iterator[checks.CheckMessage]:
    """Silent for an app with migrations that are not applied yet: one of them may make the index."""
    for need, create in indexes.missing(host):
        table, label = need.model._meta.db_table, need.model._meta.label
        if need.model._meta.app_label in unapplied:
            continue
        yield checks.Warning(
            f"No index of {table} serves {need.statement}; each time it would read many runs for few.",
            hint=f"Add models.Index(fields={need.names!r}) to {label}, or run: {create}",
            id="recent_workflows.W011",
        )


def _unapplied(host: Host) -> set[str]:
    """Apps with migrations that are not applied yet."""
    loader = MigrationLoader(connections[host.database])
    return {app for app, _ in loader.graph.nodes.keys() - loader.applied_migrations.keys()}


def _host() -> Host | None:
    """None if the settings cannot be used, or a filter does not compile: ``check_settings`` says why."""
    return None if conf.problems() or any(hosts.problems()) else hosts.host()
