import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workshop", "0002_tickets")]

    operations = [
        migrations.CreateModel(
            name="Execution",
            fields=[
                ("reference", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("finished_at", models.DateTimeField(null=True)),
                ("archived", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="Task",
            fields=[
                (
                    "execution_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="workshop.execution",
                    ),
                ),
                (
                    "member",
                    models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to="workshop.member"),
                ),
                (
                    "team",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        to="workshop.team",
                        to_field="number",
                    ),
                ),
                (
                    "ticket",
                    models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to="workshop.ticket"),
                ),
            ],
            bases=("workshop.execution",),
        ),
    ]
