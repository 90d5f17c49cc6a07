"""The package's migrations follow the host's models."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from tests.conftest import Configure
from tests.hosts.adapter import Host
from workflows_tasks import host as hosts
from workflows_tasks.errors import ConfigurationError
from workflows_tasks.models import WorkspaceRecentWorkflow


def test_no_migration_is_missing(live: Host) -> None:
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)


def test_columns_have_the_types_of_what_they_hold(live: Host) -> None:
    resolved = hosts.host()
    with connection.cursor() as cursor:
        columns = {c.name: c for c in connection.introspection.get_table_description(cursor, _table())}
        for name, field in (
            ("workspace_id", resolved.workspace),
            ("published_run_id", resolved.workflow),
            ("last_run_id", resolved.run._meta.pk),
        ):
            theirs = connection.introspection.get_table_description(cursor, field.model._meta.db_table)
            assert columns[name].type_code == {c.name: c for c in theirs}[field.column].type_code


def test_the_first_migration_depends_on_those_that_made_the_models_and_no_others(live: Host) -> None:
    migration = MigrationLoader(connection).get_migration("workflows_tasks", "0001_initial")
    app = live.run_model._meta.app_label
    needed = {name for label, name in migration.dependencies if label == app}
    made = {"platform": "0001_initial", "library": "0001_initial", "deep": "0003_tasks"}
    assert made[live.name] in needed
    assert not needed & {"__first__", "__latest__", "0004_tasks_are_jobs", "0005_kinds"}, (
        "a later one may come after ours"
    )


def test_the_tables_migrations_go_back_and_forth(live: Host) -> None:
    call_command("migrate", "workflows_tasks", "zero", verbosity=0)
    assert _table() not in connection.introspection.table_names()
    call_command("migrate", "workflows_tasks", verbosity=0)
    assert _table() in connection.introspection.table_names()


def test_with_settings_that_cannot_be_used_it_says_why(live: Host, configure: Configure) -> None:
    """Where no check was run before it. What our keys point to is not known then."""
    migration = MigrationLoader(connection).get_migration("workflows_tasks", "0001_initial")
    configure(SHARDS=0)
    with pytest.raises(ConfigurationError, match="at least 1"):
        migration.mutate_state(ProjectState())


def _table() -> str:
    return WorkspaceRecentWorkflow._meta.db_table
