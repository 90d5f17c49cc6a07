import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workshop", "0001_initial")]

    operations = [
        migrations.AddField("Team", "number", models.PositiveIntegerField(unique=True)),
        migrations.AddField("Team", "disbanded", models.BooleanField(default=False)),
        migrations.CreateModel(
            name="Revision",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "blueprint",
                    models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to="workshop.blueprint"),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Ticket",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "revision",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="workshop.revision"),
                ),
            ],
        ),
    ]
