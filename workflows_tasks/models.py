"""The table. One row per workspace, user and workflow: when it was last used, and by which run."""

from __future__ import annotations

import logging
from typing import Any, Final

from django.db import models

from workflows_tasks import announcements
from workflows_tasks.errors import ConfigurationError
from workflows_tasks.host import host
from workflows_tasks.ids import ROWS, Scope

WORKSPACE_GRAIN: Final = ""
"""``uid`` of the rows that speak for a whole workspace."""


def announce_deletion(collector: Any, field: Any, sub_objs: Any, using: str) -> None:
    """``on_delete`` of all three foreign keys: nothing cascades; what is deleted is announced when that commits.

    An ``on_delete`` rather than a ``post_delete`` receiver, because a receiver on the run model makes every cascade
    load whole runs, whatever large columns they have; without one Django defers all but the referenced columns
    (``Collector.collect``). Our rows are left to the flush, because deleting them here would make the host's
    transaction wait for a flush, or be the victim of a deadlock with one, or keep a whole shard waiting.
    """
    if not any(isinstance(step, _Announcement) for step in collector.fast_deletes):
        collector.fast_deletes.append(_Announcement(collector))


announce_deletion.lazy_sub_objs = True  # type: ignore[attr-defined]  # our rows are never looked up for this


class _Announcement:
    """A step of a deletion that deletes nothing but announces what is deleted.

    Collecting happens before ``Collector.delete`` opens its transaction, too early to wait for a commit; the fast
    deletes run inside it. Every deleted run is announced, also one that is nobody's ``last_run`` at this moment: a
    flush may be about to write it from an older snapshot.
    """

    def __init__(self, collector: Any) -> None:
        self.model = WorkspaceRecentWorkflow
        self._collector = collector

    def _raw_delete(self, using: str) -> int:
        try:
            for model, instances in self._collector.data.items():
                for instance in instances:
                    self._announce(model, instance, using)
        except Exception as error:  # a delete must not fail because of this table
            announcements.report(error)
        return 0

    def _announce(self, model: type[models.Model], instance: Any, using: str) -> None:
        found = host()
        if issubclass(model, found.run):
            announcements.gather(instance, using=using)
        for lookup, field in ((found.workspace.name, found.workspace), (found.path_lookup, found.workflow)):
            if issubclass(model, field.related_model):
                key = getattr(instance, field.target_field.attname)
                announcements.gather_scope(Scope(ROWS, lookup, key), using=using)


def targets() -> dict[str, dict[str, Any]]:
    """``to`` and ``to_field`` of the three foreign keys, as the host's models have them now.

    The model and its migration both take them from here, which is why ``makemigrations --check`` is clean whatever
    the host's models are. If the settings cannot be used every key points at this model itself: Django can then start
    as far as its system checks, which say what is wrong.
    """
    try:
        found = host()
    except ConfigurationError as error:
        logging.getLogger(__name__).error("%s", error)
        return {name: {"to": "self"} for name in ("workspace", "published_run", "last_run")}
    return {
        "workspace": _target(found.workspace),
        "published_run": _target(found.workflow),
        "last_run": {"to": found.run._meta.label_lower},
    }


def _target(field: Any) -> dict[str, Any]:
    """The same column of the same model as the host's own foreign key: values are copied, never translated."""
    label = field.remote_field.model._meta.label_lower
    to = field.target_field
    return {"to": label} if to.primary_key else {"to": label, "to_field": to.name}


_TO: Final = targets()


class WorkspaceRecentWorkflow(models.Model):
    """The latest use of one workflow in one workspace, by one user (``uid``) or by anybody (``uid = ''``).

    No foreign key has a database constraint, and none cascades: a host's delete must never fail or wait because of
    this table. It is announced, and the next flush removes the row or puts the next newest run in its place. Until
    then a row may name what is gone: ``select_related()`` leaves it out, since it joins.
    """

    id = models.BigAutoField(primary_key=True)
    workspace = models.ForeignKey(
        **_TO["workspace"], on_delete=announce_deletion, db_constraint=False, db_index=False, related_name="+"
    )
    uid = models.TextField(help_text="The user's key as text; empty for the whole workspace.")
    published_run = models.ForeignKey(
        **_TO["published_run"], on_delete=announce_deletion, db_constraint=False, related_name="+"
    )
    last_used_at = models.DateTimeField()
    last_run = models.ForeignKey(**_TO["last_run"], on_delete=announce_deletion, db_constraint=False, related_name="+")

    class Meta:
        verbose_name = "recent workflow"
        constraints = [
            # A flush's look at each key's row is answered by this index alone, thanks to INCLUDE.
            models.UniqueConstraint(
                fields=["workspace", "uid", "published_run"],
                include=["last_used_at", "last_run", "id"],
                name="recent_workflow_key",
            ),
        ]
        indexes = [
            # The read, answered by this index alone: its order is the read's order, and INCLUDE has the other columns.
            models.Index(
                fields=["workspace", "uid", "-last_used_at", "-last_run"],
                include=["published_run", "id"],
                name="recent_workflow_read",
            ),
        ]

    def __str__(self) -> str:
        whose = f"user {self.uid}" if self.uid else "anybody"
        return f"workflow {self.published_run_id} by {whose} in workspace {self.workspace_id}"


class Bookmark(models.Model):
    """How far the sweep and the audit have come, so that a restart goes on where they were."""

    name = models.CharField(max_length=20, primary_key=True)
    position = models.JSONField(help_text="Where to go on; keys as text.")
    moved_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.name} at {self.position}"
