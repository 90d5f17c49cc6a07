"""Capture beside what a host does to its schema: its own migrations, and a restore of its data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.db import connection

from tests.commands import python, write_files
from tests.conftest import OF_DJANGO_ITSELF
from tests.integration.capture.sample import Sample, logged
from tests.oracle import assert_exact, expected, flush_all
from tests.sessions import execute, program, psql, query, url
from workflows_tasks.models import CHANGES

pytestmark = pytest.mark.host_independent

SETTINGS = """
import os
from urllib.parse import urlsplit
_database = urlsplit(os.environ["PROJECT_DATABASE"])
SECRET_KEY = "only-for-tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["crm", "workflows_tasks"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": _database.path[1:],
    "USER": _database.username, "PASSWORD": _database.password or "",
    "HOST": _database.hostname, "PORT": _database.port}}
RECENT_WORKFLOWS = {"QUEUE": "of-the-project", "SHARDS": 2, "RUN_MODEL": "crm.%(run)s",
    "WORKSPACE_FIELD": "%(workspace)s", "USER_FIELD": "uid", "PUBLISHED_RUN_PATH": "%(path)s",
    "USED_AT_FIELD": "%(used_at)s"}
"""

MODELS = """
from django.db import models

class Team(models.Model):
    pass

class Workflow(models.Model):
    id = models.%(key)s(primary_key=True)

class Version(models.Model):
    %(hop)s = models.ForeignKey(Workflow, on_delete=models.CASCADE)

class %(run)s(models.Model):
    id = models.%(key)s(primary_key=True)
    %(workspace)s = models.ForeignKey(Team, null=True, on_delete=models.SET_NULL)
    uid = models.CharField(max_length=%(length)s, null=True)
    version = models.ForeignKey(Version, null=True, on_delete=models.SET_NULL)
    %(used_at)s = models.DateTimeField(db_index=True)
    %(extra)s

    class Meta:
        indexes = [models.Index(fields=["%(workspace)s", "%(used_at)s"], name="by_place")]
        %(meta)s
"""

BEFORE = {
    "run": "Run", "workspace": "workspace", "used_at": "updated_at", "hop": "workflow", "path": "version__workflow",
    "length": "20", "extra": "state = models.TextField(default='')", "meta": "", "key": "AutoField",
}  # fmt: skip
AFTER = {
    "run": "Execution", "workspace": "team", "used_at": "ran_at", "hop": "leads_to", "path": "version__leads_to",
    "length": "200", "extra": "cost = models.IntegerField(default=0)", "meta": 'db_table = "all_the_runs"',
    "key": "BigAutoField",
}  # fmt: skip

SECOND = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("crm", "0001_initial")]
    operations = [
        migrations.AlterField(model, "id", models.BigAutoField(primary_key=True, serialize=False))
        for model in ("Run", "Workflow")
    ]
"""

THIRD = """
from django.db import migrations, models

def write(apps, schema_editor):
    apps.get_model("crm", "Run").objects.filter(pk=1).update(uid="by a migration")

def write_another(apps, schema_editor):  # a row written twice would keep Django's own foreign keys from being altered
    apps.get_model("crm", "Run").objects.filter(pk=2).update(uid="by a migration")

class Migration(migrations.Migration):
    dependencies = [("crm", "0002_wider")]
    operations = [
        migrations.RunPython(write, write),  # and the tables altered after it, in one transaction
        migrations.RemoveField("Run", "state"),
        migrations.AddField("Run", "cost", models.IntegerField(default=0)),
        migrations.AlterField("Run", "uid", models.CharField(max_length=200, null=True)),
        migrations.RemoveIndex("Run", "by_place"),
        migrations.RenameField("Run", "workspace", "team"),
        migrations.RunPython(write_another, write_another),  # nothing has told the triggers yet
        migrations.RenameField("Run", "updated_at", "ran_at"),
        migrations.RenameField("Version", "workflow", "leads_to"),
        migrations.AddIndex("Run", models.Index(fields=["team", "ran_at"], name="by_place")),
        migrations.AddConstraint("Run", models.CheckConstraint(name="positive", %(check)s=models.Q(cost__gte=0))),
        migrations.RemoveConstraint("Run", "positive"),
        migrations.AlterModelTable("Run", "all_the_runs"),
        migrations.RenameModel("Run", "Execution"),  # which our own tables point to
    ]
"""

STEPS = """
import json, django
django.setup()
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
call_command("migrate", verbosity=0)
from crm import models
from workflows_tasks import recent_workflows
from workflows_tasks.capture import watch
from workflows_tasks.projection.flush import flush_all
from workflows_tasks.host import host
run, hop, found = models.%(run)s, "%(hop)s", host()
if %(first)s:
    team, other = models.Team.objects.create(), models.Team.objects.create()
    for number in range(3):
        version = models.Version.objects.create(**{hop: models.Workflow.objects.create()})
        run.objects.create(**{found.workspace.name: team, found.used_at.name: timezone.now()}, uid="a", version=version)
else:
    other = models.Team.objects.get(pk=2)
    run.objects.filter(pk=2).update(**{found.workspace.name: other})
    run.objects.filter(pk=3).delete()
flush_all()
with connection.cursor() as cursor:
    cursor.execute("SELECT DISTINCT data_type FROM information_schema.columns WHERE table_name ="
        " 'workflows_tasks_workspacerecentworkflow' AND column_name IN ('last_run_id', 'published_run_id')")
    keys = [kind for (kind,) in cursor.fetchall()]
print(json.dumps({
    "keys": keys,
    "problems": [str(problem) for problem in watch.problems()],
    "pages": [[row.last_run_id for row in recent_workflows(team)] for team in (1, 2)],
    "users": [[row.last_run_id for row in recent_workflows(1, user)] for user in ("a", "by a migration")],
}))
"""


@pytest.fixture
def database(live: Any) -> Iterator[str]:
    """Address of a database of the project's own."""
    name = f"{connection.settings_dict['NAME']}_project"
    execute(f'CREATE DATABASE "{name}"')
    yield url().rpartition("/")[0] + f"/{name}"
    execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def deploy(directory: Path, names: dict[str, str], database: str, *, first: bool) -> dict[str, Any]:
    """The project with models of these names: migrate, write, flush; returns what its pages show."""
    write_files(
        directory,
        {
            "settings.py": SETTINGS % names,
            "crm/models.py": MODELS % names,
            "steps.py": STEPS % {**names, "first": first},
        },
    )
    env = {"DJANGO_SETTINGS_MODULE": "settings", "PROJECT_DATABASE": database, "TEST_LEAVE_OUT": ""}
    if first:
        code, output = python("-m", "django", "makemigrations", "crm", "-n", "initial", directory=directory, env=env)
        assert code == 0, output
    code, output = python("steps.py", directory=directory, env=env)
    assert code == 0, output
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def test_a_hosts_own_migrations_need_no_hand(database: str, tmp_path: Path) -> None:
    """Keys become wider. Columns, tables and models are renamed, added, altered and removed, with writes in between, by
    one migration."""
    first = deploy(tmp_path, BEFORE, database, first=True)
    assert first == {"keys": ["integer"], "problems": [], "pages": [[3, 2, 1], []], "users": [[3, 2, 1], []]}
    check = "condition" if django.VERSION >= (5, 1) else "check"
    write_files(
        tmp_path, {"crm/migrations/0002_wider.py": SECOND, "crm/migrations/0003_renamed.py": THIRD % {"check": check}}
    )
    second = deploy(tmp_path, AFTER, database, first=False)
    assert second == {"keys": ["bigint"], "problems": [], "pages": [[1], [2]], "users": [[], [1]]}
    env = {"DJANGO_SETTINGS_MODULE": "settings", "PROJECT_DATABASE": database, "TEST_LEAVE_OUT": ""}
    # On a new database theirs may come before ours, or after.
    anew = """
import django
django.setup()
from django.core.management import call_command as call
for first in ("crm", "workflows_tasks"):
    call("migrate", "workflows_tasks", "zero", verbosity=0)
    call("migrate", "crm", "zero", verbosity=0)
    call("migrate", first, verbosity=0)
    call("migrate", verbosity=0)
call("makemigrations", check_changes=True, dry_run=True, verbosity=0)
"""
    code, output = python("-c", anew, directory=tmp_path, env=env)
    assert code == 0, output


def test_a_restore_of_data_alone_with_triggers_on(sample: Sample, tmp_path: Path) -> None:
    """All of the host's rows come back, although changes that were dumped with them are there already: the log's keys
    are no sequence that could begin anew."""
    execute(f"TRUNCATE {CHANGES} RESTART IDENTITY")
    sample.host.save_again(sample.older)
    assert logged() > 0
    dump = tmp_path / "dump.sql"
    without = [f"--exclude-table={name}" for name in OF_DJANGO_ITSELF]
    program("pg_dump", "--data-only", *without, "-f", str(dump), "-d", url())
    true = expected(sample.host)
    names = {name for (name,) in query("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")}
    execute(f"TRUNCATE {', '.join(names - OF_DJANGO_ITSELF)} RESTART IDENTITY")
    assert "WARNING" not in psql(dump.read_text())
    assert sorted(expected(sample.host)) == sorted(true)
    flush_all()
    assert_exact(sample.host)
