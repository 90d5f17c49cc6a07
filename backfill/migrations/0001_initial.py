"""Backfills and their chunks. Keys of the host are text: no foreign key leads out of here."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import CASCADE, Q

NOT_ENDED = ["cancelling", "enqueued", "paused", "planning", "running", "verifying"]
NOT_FILLED = ("failed", "pending", "running")
ID = models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Backfill",
            fields=[
                ("id", ID.clone()),
                ("status", models.CharField(default="enqueued", max_length=10)),
                ("actor", models.CharField(max_length=200)),
                ("first_workspace", models.TextField(null=True)),
                ("last_workspace", models.TextField(null=True)),
                ("chunk_size", models.PositiveIntegerField()),
                ("concurrency", models.PositiveIntegerField()),
                ("waiting", models.TextField(default="")),
                ("error", models.TextField(default="")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("planned_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("ticked_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["id"], name="backfill_not_ended", condition=Q(status__in=NOT_ENDED))],
            },
        ),
        migrations.CreateModel(
            name="Chunk",
            fields=[
                ("id", ID.clone()),
                ("kind", models.CharField(max_length=6)),
                ("status", models.CharField(default="pending", max_length=7)),
                ("is_open", models.BooleanField(default=False)),
                ("first_workspace", models.TextField()),
                ("after_run", models.TextField(null=True)),
                ("last_workspace", models.TextField()),
                ("last_run", models.TextField(null=True)),
                ("planned", models.PositiveBigIntegerField()),
                ("passed", models.PositiveBigIntegerField(default=0)),
                ("rows", models.PositiveBigIntegerField(default=0)),
                ("drift", models.PositiveIntegerField(default=0)),
                ("steps", models.JSONField()),
                ("token", models.CharField(default="", max_length=32)),
                ("worker", models.CharField(default="", max_length=200)),
                ("lease_until", models.DateTimeField(null=True)),
                ("failures", models.PositiveIntegerField(default=0)),
                ("retry_at", models.DateTimeField(null=True)),
                ("error", models.TextField(default="")),
                ("refused", models.JSONField(default=list)),
                ("seconds", models.FloatField(default=0.0)),
                ("backfill", models.ForeignKey("backfill.backfill", CASCADE, db_index=False, related_name="chunks")),
            ],
            options={
                "indexes": [
                    models.Index(fields=["backfill", "kind", "status"], name="backfill_chunk_claim"),
                    models.Index(
                        fields=["backfill"],
                        name="backfill_chunk_not_filled",
                        condition=Q(kind="fill", status__in=NOT_FILLED),
                    ),
                ],
            },
        ),
    ]
