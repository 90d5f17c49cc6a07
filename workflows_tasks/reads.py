"""What a home page reads."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Model, QuerySet

from workflows_tasks.errors import InvalidArgument
from workflows_tasks.host import host, storage_field
from workflows_tasks.ids import BAD_TEXT, storable
from workflows_tasks.models import WORKSPACE_GRAIN, WorkspaceRecentWorkflow
from workflows_tasks.sql.looks import newest_rows


def recent_workflows(workspace: Any, user: Any = None, limit: int = 4) -> QuerySet[WorkspaceRecentWorkflow]:
    """The workflows used last in a workspace, newest first: by ``user``, or by anybody.

    One index-only range scan of ``limit`` rows, whatever the history's size. The rows have the keys of workflow and
    run; say what else the page needs: ``.select_related("published_run", "last_run")``.

    Args:
        workspace: a workspace, or its key.
        user: a user, or the value of the run's user column; None for the whole workspace.
        limit: most rows, at least 1.

    Raises:
        InvalidArgument: an unsaved workspace or user, an empty user, or a limit below 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidArgument(f"limit is {limit!r}; ask for at least 1 workflow.")
    key, uid = key_of(workspace, user)
    rows = RecentWorkflows(WorkspaceRecentWorkflow).filter(workspace_id=key, uid=uid)
    newest: RecentWorkflows = rows.order_by("-last_used_at", "-last_run_id")[:limit]
    newest.page = (key, uid, limit)
    return newest


class RecentWorkflows(QuerySet[WorkspaceRecentWorkflow]):
    """A queryset whose statement is ready as long as nothing was changed about it.

    Django compiles a query anew each time, which takes it longer than the whole rest of a read. What is made of this
    one (``select_related()``, a slice) is a clone: it has no ``page``, and is compiled as ever. Its ``query`` itself is
    not to be changed in place.
    """

    page: tuple[Any, str, int] | None = None
    """The workspace's key, ``uid`` and limit, while this is as ``recent_workflows`` made it."""

    def _fetch_all(self) -> None:
        if self.page is not None and self._result_cache is None:
            using = self.db  # asked once: a router may count
            self._result_cache = list(self.raw(*newest_rows(using, *self.page), using=using))
        super()._fetch_all()


def key_of(workspace: Any, user: Any = None) -> tuple[Any, str]:
    """The workspace's key and the ``uid`` that the rows of this home page have.

    Raises:
        InvalidArgument: as ``recent_workflows``.
    """
    key = _value(workspace, "workspace", host().workspace)
    if key is None:
        raise InvalidArgument("workspace is None or was never saved; pass a saved workspace or its key.")
    if user is None:
        return key, WORKSPACE_GRAIN
    name = _value(user, "user", host().user)
    if name is None or name == "":
        raise InvalidArgument(f"user is {user!r}, which names nobody; pass None for the whole workspace.")
    return key, _text(name)


def _value(given: Any, name: str, field: Any) -> Any:
    """What the run's column ``field`` holds for a workspace or user: an object's key, or the key as its type."""
    if isinstance(given, Model):
        if field.remote_field is None or not isinstance(given, field.related_model):
            raise InvalidArgument(f"{name} is a {type(given).__name__}; expected a value of {field}.")
        return getattr(given, field.target_field.attname)
    try:
        return storage_field(field).to_python(storable(given) if isinstance(given, str) else given)
    except BAD_TEXT as error:
        raise InvalidArgument(f"{name} is {given!r}, no value of {field}.") from error


def _text(key: Any) -> str:
    """A user's key as PostgreSQL prints it, which is what a flush stores."""
    if isinstance(key, str | UUID):
        return str(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    kind = storage_field(host().user).db_type(connections[host().database])
    with connections[host().database].cursor() as cursor:
        cursor.execute(f"SELECT (%s::{kind})::text", [key])
        return str(cursor.fetchone()[0])
