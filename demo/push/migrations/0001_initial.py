from django.db import migrations

MAKE = """
CREATE FUNCTION say_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('recent_workflows', coalesce(NEW.workspace_id, OLD.workspace_id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER say_changed AFTER INSERT OR UPDATE OR DELETE ON workflows_tasks_workspacerecentworkflow
FOR EACH ROW EXECUTE FUNCTION say_changed();
"""
REMOVE = "DROP FUNCTION say_changed CASCADE"


class Migration(migrations.Migration):
    dependencies = [("workflows_tasks", "0001_initial")]
    operations = [migrations.RunSQL(MAKE, REMOVE)]
