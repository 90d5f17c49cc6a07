"""The table of recent workflows, and the two small tables that its flushes keep."""

from __future__ import annotations

from typing import Any, Final

from django.db import models

from workflows_tasks.errors import ConfigurationError
from workflows_tasks.host import host

CHANGES: Final = "workflows_tasks_change"
"""The change log. Not a model: it is made by ``capture.installation``, and no fixture or dump must carry it."""

WORKSPACE_GRAIN: Final = ""
"""``uid`` of the rows that speak for a whole workspace."""


def targets() -> dict[str, dict[str, Any]]:
    """``to`` and ``to_field`` of the three foreign keys, as the host's models have them now.

    The model and its migration both take them from here, which is why ``makemigrations --check`` is clean whatever
    the host's models are. If the settings cannot be used, every key points at this model itself. Django then starts,
    and its system checks say what is wrong. A web server runs no checks, so ``apps`` logs it at the first request.
    """
    try:
        the_host = host()
    except ConfigurationError:
        return {name: {"to": "self"} for name in ("workspace", "published_run", "last_run")}
    return {
        "workspace": _target(the_host.workspace),
        "published_run": _target(the_host.workflow),
        "last_run": {"to": the_host.run._meta.label_lower},
    }


def _target(field: Any) -> dict[str, Any]:
    """The same column of the same model as the host's own foreign key: values are copied, never translated."""
    label = field.remote_field.model._meta.label_lower
    to = field.target_field
    return {"to": label} if to.primary_key else {"to": label, "to_field": to.name}


_TO: Final = targets()


class UtcDay(models.Func):
    """The day of a moment, in UTC whatever the session's zone, so that PostgreSQL can store it with the row."""

    template = "(%(expressions)s AT TIME ZONE 'UTC')::date"
    output_field = models.DateField()


class _Stored(models.GeneratedField):
    """A generated column that is stored, which every PostgreSQL can. Django 6.1 would ask the server for its version,
    and ``check`` and ``makemigrations`` would need one."""

    def _check_supported(self, databases: object) -> list[Any]:
        return []

    def deconstruct(self) -> Any:
        name, _, arguments, keywords = super().deconstruct()
        return name, "django.db.models.GeneratedField", arguments, keywords


class WorkspaceRecentWorkflow(models.Model):
    """The latest use of one workflow in one workspace, by one user (``uid``) or by anybody (``uid = ''``).

    Only a flush and a backfill write it. No foreign key has a database constraint, and none cascades: a host's delete
    must never fail or wait because of this table, and a row that anybody else deletes would leave no change behind. A
    row may name what is gone until the next flush. ``select_related()`` leaves such a row out, since it joins.
    """

    id = models.BigAutoField(primary_key=True)
    workspace = models.ForeignKey(
        **_TO["workspace"], on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    uid = models.TextField(help_text="The user's key as text; empty for the whole workspace.")
    published_run = models.ForeignKey(
        **_TO["published_run"], on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    last_used_at = models.DateTimeField()
    # Indexed: a flush asks which rows name a changed run.
    last_run = models.ForeignKey(**_TO["last_run"], on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    day = _Stored(expression=UtcDay(models.F("last_used_at")), output_field=models.DateField(), db_persist=True)

    class Meta:
        verbose_name = "recent workflow"
        constraints = [
            models.UniqueConstraint(fields=["workspace", "uid", "published_run"], name="recent_workflow_key"),
        ]
        indexes = [
            # The read walks the newest days and sorts within them. The exact moment is in no index, so that saving a
            # run again updates its row in place (HOT).
            models.Index(fields=["workspace", "uid", "-day"], name="recent_workflow_read"),
        ]

    def __str__(self) -> str:
        whose = f"user {self.uid}" if self.uid else "anybody"
        return f"workflow {self.published_run_id} by {whose} in workspace {self.workspace_id}"


class Shard(models.Model):
    """A part of the table that one flush writes at a time. Its row is the lock, and keeps what flushes tell."""

    number = models.PositiveSmallIntegerField(primary_key=True)
    counters = models.JSONField(default=dict, help_text="Counters and histograms: see telemetry.")
    flushed_at = models.DateTimeField(null=True, help_text="When a flush last committed a slice.")
    due_at = models.DateTimeField(null=True, help_text="When the next flush is due; null if none is to come.")
    awake_until = models.DateTimeField(null=True, help_text="Until when flushes follow, also ones that find nothing.")
    error = models.TextField(default="", help_text="The error that flushes of this shard meet; empty if they do not.")
    failing_since = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"shard {self.number}"


class Installation(models.Model):
    """What holds for all shards. One row."""

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    shards = models.PositiveSmallIntegerField(help_text="Number of shards; flushes with another number refuse.")
    fingerprint = models.TextField(default="", help_text="What counts, and for whom: models, path, filter, grains.")
    lacks_history = models.BooleanField(
        null=True, help_text="Whether runs from before capture are not all in the table. Null: nobody knows."
    )
    watched = models.JSONField(default=dict, help_text="Tables as they were when triggers were installed.")
    problems = models.JSONField(default=list, help_text="What the last tick found wrong with capture.")
    rescan_waits_for = models.JSONField(
        null=True, help_text="Transactions to end before every workspace is looked at again; null if none is to be."
    )
    rescan_reason = models.TextField(default="")
    ticked_at = models.DateTimeField(null=True, help_text="Heartbeat: the last tick.")
    audited_at = models.DateTimeField(null=True, help_text="Heartbeat: the last step of the audit.")
    audit_after = models.TextField(null=True, help_text="The workspace after which the audit goes on.")  # noqa: DJ001
    audit_part = models.TextField(default="", help_text="What the audit compares now; empty between two steps.")
    audit_findings = models.JSONField(default=list, help_text="What the audit found in this round, the newest first.")

    def __str__(self) -> str:
        return f"{self.shards} shards"
