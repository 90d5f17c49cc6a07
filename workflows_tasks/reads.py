"""What a home page reads."""

from __future__ import annotations

from typing import Any, Literal, overload

from django.db import connections
from django.db.models import QuerySet, TextField
from django.db.models.expressions import RawSQL
from django.db.models.query import RawQuerySet

from workflows_tasks import conf, keys
from workflows_tasks.errors import GrainNotStored, InvalidArgument
from workflows_tasks.host import host
from workflows_tasks.models import WORKSPACE_GRAIN, WorkspaceRecentWorkflow
from workflows_tasks.projection.sql import OF_ROW, Sql, compose, fragments, not_true, shard_of_workspace


@overload
def recent_workflows(
    workspace: Any, user: Any = None, limit: int = 4, *, fresh: Literal[False] = False
) -> QuerySet[WorkspaceRecentWorkflow]: ...
@overload
def recent_workflows(
    workspace: Any, user: Any = None, limit: int = 4, *, fresh: Literal[True]
) -> RawQuerySet[WorkspaceRecentWorkflow]: ...
def recent_workflows(workspace: Any, user: Any = None, limit: int = 4, *, fresh: bool = False) -> Any:
    """The workflows used last in a workspace, newest first: by ``user``, or by anybody.

    One range scan of an index, whatever the history's size. The rows have the keys of workflow and run; say what else
    the page needs: ``.select_related("published_run", "last_run")``.

    Args:
        workspace: a workspace, or its key.
        user: a user, or the value of the run's user column; None for the whole workspace. Where that column is no
            foreign key, a user's ``USER_ATTRIBUTE`` is its value.
        limit: most rows, at least 1.
        fresh: as of now, without waiting for a flush, in one statement on the primary. The rows come as a
            ``RawQuerySet``, which takes ``.prefetch_related("published_run", "last_run")``. While a scope waits, a
            workflow that it brings may still be missing.

    Raises:
        InvalidArgument: an unsaved workspace or user, an anonymous or empty user, or a limit below 1.
        GrainNotStored: ``GRAINS`` leaves that kind of page out.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidArgument(f"limit is {limit!r}; ask for at least 1 workflow.")
    key, user_value = page_of(workspace, user)
    if fresh:
        return WorkspaceRecentWorkflow.objects.using(host().database).raw(*_fresh(key, user_value, limit))
    of_workspace = RawSQL("%s", (key,))  # not a value: Django would prepare it again
    rows = RecentWorkflows(WorkspaceRecentWorkflow).filter(workspace_id=of_workspace, uid=_uid(user_value))
    newest: RecentWorkflows = rows.order_by("-day", "-last_used_at", "-last_run_id")[:limit]
    newest.page = (key, user_value, limit)
    return newest


class RecentWorkflows(QuerySet[WorkspaceRecentWorkflow]):
    """A queryset whose statement is ready as long as nothing was changed about it.

    Django compiles a query anew each time, which takes it longer than the whole rest of a read. What is made of this
    one (``select_related()``, a slice) is a clone: it has no ``page``, and is compiled as ever.
    """

    page: tuple[Any, Any, int] | None = None
    """The workspace's key, the user's and the limit, while this is as ``recent_workflows`` made it."""

    def _fetch_all(self) -> None:
        if self.page is not None and self._result_cache is None:
            using = self.db  # asked once: a router may count
            statement = _plain(using, *self.page)
            self._result_cache = list(self.raw(statement.text, statement.params, using=using))
        super()._fetch_all()


def page_of(workspace: Any, user: Any = None) -> tuple[Any, Any]:
    """The workspace's key and the user's, as the driver takes them; None for the whole workspace.

    Raises:
        InvalidArgument, GrainNotStored: as ``recent_workflows``.
    """
    key = keys.given(host().workspace, workspace, "workspace")
    if key is None:
        raise InvalidArgument("workspace is None or was never saved; pass a saved workspace or its key.")
    grain = conf.WORKSPACE if user is None else conf.USER
    if grain not in conf.settings().grains:
        raise GrainNotStored(
            f"Pages of a {grain} are not stored: {conf.NAME}['GRAINS'] is {conf.settings().grains!r}. "
            f"Add {grain!r} to it, or {'pass a user' if user is None else 'leave the user out'}."
        )
    if user is None:
        return key, None
    if getattr(user, "is_anonymous", False) is True:
        raise InvalidArgument("user is anonymous, which names nobody; pass None for the whole workspace.")
    name = keys.given(host().user, user, "user", conf.settings().user_attribute)
    if name is None or name == "":
        raise InvalidArgument(f"user is {user!r}, which names nobody; pass None for the whole workspace.")
    return key, name


def _uid(user: Any) -> Any:
    """A user's ``uid``. Where only PostgreSQL knows a key's text, an expression that makes it."""
    if user is None:
        return WORKSPACE_GRAIN
    text = keys.printed(host().user, user)
    return _UidText(user) if text is None else text


class _UidText:
    """The text of a user's key, made by PostgreSQL inside the statement that needs it."""

    def __init__(self, user: Any) -> None:
        self._user = user

    def resolve_expression(self, *_: Any, **__: Any) -> Any:
        text = _uid_sql(self._user)
        return RawSQL(text.text, text.params, output_field=TextField())  # noqa: S611  # composed here


def _uid_sql(user: Any) -> Sql:
    if user is None:
        return Sql("%s", (WORKSPACE_GRAIN,))
    text = keys.printed(host().user, user)
    if text is not None:
        return Sql("%s", (text,))
    return Sql(keys.text_of(f"%s::{keys.column_type(host().user)}"), (user,))


_COLUMNS = "id, workspace_id, uid, published_run_id, last_used_at, last_run_id"
_ORDER = "day DESC, last_used_at DESC, last_run_id DESC"


def _plain(using: str, workspace: Any, user: Any, limit: int) -> Sql:
    """The rows of a page, without the ORM's compiler. Not from ``fragments``, which ask where runs are written: a page
    may be read where nothing can be."""
    return compose(
        "SELECT {columns} FROM {table} WHERE workspace_id = {workspace} AND uid = {uid} ORDER BY {order} LIMIT {limit}",
        columns=_COLUMNS, table=str(connections[using].ops.quote_name(WorkspaceRecentWorkflow._meta.db_table)),
        workspace=Sql("%s", (workspace,)), uid=_uid_sql(user), order=_ORDER, limit=limit,
    )  # fmt: skip


def _fresh(workspace: Any, user: Any, limit: int) -> tuple[str, tuple[Any, ...]]:
    """A page as of now, in one statement and snapshot.

    Rows are read in their order until ``limit`` of them are true. What comes later can be on the page only by a pending
    run. Rows before that which are not true are searched. The workspace's pending runs are merged.
    """
    parts = fragments()
    of_workspace = Sql(f"%s::{parts.workspace_type}", (workspace,))
    of_page = compose(
        "stored.workspace_id = {workspace} AND stored.uid = {uid}", workspace=of_workspace, uid=_uid_sql(user)
    )
    of_user = Sql("true") if user is None else Sql(f'live."user" = %s::{parts.user_type}', (user,))
    statement = compose(
        """
        WITH page AS MATERIALIZED (
            SELECT stored.*, named.used_at FROM {table} AS stored CROSS JOIN LATERAL (
                SELECT live.used_at FROM {live} WHERE {of_row} AND live.used_at >= stored.last_used_at LIMIT 1
            ) AS named -- a row at a time, in the order of the page, and no further than that
            WHERE {of_page} ORDER BY stored.day DESC, stored.last_used_at DESC, stored.last_run_id DESC LIMIT {limit}
        ), searched AS (
            SELECT stored.id, stored.published_run_id AS workflow, newest.used_at, newest.run
            FROM {table} AS stored CROSS JOIN LATERAL (
                SELECT live.used_at, live.run FROM {live}
                WHERE live.workspace = {workspace} AND {of_user} AND live.workflow = stored.published_run_id
                ORDER BY live.used_at DESC, live.run DESC LIMIT 1
            ) AS newest
            WHERE {of_page} AND stored.day >= coalesce(
                    (SELECT day FROM page ORDER BY {order} OFFSET {last} LIMIT 1), '-infinity')
              AND {not_true}
        ), pending AS (
            SELECT null::bigint AS id, live.workflow, live.used_at, live.run FROM {live}
            WHERE live.workspace = {workspace} AND {of_user} AND live.run IN (
                SELECT change.run::{run_type} FROM {log} AS change
                WHERE change.shard = {shard} AND change.shards = {shards} AND change.run IS NOT NULL
                  AND (change.workspace = {workspace_text} OR change.workspace IS NULL)
            )
        )
        SELECT id, {workspace} AS workspace_id, {uid} AS uid, workflow AS published_run_id,
               used_at AS last_used_at, run AS last_run_id
        FROM (
            SELECT DISTINCT ON (workflow) workflow, used_at, run, max(id) OVER (PARTITION BY workflow) AS id
            FROM (
                SELECT id, published_run_id AS workflow, used_at, last_run_id AS run FROM page
                UNION ALL SELECT id, workflow, used_at, run FROM searched
                UNION ALL SELECT id, workflow, used_at, run FROM pending
            ) AS merged ORDER BY workflow, used_at DESC, run DESC
        ) AS newest
        ORDER BY used_at DESC, run DESC LIMIT {limit}
        """,
        of_row=OF_ROW, of_page=of_page, limit=limit, workspace=of_workspace,
        of_user=of_user, order=_ORDER, last=limit - 1, not_true=not_true(),
        shard=shard_of_workspace(of_workspace),
        workspace_text=Sql(keys.text_of(of_workspace.text), of_workspace.params), uid=_uid_sql(user),
    )  # fmt: skip
    return statement.text, statement.params
