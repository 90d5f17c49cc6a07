from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workshop", "0004_tasks_are_jobs")]

    operations = [
        migrations.AddField("Job", "kind", models.CharField(default="real", max_length=20)),
        migrations.AddField("Job", "protocol", models.TextField(default="large")),
    ]
