"""The pieces that every statement is made of.

One subquery knows the host: ``live``, the runs that count, with their workspace, user and workflow. Django's ORM
compiles it from the settings. Everything around it is fixed SQL, which PostgreSQL flattens into it, so a condition on
``live`` reaches the run's own indexes.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import Any, Final

from django.db.models import F, Model, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Collate, NullIf

from workflows_tasks import conf
from workflows_tasks.host import Host, host
from workflows_tasks.keys import column_type, shard_sql, text_of
from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow
from workflows_tasks.sql import Sql, join, quoted


def compose(template: str, **parts: Sql | str | int) -> Sql:
    """``template`` with each ``{name}`` replaced by a piece; parameters follow in the order of the text.

    A name that is not among ``parts`` is a field of ``Fragments``.
    """
    pieces: list[Sql | str] = []
    for literal, name, _, _ in Formatter().parse(template):
        pieces.append(literal)
        if name is not None:
            part = parts[name] if name in parts else getattr(fragments(), name)
            pieces.append(part if isinstance(part, Sql) else str(part))
    return join("", pieces)


@dataclass(frozen=True, slots=True)
class Fragments:
    """What depends on the host: quoted names, types of key columns, the live runs."""

    table: str
    log: str
    shards: int
    live: Sql
    """``live(run, workspace, "user", uid, workflow, used_at)``: the runs that count."""
    history: Sql
    """The same for the runs that a backfill fills, under the same name."""
    has_history_filter: bool
    raw: Sql
    """``raw(run, workspace)``: every run, whether it counts or not."""
    run_type: str
    workspace_type: str
    user_type: str
    workflow_type: str
    grains: tuple[str, ...]


@conf.cached
def fragments() -> Fragments:
    """The fragments of the host in force."""
    the_host = host()
    return Fragments(
        table=quoted(WorkspaceRecentWorkflow._meta.db_table),
        log=quoted(CHANGES),
        shards=conf.settings().shards,
        live=_live(the_host, Q()),
        history=_live(the_host, the_host.backfill_filter),
        has_history_filter=bool(the_host.backfill_filter),
        raw=_compiled(QuerySet(the_host.run).order_by().values_list(F("pk"), F(the_host.workspace.attname)))
        + " AS raw(run, workspace)",
        run_type=column_type(the_host.run_key),
        workspace_type=column_type(the_host.workspace),
        user_type=column_type(the_host.user),
        workflow_type=column_type(the_host.workflow),
        grains=conf.settings().grains,
    )


def _live(the_host: Host, extra: Q) -> Sql:
    placed = {f"{the_host.workspace.name}__isnull": False, f"{the_host.path_lookup}__isnull": False}
    placed |= {f"{the_host.used_at.name}__isnull": False}
    user = F(the_host.user.attname)
    runs = (
        # Not by a manager of the host's: it may filter or annotate, and no trigger would know.
        QuerySet(the_host.run)
        .filter(the_host.run_filter, extra, **placed)
        .order_by()
        .values_list(
            F("pk"),
            F(the_host.workspace.attname),
            user,
            # An empty name is no user: uid '' is the workspace's own grain. With the collation of our column, for by
            # another two texts could be equal, and a flush would never have done with one of them.
            Collate(NullIf(Cast(user, TextField()), Value(""), output_field=TextField()), "default"),
            F(the_host.path_lookup),
            F(the_host.used_at.name),
        )
    )
    return _compiled(runs) + ' AS live(run, workspace, "user", uid, workflow, used_at)'


def matching(lookup: str, keys: Sql) -> Sql:
    """``matched(run, workspace)``: every run from which a lookup leads to one of these keys, also if it does not count.

    Args:
        keys: the keys' texts, as an array.
    """
    the_host = host()
    field = the_host.lookup_field(lookup)
    runs = QuerySet(the_host.run).order_by().values_list(F("pk"), F(the_host.workspace.attname), F(lookup))
    return compose(
        "(SELECT all_runs.run, all_runs.workspace FROM {runs} AS all_runs(run, workspace, key) "
        "WHERE all_runs.key = ANY(({keys})::{kind}[])) AS matched(run, workspace)",
        runs=_compiled(runs), keys=keys, kind=column_type(field),
    )  # fmt: skip


def _compiled(runs: QuerySet[Model, Any]) -> Sql:
    text, params = runs.query.get_compiler(host().database).as_sql()
    return Sql(f"({text})", tuple(params))


def in_shard(workspace: str, shard: int) -> str:
    """Condition: a workspace column's value belongs to the shard."""
    return f"{shard_sql(text_of(workspace), conf.settings().shards)} = {shard}"


KEY: Final = "workspace_id, uid, published_run_id"
COLUMNS: Final = f"{KEY}, last_used_at, last_run_id"


def keyed(live: Sql, where: Sql | str) -> Sql:
    """``keyed(workspace, uid, workflow, used_at, run)``: the runs of ``live``, once for each grain."""
    grains = fragments().grains
    of_grain = {
        conf.WORKSPACE: "SELECT ''",
        conf.USER: "SELECT live.uid WHERE live.uid IS NOT NULL",
    }
    return compose(
        """(
            SELECT live.workspace, grain.uid, live.workflow, live.used_at, live.run
            FROM {live} CROSS JOIN LATERAL ({grains}) AS grain(uid) WHERE {where}
        ) AS keyed(workspace, uid, workflow, used_at, run)""",
        live=live, grains=" UNION ALL ".join(of_grain[grain] for grain in grains), where=where,
    )  # fmt: skip


def newest_per_key(live: Sql, where: Sql | str) -> Sql:
    """SQL for FROM, ``newest(workspace, uid, workflow, used_at, run)``: of each key the newest of these runs.

    If both grains are stored, the runs are first reduced to one of each workspace, user and workflow. The workspace's
    newest is one of these, and they are far fewer than all runs.

    Args:
        live: where the runs come from.
        where: a condition on ``live``.
    """
    if len(fragments().grains) < len(conf.GRAINS):
        return compose(
            """(
                SELECT DISTINCT ON (keyed.workspace, keyed.uid, keyed.workflow) keyed.* FROM {keyed}
                ORDER BY keyed.workspace, keyed.uid, keyed.workflow, keyed.used_at DESC, keyed.run DESC
            ) AS newest(workspace, uid, workflow, used_at, run)""",
            keyed=keyed(live, where),
        )
    return compose(
        """(
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
        ) AS newest(workspace, uid, workflow, used_at, run)""",
        live=live, where=where,
    )  # fmt: skip


OF_ROW: Final = """live.run = stored.last_run_id AND live.workspace = stored.workspace_id
          AND live.workflow = stored.published_run_id AND (stored.uid = '' OR stored.uid = live.uid)"""
"""Condition on ``live`` and ``stored``: the row's run counts, and has the row's key."""


def not_true(among: Sql | str = "true") -> Sql:
    """Condition on ``stored``: the row is not true. Its run is gone, does not count, has another key, or is older than
    the row says; or the row's grain is not stored any more.

    Args:
        among: a condition on ``live`` that every row's run meets anyway. The planner then reads only such runs.
    """
    return compose(
        "NOT ({of_grain} AND EXISTS (SELECT FROM {live} WHERE {among} AND {of_row} "
        "AND live.used_at >= stored.last_used_at))",
        of_grain=of_grain("stored.uid"), live=fragments().live, among=among, of_row=OF_ROW,
    )  # fmt: skip


def has_grain_of(uid: str) -> bool:
    """Whether rows of this ``uid`` are stored."""
    return (conf.USER if uid else conf.WORKSPACE) in fragments().grains


def of_grain(uid: str) -> str:
    """Condition on a ``uid``: it is of a grain that is stored."""
    grains = fragments().grains
    if len(grains) == len(conf.GRAINS):
        return "true"
    return f"{uid} = ''" if conf.WORKSPACE in grains else f"{uid} <> ''"
