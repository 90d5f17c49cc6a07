import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Branch",
            fields=[
                ("slug", models.SlugField(primary_key=True, serialize=False)),
                ("closed", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="Title",
            fields=[
                ("number", models.SmallAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(default="A book", max_length=100)),
            ],
        ),
        migrations.CreateModel(
            name="Loan",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("borrowed_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("voided", models.BooleanField(default=False)),
                ("receipt", models.TextField(default="large")),
                (
                    "borrower",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL),
                ),
                ("branch", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="library.branch")),
                ("title", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="library.title")),
            ],
        ),
        migrations.CreateModel(
            name="Renewal",
            fields=[],
            options={
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("library.loan",),
        ),
        migrations.AddIndex(
            model_name="loan",
            index=models.Index(fields=["branch", "-borrowed_at"], name="loan_by_branch"),
        ),
    ]
