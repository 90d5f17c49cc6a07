"""Hosts whose models came about in several migrations, applied beside ours in every order that Django allows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.commands import manage, write_files

pytestmark = pytest.mark.host_independent

MODELS = """
from django.db import models

class Keeper(models.Model):
    id = models.BigAutoField(primary_key=True)
    badge = models.CharField(max_length=9, unique=True)

class Show(models.Model):
    id = models.BigAutoField(primary_key=True)

class Visit(models.Model):
    id = models.BigAutoField(primary_key=True)
    keeper = models.ForeignKey(Keeper, models.CASCADE, to_field="badge", null=True)
    show = models.ForeignKey(Show, models.CASCADE)
    guest = models.CharField(max_length=9)
    at = models.DateTimeField()
"""
SETTINGS = """
from tests.hosts.environment import databases, recent_workflows
SECRET_KEY = "only-for-tests"
USE_TZ = True
INSTALLED_APPS = ["workflows_tasks", "zoo"]
DATABASES = databases("zoo")
RECENT_WORKFLOWS = recent_workflows(RUN_MODEL="zoo.Visit", WORKSPACE_FIELD="keeper", USER_FIELD="guest",
                                    PUBLISHED_RUN_PATH="show", USED_AT_FIELD="at")
"""
MIGRATION = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = {dependencies}
    operations = [{operations}]
"""
FIRST = """
    migrations.CreateModel("Keeper", [("id", models.AutoField(primary_key=True, serialize=False))]),
    migrations.CreateModel("Show", [("id", models.AutoField(primary_key=True, serialize=False))]),
    migrations.CreateModel("Visit", [
        ("id", models.AutoField(primary_key=True, serialize=False)),
        ("show", models.ForeignKey("zoo.Show", models.CASCADE)),
        ("guest", models.CharField(max_length=9)),
        ("at", models.DateTimeField()),
    ]),
"""
LATER_FIELDS = """
    migrations.AddField("Keeper", "badge", models.CharField(max_length=9, unique=True)),
    migrations.AddField("Visit", "keeper",
                        models.ForeignKey("zoo.Keeper", models.CASCADE, to_field="badge", null=True)),
"""
WIDER_KEYS = "\n".join(
    f'    migrations.AlterField("{model}", "id", models.BigAutoField(primary_key=True, serialize=False)),'
    for model in ("Keeper", "Show", "Visit")
)


@pytest.fixture
def scratch(transactional_db: None) -> Iterator[dict[str, str]]:
    """Environment that names an empty database."""
    url, name = os.environ["DATABASE_URL"], f"{connection.settings_dict['NAME']}_scratch"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    yield {"DATABASE_URL": f"{url.rpartition('/')[0]}/{name}"}
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def migrate(tmp_path: Path, scratch: dict[str, str]) -> Callable[..., None]:
    """``migrate(*arguments)`` in a project with the three migrations above."""
    steps = [("0001_first", FIRST), ("0002_badges", LATER_FIELDS), ("0003_wider", WIDER_KEYS)]
    files = {"zoo_settings.py": SETTINGS, "zoo/models.py": MODELS}
    for position, (name, operations) in enumerate(steps):
        before = [("zoo", steps[position - 1][0])] if position else []
        files[f"zoo/migrations/{name}.py"] = MIGRATION.format(dependencies=before, operations=operations)
    write_files(tmp_path, files)

    def run(*arguments: str) -> None:
        code, output = manage(*arguments, settings="zoo_settings", directory=tmp_path, env=scratch)
        assert code == 0, output

    return run


def test_from_nothing_although_the_hosts_app_sorts_after_ours(migrate: Callable[..., None]) -> None:
    """The workspace's key and the foreign key to it are added after the models were made."""
    migrate("migrate", "--verbosity=0")
    migrate("makemigrations", "--check", "--dry-run")


def test_keys_that_become_wider_after_our_table_was_made(migrate: Callable[..., None]) -> None:
    migrate("migrate", "--verbosity=0", "zoo", "0002")
    migrate("migrate", "--verbosity=0", "workflows_tasks")
    migrate("migrate", "--verbosity=0")
    migrate("makemigrations", "--check", "--dry-run")
    migrate(
        "shell", "--command",
        "from django.db import connection as c\n"
        "with c.cursor() as cursor:\n"
        "    cursor.execute(\"select column_name, data_type from information_schema.columns where table_name ="
        " 'workflows_tasks_workspacerecentworkflow'\")\n"
        "    types = dict(cursor.fetchall())\n"
        "assert types['last_run_id'] == types['published_run_id'] == 'bigint', types",
    )  # fmt: skip
