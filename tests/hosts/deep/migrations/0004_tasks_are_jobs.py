from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("workshop", "0003_tasks")]

    operations = [migrations.RenameModel("Task", "Job")]
