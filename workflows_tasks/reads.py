"""The read of a home page: the workflows that a workspace or a user used last."""

from __future__ import annotations

from typing import Any, Final, Literal, overload

from django.db import connections
from django.db.models import QuerySet, TextField
from django.db.models.expressions import RawSQL
from django.db.models.query import RawQuerySet
from django.db.models.sql import Query

from workflows_tasks import conf, keys
from workflows_tasks.capture import installation
from workflows_tasks.errors import GrainNotStored, InvalidArgument
from workflows_tasks.host import host
from workflows_tasks.keys import shard_sql
from workflows_tasks.models import WORKSPACE_GRAIN, WorkspaceRecentWorkflow
from workflows_tasks.projection.fragments import OF_ROW, compose, fragments, not_true
from workflows_tasks.sql import Sql, join, literal


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
        page = _fresh(key, user_value, limit)
        return QuerySet(WorkspaceRecentWorkflow, using=host().database).raw(page.text, page.params)
    newest = RecentWorkflows(WorkspaceRecentWorkflow)
    newest.page = (key, user_value, limit)
    return newest


class RecentWorkflows(QuerySet[WorkspaceRecentWorkflow]):
    """A queryset whose statement is ready, unless the caller refines it.

    Django takes longer to build and compile a query than the database to answer it. So the query is built only when
    somebody asks for it, as ``select_related()`` and a slice do. From then on this is an ordinary queryset.

    It needs three names that Django does not document: ``_fetch_all``, ``_result_cache``, and the setter of ``query``.
    No other module uses any. ``test_the_names_of_django_that_are_not_documented`` fails if one changes.
    """

    page: tuple[Any, Any, int] | None = None
    """The workspace's key, the user's and the limit, while nobody has asked for the query."""

    @property
    def query(self) -> Query:
        if self.page is not None:
            key, user, limit = self.page
            of_workspace = RawSQL("%s", (key,))  # not a value: Django would prepare it again
            rows = QuerySet(WorkspaceRecentWorkflow).filter(workspace_id=of_workspace, uid=_uid(user))
            self.query = rows.order_by("-day", "-last_used_at", "-last_run_id")[:limit].query
        return super().query

    @query.setter
    def query(self, query: Query) -> None:
        self.page = None
        QuerySet.query.fset(self, query)  # type: ignore[attr-defined]

    def _fetch_all(self) -> None:
        if self.page is not None and self._result_cache is None:
            using = self.db  # asked once: a router may count
            page = _plain(using, *self.page)
            self._result_cache = list(self.raw(page.text, page.params, using=using))
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
        text = uid_sql(self._user)
        return RawSQL(text.text, text.params, output_field=TextField())  # noqa: S611  # composed here


def uid_sql(user: Any) -> Sql:
    """SQL for the ``uid`` of a user's key, as ``page_of`` returns it."""
    if user is None:
        return Sql("%s", (WORKSPACE_GRAIN,))
    text = keys.printed(host().user, user)
    if text is not None:
        return Sql("%s", (text,))
    return Sql(keys.text_of(f"%s::{keys.column_type(host().user)}"), (user,))


_COLUMNS = "id, workspace_id, uid, published_run_id, last_used_at, last_run_id"
_ORDER = "day DESC, last_used_at DESC, last_run_id DESC"


def _plain(using: str, workspace: Any, user: Any, limit: int) -> Sql:
    """The statement of a page, without the ORM's compiler. It uses no ``fragments``, because these need the database
    that runs are written to, and a page may be read from another."""
    table = connections[using].ops.quote_name(WorkspaceRecentWorkflow._meta.db_table)
    of_page = Sql(f"SELECT {_COLUMNS} FROM {table} WHERE workspace_id = %s AND uid = ", (workspace,))
    return join("", (of_page, uid_sql(user), Sql(f" ORDER BY {_ORDER} LIMIT %s", (limit,))))


FUNCTION: Final = "fresh_recent_workflows"
"""A function in the database, where PostgreSQL keeps the plan of a fresh page. Planning takes several times as long as
all the rest, and Django prepares no statements. A session plans a function's statement once, behind a pooler too."""


def _fresh(workspace: Any, user: Any, limit: int) -> Sql:
    """A page as of now, in one statement."""
    return compose(
        "SELECT * FROM {function}(({workspace}::{workspace_type})::text, {uid}, {limit}) AS page(id bigint, "
        "workspace_id {workspace_type}, uid text, published_run_id {workflow_type}, last_used_at timestamptz, "
        "last_run_id {run_type})",
        function=FUNCTION, workspace=Sql("%s", (workspace,)), uid=uid_sql(user), limit=Sql("%s", (limit,)),
    )  # fmt: skip


def create_function(schema: str) -> tuple[str, str, str]:
    """The function's name, its body and the statement that makes it, in a schema.

    Its arguments are the workspace's text, the ``uid`` and the limit. Its settings are there because one plan is kept
    for all workspaces: it must not depend on the first one, nor on how small a table was then.
    """
    name, body = f'{schema}."{FUNCTION}"', _body()
    return name, body, (
        f"CREATE OR REPLACE FUNCTION {name}(text, text, bigint) RETURNS SETOF record LANGUAGE plpgsql VOLATILE "
        "SET plan_cache_mode = force_generic_plan SET enable_seqscan = off "
        f"AS $recent_workflows${body}$recent_workflows$"
    )  # fmt: skip


installation.function_of_pages(create_function)


def _body() -> str:
    """Code of the function.

    Nearly always the first rows of the page are true, and they are merged with what waits. A row that is not true has
    no moment, so it comes first. Then the page is read again with a search. That is planned each time, because its plan
    depends on how much history the workspace has.

    All of a page comes from one of the two statements, so from one snapshot. The function is VOLATILE: each of them
    locks its tables before it takes its snapshot, so no TRUNCATE comes between.
    """
    return literal(
        compose(
            """
DECLARE _page record;
BEGIN
    FOR _page IN {merged} LOOP
        IF _page.used_at IS NULL THEN
            RETURN QUERY EXECUTE $searched${searched}$searched$ USING $1, $2, $3;
            RETURN;
        END IF;
        RETURN NEXT _page;
    END LOOP;
END
""",
            merged=_merged(_first_rows()), searched=_merged(_true_rows()),
        )
    )  # fmt: skip


def _merged(rows: Sql) -> Sql:
    """The newest of each workflow among the page's rows and the workspace's pending runs."""
    return compose(
        """
        SELECT id, $1::{workspace_type} AS workspace, $2 AS uid, workflow::{workflow_type}, used_at::timestamptz,
               run::{run_type}
        FROM (
            SELECT DISTINCT ON (workflow) workflow, used_at, run, max(id) OVER (PARTITION BY workflow) AS id
            FROM (
                {rows}
                UNION ALL
                SELECT NULL::bigint, pending.workflow, pending.used_at, pending.run
                FROM (
                    SELECT run FROM {log} WHERE shard = {shard} AND shards = {shards} AND workspace = $1
                    UNION SELECT run FROM {log} WHERE shard = {shard} AND shards = {shards} AND workspace IS NULL
                ) AS change CROSS JOIN LATERAL (
                    SELECT live.workflow, live.used_at, live.run FROM {live}
                    WHERE live.run = change.run::{run_type} AND live.workspace = $1::{workspace_type} AND {of_user}
                    LIMIT 1 -- one change at a time, by the key of its run
                ) AS pending
            ) AS merged(id, workflow, used_at, run) ORDER BY workflow, used_at DESC, run DESC
        ) AS newest
        ORDER BY used_at DESC, run DESC LIMIT $3
        """,
        rows=rows, shard=shard_sql("$1", fragments().shards), of_user=_OF_USER.format(fragments().user_type),
    )  # fmt: skip


_OF_USER = """($2 = '' OR live."user" = NULLIF($2, '')::{})"""
_OF_PAGE = "stored.workspace_id = $1::{} AND stored.uid = $2"
_OF_ROW = f"{OF_ROW} AND live.used_at >= stored.last_used_at"


def _first_rows() -> Sql:
    """The first rows of the page. One that is not true has no moment."""
    return compose(
        """
                SELECT stored.id, stored.published_run_id, named.used_at, stored.last_run_id
                FROM (
                    SELECT stored.* FROM {table} AS stored WHERE {of_page} ORDER BY {order} LIMIT $3
                ) AS stored LEFT JOIN LATERAL (
                    SELECT live.used_at FROM {live} WHERE {of_row} LIMIT 1
                ) AS named ON true""",
        of_page=_OF_PAGE.format(fragments().workspace_type), of_row=_OF_ROW, order=_ORDER,
    )  # fmt: skip


def _true_rows() -> Sql:
    """True rows in the order of the page until it is full. Each row among them that is not true is replaced by the
    newest run that is left for its key.

    A row further down can get onto the page only by a pending run, and ``_merged`` adds those.
    """
    return compose(
        """
                (WITH _true AS MATERIALIZED (
                    SELECT stored.*, named.used_at FROM {table} AS stored CROSS JOIN LATERAL (
                        SELECT live.used_at FROM {live} WHERE {of_row} LIMIT 1
                    ) AS named -- a row at a time, in the order of the page, and no further than that
                    WHERE {of_page} ORDER BY stored.day DESC, stored.last_used_at DESC, stored.last_run_id DESC LIMIT $3
                )
                SELECT id, published_run_id, used_at, last_run_id FROM _true
                UNION ALL
                SELECT stored.id, stored.published_run_id, newest.used_at, newest.run
                FROM {table} AS stored CROSS JOIN LATERAL (
                    SELECT live.used_at, live.run FROM {live}
                    WHERE live.workspace = $1::{workspace_type} AND {of_user}
                      AND live.workflow = stored.published_run_id
                    ORDER BY live.used_at DESC, live.run DESC LIMIT 1
                ) AS newest
                WHERE {of_page} AND {not_true}
                  AND stored.day >= coalesce(
                      (SELECT day FROM _true ORDER BY {order} OFFSET $3 - 1 LIMIT 1), '-infinity'
                  )
                )""",
        of_page=_OF_PAGE.format(fragments().workspace_type), of_row=_OF_ROW, order=_ORDER, not_true=not_true(),
        of_user=_OF_USER.format(fragments().user_type),
    )  # fmt: skip
