"""What the admin shows beside rows: names for their keys, and what waits. One query for each, for a whole page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db import connections
from django.db.models import QuerySet

from workflows_tasks import conf, history, keys
from workflows_tasks.host import host, storage_field
from workflows_tasks.monitoring.telemetry import printable
from workflows_tasks.projection import changes
from workflows_tasks.projection.sql import Sql, compose, rows

MOST_COUNTED: Final = 10_000
"""Changes of one workspace that are counted."""


def complete(listed: Sequence[Any]) -> None:
    """Give rows the names of what they name, and what waits in their workspaces."""
    found = host()
    of = {"workspace": found.workspace, "user": found.user, "workflow": found.workflow}
    key = {"workspace": "workspace_id", "user": "uid", "workflow": "published_run_id"}
    names = {name: _names(of[name], {getattr(row, key[name]) for row in listed}) for name in of}
    texts = {row.workspace_id: history.workspace_text(row.workspace_id) for row in listed}
    waiting = _waiting(list(texts.values()))
    for row in listed:
        row.names = {name: names[name].get(getattr(row, key[name])) for name in of}
        row.waiting = waiting.get(texts[row.workspace_id], (0, None, 0))


class _NotCheap(Exception):
    """A model's ``__str__`` asked the database."""


def _refuse(*_: Any) -> Any:
    raise _NotCheap


def _names(field: Any, of: set[Any]) -> dict[Any, str]:
    """The names of instances by their key, by one query; of those that are gone, or have no name of their own, none.

    ``__str__`` is the host's. If it asks the database, it would for each row, and is left out.
    """
    if field.remote_field is None:
        return {}
    target, named = field.target_field, {}
    by_value = {storage_field(field).to_python(key): key for key in of if key != ""}
    using = connections[host().database]
    found = QuerySet(field.related_model).using(using.alias).filter(**{f"{target.attname}__in": list(by_value)})
    for instance in found:
        try:
            with using.execute_wrapper(_refuse):
                named[by_value[getattr(instance, target.attname)]] = printable(str(instance))
        except Exception:  # whatever the host's __str__ raises: the key alone is shown then
            return {}
    return named


def _waiting(workspaces: list[str]) -> dict[str, tuple[int, float | None, int]]:
    """What waits in the change log of each workspace: changes, the oldest's age, changes in quarantine."""
    statement = compose(
        """SELECT workspace, count(*) FILTER (WHERE {takeable}),
            extract(epoch FROM clock_timestamp() - min(at) FILTER (WHERE {takeable}))::float8,
            count(*) FILTER (WHERE error IS NOT NULL)
        FROM unnest({workspaces}, {shards}) AS asked(workspace, shard) CROSS JOIN LATERAL (
            SELECT at, retry_at, error FROM {log} AS change
            WHERE change.shard = asked.shard AND change.workspace = asked.workspace LIMIT {most}
        ) AS change GROUP BY workspace""",
        takeable=changes.TAKEABLE, most=MOST_COUNTED,
        workspaces=Sql("%s::text[]", (workspaces,)),
        shards=Sql("%s::int[]", ([keys.shard_of(each, conf.settings().shards) for each in workspaces],)),
    )  # fmt: skip
    return {workspace: (pending, oldest_s, refused) for workspace, pending, oldest_s, refused in rows(statement)}
