"""Backfills, their chunks, and who did what to them. Keys of the host are text: no foreign key leads out of here."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Run",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("enqueued", "Enqueued"),
                            ("planning", "Planning"),
                            ("running", "Running"),
                            ("verifying", "Verifying"),
                            ("pausing", "Pausing"),
                            ("paused", "Paused"),
                            ("cancelling", "Cancelling"),
                            ("cancelled", "Cancelled"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                        ],
                        default="enqueued",
                        max_length=10,
                    ),
                ),
                ("actor", models.CharField(help_text="Who started it.", max_length=200)),
                (
                    "first_workspace",
                    models.TextField(help_text="Key of the first workspace; null is from the beginning.", null=True),
                ),
                (
                    "last_workspace",
                    models.TextField(help_text="Key of the last workspace; null is to the end.", null=True),
                ),
                (
                    "since",
                    models.DateTimeField(help_text="Only runs used then or later; null is all of history.", null=True),
                ),
                ("chunk_size", models.PositiveIntegerField(help_text="Runs that a chunk should have.")),
                (
                    "parallel",
                    models.PositiveIntegerField(help_text="Chunks that are to be worked on at the same time."),
                ),
                (
                    "width",
                    models.PositiveIntegerField(
                        help_text="Chunks that may be worked on now: fewer, where live traffic needs it."
                    ),
                ),
                (
                    "batch",
                    models.PositiveIntegerField(
                        default=0, help_text="Runs that a transaction had lately; 0 is not known yet."
                    ),
                ),
                (
                    "waiting",
                    models.TextField(default="", help_text="Why it waits or is slowed down; empty if it is not."),
                ),
                ("error", models.TextField(default="", help_text="Why it failed or was paused by itself.")),
                (
                    "outcomes",
                    models.CharField(default="", help_text="The last chunks, newest last: . or F.", max_length=20),
                ),
                (
                    "samples",
                    models.JSONField(
                        default=list, help_text="[seconds, runs done] of the last ticks, for rate and ETA."
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("planned_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("ticked_at", models.DateTimeField(help_text="When the orchestrator last looked.", null=True)),
                ("sent_at", models.DateTimeField(help_text="When a worker was last asked for.", null=True)),
            ],
            options={
                "verbose_name": "backfill",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(
                            (
                                "status__in",
                                ["cancelling", "enqueued", "paused", "pausing", "planning", "running", "verifying"],
                            )
                        ),
                        fields=["id"],
                        name="backfill_open",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(auto_now_add=True)),
                ("actor", models.CharField(max_length=200)),
                ("what", models.CharField(max_length=30)),
                ("detail", models.TextField(default="")),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="events", to="backfill.run"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Chunk",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=[("fill", "Fill"), ("verify", "Verify")], max_length=6)),
                (
                    "order",
                    models.PositiveIntegerField(
                        help_text="Order in which they are claimed: neighbours far from each other."
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("running", "Running"),
                            ("done", "Done"),
                            ("split", "Split"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=7,
                    ),
                ),
                ("first_workspace", models.TextField()),
                (
                    "after_run",
                    models.TextField(
                        help_text="Past this run of the first workspace; null is from its first.", null=True
                    ),
                ),
                ("last_workspace", models.TextField()),
                (
                    "last_run",
                    models.TextField(help_text="Up to this run of the last workspace; null is to its last.", null=True),
                ),
                ("planned", models.PositiveBigIntegerField(help_text="Runs that it had when it was planned.")),
                (
                    "passed",
                    models.PositiveBigIntegerField(
                        default=0, help_text="Those of them that are done: never more, and all at its end."
                    ),
                ),
                ("rows", models.PositiveBigIntegerField(default=0, help_text="Rows of the table that it wrote.")),
                ("drift", models.PositiveIntegerField(default=0, help_text="Differences that it found and announced.")),
                (
                    "steps",
                    models.JSONField(
                        help_text="What is left: [first workspace, after run, last workspace, last run, runs]."
                    ),
                ),
                (
                    "token",
                    models.CharField(default="", help_text="The lease: nothing is written without it.", max_length=32),
                ),
                ("worker", models.CharField(default="", max_length=200)),
                ("lease_until", models.DateTimeField(null=True)),
                ("attempts", models.PositiveIntegerField(default=0)),
                (
                    "failures",
                    models.PositiveIntegerField(default=0, help_text="Failures in a row, without a commit in between."),
                ),
                ("retry_at", models.DateTimeField(help_text="Not claimed before.", null=True)),
                ("error", models.TextField(default="")),
                ("failed_runs", models.JSONField(default=list, help_text="Keys of the runs that could not be filled.")),
                ("seconds", models.FloatField(default=0.0, help_text="Time that its transactions took.")),
                ("done_at", models.DateTimeField(null=True)),
                (
                    "parent",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="children",
                        to="backfill.chunk",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="chunks", to="backfill.run"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["run", "kind", "status", "order"], name="backfill_chunk_claim")],
            },
        ),
    ]
