"""A small world on any host: a few workspaces, users and workflows, by name.

Small, so that what happens meets: the same keys, the same moments. What was deleted is made anew when it is next asked
for, so that no name stops being usable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import AutoField, Model
from django.utils import timezone

from tests.hosts.adapter import Host
from workflows_tasks import inbox
from workflows_tasks.host import host as resolved
from workflows_tasks.models import Bookmark, WorkspaceRecentWorkflow

SHARD_OF: Final = {"here": 0, "there": 1, "beyond": 0}
"""Workspaces, and the shard each falls into: one neighbour in the same, one in the other."""

SHARDS: Final = 2
USERS: Final = ("ann", "bob")
WORKFLOW_OF: Final = {"p1": "p", "p2": "p", "q1": "q"}
"""Ways (versions, where the host has such) and the workflow that each leads to at first."""

MOMENTS_S: Final = {"first": -30.0, "second": -29.0, "third": -28.0, "long ago": -86_400.0, "tomorrow": 86_400.0}
"""When runs are used, in seconds from the world's beginning. Few, so that there are ties."""

UNSWEPT: Final = frozenset({"long ago", "tomorrow"})
"""Moments the sweep does not look at: older than its overlap, or still to come. The audit does."""


class World:
    """What of one host there is now, by name."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._began = timezone.now()
        self._things: dict[str, Model] = {}
        self._users: dict[str, Any] = {}
        self._ways: dict[str, dict[str, Any]] = {}
        self._runs: list[Any] = []
        _clear()

    def moment(self, name: str | None) -> Any:
        return timezone.now() if name is None else self._began + timedelta(seconds=MOMENTS_S[name])

    def allows(self, fields: dict[str, Any]) -> bool:
        """Whether a run of this host may have these fields, of which some may be empty."""
        meta = self.host.run_model._meta
        return all(value is not None or meta.get_field(name).null for name, value in fields.items())

    def workspace(self, name: str | None) -> Any:
        return None if name is None else self._present(f"workspace {name}", lambda: self._make_workspace(name))

    def workflow(self, name: str) -> Any:
        return self._present(f"workflow {name}", self.host.make_workflow)

    def user(self, name: str | None) -> Any:
        if name is None:
            return None
        user = self._users.get(name)
        if user is None or (isinstance(user, Model) and _reloaded(user) is None):
            user = self._users[name] = self.host.make_user()
        return user

    def way(self, name: str | None) -> dict[str, Any]:
        """Fields of a run that takes this way to a workflow."""
        if name is None:
            return self.host.leading_to(None)
        found = {field: _reloaded(hop) for field, hop in self._ways.get(name, {}).items()}
        if not found or None in found.values():
            found = self.host.leading_to(self.workflow(WORKFLOW_OF[name]))
        self._ways[name] = found
        return found

    def hop(self, way: str, number: int) -> Any:
        """The object ``number`` hops from a run on this way; 1 is what the run points to. None past a broken end."""
        path = resolved().path
        found = self.way(way)[path[0].name]
        for following in path[1:number]:
            found = None if found is None else getattr(found, following.name)
        return found

    def number(self, pk: Any) -> int:
        """Give a run a number, by which it is known from then on."""
        self._runs.append(pk)
        return len(self._runs)

    def keys(self, runs: Iterable[int]) -> list[Any]:
        return [self._runs[run - 1] for run in runs]

    def present(self, runs: Iterable[int]) -> list[Any]:
        """Fresh copies of runs, without those that are gone."""
        found = (self.host.run_model._base_manager.filter(pk=pk).first() for pk in self.keys(runs))
        return [run for run in found if run is not None]

    def _make_workspace(self, name: str) -> Any:
        while True:  # which shard a workspace falls into depends on its key, which is the host's
            made = self.host.make_workspace()
            if inbox.shard_of(self.host.workspace_key(made)) == SHARD_OF[name]:
                return made

    def _present(self, name: str, make: Callable[[], Model]) -> Model:
        found = self._things.get(name)
        found = None if found is None else _reloaded(found)
        self._things[name] = found or make()
        return self._things[name]


def _reloaded(thing: Model) -> Any:
    return type(thing)._base_manager.filter(pk=thing.pk).first()


def _clear() -> None:
    """Empty the host's tables and ours, and start keys anew, so that the same steps have the same outcome."""
    found = resolved()
    models: set[type[Model]] = {found.run, *found.run._meta.parents, WorkspaceRecentWorkflow, Bookmark}
    models |= {field.related_model for field in (found.workspace, found.user, *found.path) if field.related_model}
    with transaction.atomic(), connection.cursor() as cursor:  # foreign keys are checked at its end
        for model in models:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")
        for model in models:
            if isinstance(model._meta.pk, AutoField):
                table, column = model._meta.db_table, model._meta.pk.column
                cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), 1, false)", [table, column])
