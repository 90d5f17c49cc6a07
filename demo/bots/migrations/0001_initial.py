import django.db.models.deletion
from django.db import migrations, models

ID = ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"))


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel("Workspace", [ID, ("name", models.CharField(max_length=100))]),
        migrations.CreateModel("PublishedRun", [ID, ("title", models.CharField(max_length=100))]),
        migrations.CreateModel(
            "PublishedRunVersion",
            [
                ID,
                (
                    "published_run",
                    models.ForeignKey("bots.publishedrun", django.db.models.deletion.CASCADE, related_name="versions"),
                ),
                ("number", models.PositiveIntegerField(default=1)),
            ],
        ),
        migrations.CreateModel(
            "SavedRun",
            [
                ID,
                (
                    "workspace",
                    models.ForeignKey(
                        "bots.workspace", django.db.models.deletion.SET_NULL, null=True, blank=True, related_name="runs"
                    ),
                ),
                ("uid", models.CharField(blank=True, max_length=128, null=True)),
                (
                    "parent_version",
                    models.ForeignKey(
                        "bots.publishedrunversion",
                        django.db.models.deletion.SET_NULL,
                        null=True,
                        blank=True,
                        related_name="runs",
                    ),
                ),
                (
                    "surface",
                    models.IntegerField(
                        default=0, help_text="0 is a run; anything else is a preview and does not count."
                    ),
                ),
                ("state", models.JSONField(blank=True, default=dict)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["uid", "workspace", "surface", "-updated_at"], name="run_by_user"),
                    models.Index(fields=["workspace", "surface", "-updated_at"], name="run_by_workspace"),
                    models.Index(fields=["-updated_at"], name="run_by_time"),
                ]
            },
        ),
    ]
