"""What every statement is made of.

The part that knows the host is one subquery, ``live``: the runs that count, with their workspace, user and workflow.
Django's ORM compiles it from the settings, filter and joins included; everything around it is fixed SQL. PostgreSQL
flattens it, so a condition on ``live`` reaches the run's own indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.core.signals import setting_changed
from django.db import connections
from django.db.models import F, Field, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, NullIf

from workflows_tasks import conf
from workflows_tasks.host import Host, host, storage_field
from workflows_tasks.models import WorkspaceRecentWorkflow

Statement = tuple[str, list[Any]]
"""A statement and its parameters, for ``cursor.execute``."""


@dataclass(frozen=True, slots=True)
class Fragments:
    """Fragments for one host: quoted names, column types, the live runs."""

    table: str
    live: str
    live_params: tuple[Any, ...]
    history: str
    history_params: tuple[Any, ...]
    workspace_type: str
    user_type: str
    workflow_type: str
    run_type: str


@cache
def fragments() -> Fragments:
    found = host()
    alias = found.database
    live, live_params = live_runs(found, alias, Q())
    history, history_params = live_runs(found, alias, found.backfill_filter)
    return Fragments(
        table=connections[alias].ops.quote_name(WorkspaceRecentWorkflow._meta.db_table),
        live=live,
        live_params=live_params,
        history=history,
        history_params=history_params,
        workspace_type=_column_type(found.workspace, alias),
        user_type=_column_type(found.user, alias),
        workflow_type=_column_type(found.workflow, alias),
        run_type=_column_type(found.run_key, alias),
    )


def live_runs(found: Host, alias: str, extra: Q) -> tuple[str, tuple[Any, ...]]:
    """Runs that count, as ``(run, workspace, "user", uid, workflow, used_at)``; uid is null where there is no user."""
    user = found.user.attname
    placed = {f"{found.workspace.name}__isnull": False, f"{found.path_lookup}__isnull": False}
    placed |= {f"{found.used_at.name}__isnull": False}
    runs = (
        found.run._base_manager.using(alias)
        .filter(found.run_filter, extra, **placed)
        .order_by()
        .values_list(
            F("pk"),
            F(found.workspace.attname),
            F(user),
            # An empty name is no user: uid '' means the workspace's own rows.
            NullIf(Cast(F(user), TextField()), Value(""), output_field=TextField()),
            F(found.path_lookup),
            F(found.used_at.name),
        )
    )
    statement, params = runs.query.get_compiler(alias).as_sql()
    return f'({statement}) AS live(run, workspace, "user", uid, workflow, used_at)', tuple(params)


def _column_type(field: Any, alias: str) -> str:
    """The SQL type to cast parameters to. Text for every kind of varchar: a cast to one would cut what is too long."""
    stored: Field[Any, Any] = storage_field(field)
    declared = stored.rel_db_type(connections[alias]) if field.remote_field else stored.db_type(connections[alias])
    assert declared is not None
    return "text" if declared.startswith(("varchar", "char", "text")) else declared


def prepared(field: Any, values: Sequence[Any]) -> list[Any]:
    """Python values of a host's column as the database driver takes them."""
    stored, connection = storage_field(field), connections[host().database]
    return [stored.get_db_prep_value(value, connection) for value in values]


def shard_sql(workspace: str) -> str:
    """SQL for ``inbox.shard_of``: the first four bytes of the SHA-256 of the key's text."""
    digest = f"sha256(convert_to({workspace}::text, 'UTF8'))"
    number = f"('x' || encode(substr({digest}, 1, 4), 'hex'))::bit(32)::bigint"
    return f"mod({number}, {conf.settings().shards})::int"


def in_utc(moment: str) -> str:
    """SQL for a moment on its way to Python and back: in UTC, without its zone.

    Where a host has no ``USE_TZ``, drivers read moments as naive ones of its zone. In the hour that its clocks are set
    back each of those is two moments, so what comes back from Python need not be what went there.
    """
    return f"({moment})::timestamptz AT TIME ZONE 'UTC'"


_KEY = "workspace_id, uid, published_run_id"
_COLUMNS = f"{_KEY}, last_used_at, last_run_id"


def rising(table: str, source: str) -> str:
    """Those of ``source`` (workspace, uid, workflow, used_at, run, ...) that are newer than their row, or have none.

    What is not newer is left out before the insert: even an upsert that changes nothing locks its row and writes WAL.
    """
    return f"""
        SELECT source.*
        FROM {source} AS source
        LEFT JOIN {table} AS present
          ON (present.workspace_id, present.uid, present.published_run_id)
           = (source.workspace, source.uid, source.workflow)
        WHERE present.id IS NULL OR (source.used_at, source.run) > (present.last_used_at, present.last_run_id)
    """


def rises(table: str) -> str:
    """Condition on ``live``: a row of the run's, of either grain, is older or not there.

    A sub-select for each grain rather than one join: each is then one look-up of a whole key, where the planner would
    otherwise read all rows of a workspace's or user's page for it.
    """

    def newer(uid: str) -> str:
        return f"""coalesce((
            SELECT (live.used_at, live.run) > (present.last_used_at, present.last_run_id)
            FROM {table} AS present
            WHERE present.workspace_id = live.workspace AND present.uid = {uid}
              AND present.published_run_id = live.workflow
        ), true)"""

    workspace, user = newer("''"), newer("live.uid")
    return f"({workspace} OR (live.uid IS NOT NULL AND {user}))"


def upsert(table: str, source: str) -> str:
    """Write ``source`` in key order, so that no two writers deadlock, and only upwards, whoever wrote in between."""
    return f"""
        INSERT INTO {table} AS stored ({_COLUMNS})
        SELECT source.workspace, source.uid, source.workflow, source.used_at, source.run
        FROM {source} AS source
        ORDER BY source.workspace, source.uid, source.workflow
        ON CONFLICT ({_KEY}) DO UPDATE
        SET last_used_at = excluded.last_used_at, last_run_id = excluded.last_run_id
        WHERE (excluded.last_used_at, excluded.last_run_id) > (stored.last_used_at, stored.last_run_id)
        RETURNING stored.last_run_id
    """


def newest_per_key(live: str, where: str) -> str:
    """The newest run of each key, both grains: each user's first, and the workspace's own (uid '') from those."""
    return f"""
        WITH by_user AS MATERIALIZED (
            SELECT DISTINCT ON (live.workspace, live.uid, live.workflow)
                live.workspace, live.uid, live.workflow, live.used_at, live.run
            FROM {live}
            WHERE {where}
            ORDER BY live.workspace, live.uid, live.workflow, live.used_at DESC, live.run DESC
        )
        SELECT * FROM by_user WHERE uid IS NOT NULL
        UNION ALL
        (
            SELECT DISTINCT ON (workspace, workflow) workspace, '', workflow, used_at, run
            FROM by_user
            ORDER BY workspace, workflow, used_at DESC, run DESC
        )
    """


def workspaces_of_runs() -> str:
    """The workspace of each run that has one, whether it counts or not; has no parameters, and one column.

    Not by the model's base manager, whose filter, if a host gave it one, may have parameters.
    """
    found = host()
    every: QuerySet[Any] = QuerySet(found.run, using=found.database)
    runs = every.filter(**{f"{found.workspace.name}__isnull": False})
    statement, _ = runs.order_by().values_list(found.workspace.attname).query.get_compiler(found.database).as_sql()
    return str(statement)


def untrue(parts: Fragments, among: str = "true") -> str:
    """Condition on ``stored``: its run is gone, hidden, of another key, or older than the row says.

    Args:
        among: condition on ``live`` that every row's run meets anyway, so that the planner knows which runs those are.
    """
    return f"""NOT EXISTS (
        SELECT FROM {parts.live}
        WHERE {among}
          AND live.run = stored.last_run_id
          AND live.workspace = stored.workspace_id
          AND live.workflow = stored.published_run_id
          AND (stored.uid = '' OR stored.uid = live.uid)
          AND live.used_at >= stored.last_used_at
    )"""


def stale(parts: Fragments, where: str, among: str = "true") -> str:
    return f"""
        SELECT {shard_sql("stored.workspace_id")}, stored.workspace_id, stored.uid, stored.published_run_id,
               {in_utc("stored.last_used_at")}, stored.last_run_id
        FROM {parts.table} AS stored
        WHERE {where} AND {untrue(parts, among)}
    """


@dataclass(frozen=True, slots=True)
class Workspaces:
    """A range of workspaces by key: from ``first``, or just past ``after``, to ``last``; None is unbounded.

    Inside the workspaces at its ends it may begin and end at a run: in ``first`` past ``after_run``, in ``last`` with
    ``last_run``. So any two positions in the order of (workspace, run) have a range between them.
    """

    first: Any = None
    last: Any = None
    after: Any = None
    after_run: Any = None
    last_run: Any = None

    def where(self, workspace: str, run: str | None = None) -> Statement:
        """Condition on a column of workspaces and one of their runs, and its parameters.

        Without the second the workspaces at the ends are meant whole. Within one workspace it is an equality and a
        range of runs; otherwise a range of workspaces, so that an index on either column serves, with rows compared
        only at an end that is a run.
        """
        kind, run_kind = fragments().workspace_type, fragments().run_type
        one = self.first is not None and self.first == self.last
        bounds = [(">=", self.first), (">", self.after), ("<=", self.last)]
        wanted = [("=", self.first)] if one else [(sign, value) for sign, value in bounds if value is not None]
        where = [f"{workspace} {sign} %s::{kind}" for sign, _ in wanted]
        params = prepared(host().workspace, [value for _, value in wanted])
        ends = [(">", self.first, self.after_run), ("<=", self.last, self.last_run)]
        for sign, of, value in ends if run else ():
            if value is None:
                continue
            where += [
                f"{run} {sign} %s::{run_kind}" if one else f"({workspace}, {run}) {sign} (%s::{kind}, %s::{run_kind})"
            ]
            params += [] if one else prepared(host().workspace, [of])
            params += prepared(host().run_key, [value])
        return " AND ".join(where) or "true", params


EVERYWHERE: Final = Workspaces()


def counted_by_history(workspaces: Workspaces, since: Any = None) -> Statement:
    """Condition on ``fragments().history``, and the parameters of both."""
    where, bounds = workspaces.where("live.workspace", "live.run")
    params = [*fragments().history_params, *bounds]
    if since is None:
        return where, params
    used_at = prepared(host().used_at, [since])
    return f"{where} AND live.used_at >= %s::{_column_type(host().used_at, host().database)}", [*params, *used_at]


def columns(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """One array parameter for each column."""
    return [list(column) for column in zip(*rows, strict=True)]


def _forget(*, setting: str, **_: object) -> None:
    if setting == conf.NAME:
        fragments.cache_clear()


setting_changed.connect(_forget, dispatch_uid="workflows_tasks.sql.fragments")
