"""The table, with foreign keys to whatever models the host's settings name.

Like ``AUTH_USER_MODEL``, the targets come from the settings when the migration is loaded. Unlike it, the host's models
need not be in their app's first migration: each dependency is the very migration that creates the model.
"""

from __future__ import annotations

from django.db import migrations, models

from workflows_tasks.migrations._host import creating_migrations
from workflows_tasks.models import announce_deletion, targets

TO = targets()


class Migration(migrations.Migration):
    initial = True

    dependencies = creating_migrations(TO.values())

    operations = [
        migrations.CreateModel(
            name="WorkspaceRecentWorkflow",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("uid", models.TextField(help_text="The user's key as text; empty for the whole workspace.")),
                ("last_used_at", models.DateTimeField()),
                (
                    "last_run",
                    models.ForeignKey(
                        **TO["last_run"], db_constraint=False, on_delete=announce_deletion, related_name="+"
                    ),
                ),
                (
                    "published_run",
                    models.ForeignKey(
                        **TO["published_run"],
                        db_constraint=False,
                        on_delete=announce_deletion,
                        related_name="+",
                    ),
                ),
                (
                    "workspace",
                    models.ForeignKey(
                        **TO["workspace"],
                        db_constraint=False,
                        db_index=False,
                        on_delete=announce_deletion,
                        related_name="+",
                    ),
                ),
            ],
            options={
                "verbose_name": "recent workflow",
                "indexes": [
                    models.Index(
                        fields=["workspace", "uid", "-last_used_at", "-last_run"],
                        include=["published_run", "id"],
                        name="recent_workflow_read",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("workspace", "uid", "published_run"),
                        include=("last_used_at", "last_run", "id"),
                        name="recent_workflow_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Bookmark",
            fields=[
                ("name", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("position", models.JSONField(help_text="Where to go on; keys as text.")),
                ("moved_at", models.DateTimeField(auto_now=True)),
            ],
        ),
    ]
