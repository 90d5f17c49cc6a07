"""The table, with foreign keys to whatever models the host's settings name.

Like ``AUTH_USER_MODEL``, the targets come from the settings when the migration is loaded. Unlike it, the host's models
need not be in their app's first migration: each dependency is the very migration that creates the model, which may be
renamed before or after.
"""

from __future__ import annotations

from django.db import migrations, models

from workflows_tasks.migrations._host import CreateModelOfHost, creating_migrations
from workflows_tasks.models import UtcDay, targets

TO = targets()


class Migration(migrations.Migration):
    initial = True

    dependencies = creating_migrations(TO.values())

    operations = [
        CreateModelOfHost(
            name="WorkspaceRecentWorkflow",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("uid", models.TextField(help_text="The user's key as text; empty for the whole workspace.")),
                ("last_used_at", models.DateTimeField()),
                (
                    "last_run",
                    models.ForeignKey(
                        **TO["last_run"], db_constraint=False, on_delete=models.DO_NOTHING, related_name="+"
                    ),
                ),
                (
                    "published_run",
                    models.ForeignKey(
                        **TO["published_run"],
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        related_name="+",
                    ),
                ),
                (
                    "workspace",
                    models.ForeignKey(
                        **TO["workspace"],
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        related_name="+",
                    ),
                ),
                (
                    "day",
                    models.GeneratedField(
                        db_persist=True,
                        expression=UtcDay(models.F("last_used_at")),
                        output_field=models.DateField(),
                    ),
                ),
            ],
            options={
                "verbose_name": "recent workflow",
                "indexes": [models.Index(fields=["workspace", "uid", "-day"], name="recent_workflow_read")],
                "constraints": [
                    models.UniqueConstraint(fields=("workspace", "uid", "published_run"), name="recent_workflow_key")
                ],
            },
        ),
        migrations.CreateModel(
            name="Shard",
            fields=[
                ("number", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ("counters", models.JSONField(default=dict, help_text="Counters and histograms: see telemetry.")),
                ("flushed_at", models.DateTimeField(help_text="When a flush last committed a slice.", null=True)),
                (
                    "due_at",
                    models.DateTimeField(help_text="When the next flush is due; null if none is to come.", null=True),
                ),
                (
                    "awake_until",
                    models.DateTimeField(
                        help_text="Until when flushes follow, also ones that find nothing.", null=True
                    ),
                ),
                (
                    "error",
                    models.TextField(
                        default="", help_text="The error that flushes of this shard meet; empty if they do not."
                    ),
                ),
                ("failing_since", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Installation",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                (
                    "shards",
                    models.PositiveSmallIntegerField(help_text="Number of shards; flushes with another number refuse."),
                ),
                (
                    "fingerprint",
                    models.TextField(default="", help_text="What counts, and for whom: models, path, filter, grains."),
                ),
                (
                    "lacks_history",
                    models.BooleanField(
                        help_text="Whether runs from before capture are not all in the table. Null: nobody knows.",
                        null=True,
                    ),
                ),
                (
                    "watched",
                    models.JSONField(default=dict, help_text="Tables as they were when triggers were installed."),
                ),
                (
                    "problems",
                    models.JSONField(default=list, help_text="What the last tick found wrong with capture."),
                ),
                (
                    "rescan_waits_for",
                    models.JSONField(
                        help_text=(
                            "Transactions to end before every workspace is looked at again; null if none is to be."
                        ),
                        null=True,
                    ),
                ),
                ("rescan_reason", models.TextField(default="")),
                ("ticked_at", models.DateTimeField(help_text="Heartbeat: the last tick.", null=True)),
                ("audited_at", models.DateTimeField(help_text="Heartbeat: the last step of the audit.", null=True)),
                (
                    "audit_after",
                    models.TextField(help_text="The workspace after which the audit goes on.", null=True),
                ),
                (
                    "audit_part",
                    models.TextField(default="", help_text="What the audit compares now; empty between two steps."),
                ),
                (
                    "audit_findings",
                    models.JSONField(default=list, help_text="What the audit found in this round, the newest first."),
                ),
            ],
        ),
        # Room on each page, so that a row's new version stays beside its old one (HOT).
        migrations.RunSQL(
            "ALTER TABLE workflows_tasks_workspacerecentworkflow SET (fillfactor = 80);"
            "ALTER TABLE workflows_tasks_shard SET (fillfactor = 10)",
            # The change log, which is made after migrations (see capture.installation).
            "DROP TABLE IF EXISTS workflows_tasks_change; DROP TYPE IF EXISTS workflows_tasks_change_columns",
        ),
    ]
