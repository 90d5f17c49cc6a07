"""Fixtures that every test may use. Servers are started by ``tests.servers_plugin``."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from django.db import connection, transaction
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

from tests import broker, hosts, mutants
from tests.hosts.adapter import Host
from workflows_tasks import conf
from workflows_tasks.capture import nudge
from workflows_tasks.models import CHANGES, Shard

pytest_plugins = ["tests.workers"]

OF_DJANGO_ITSELF = {"django_content_type", "auth_permission", "django_migrations"}
"""Tables that ``migrate`` fills."""

Configure = Callable[..., None]

PATIENT = {"SAVE_TIMEOUT_S": 5.0, "BROKER_TIMEOUT_S": 5.0}
"""A busy machine is no outage; tests of outages set what hosts have: ``AS_SHIPPED``."""

AS_SHIPPED = {f.name.upper(): f.default for f in dataclasses.fields(conf.Settings) if f.name.upper() in PATIENT}


OF_THE_DEMO = {"browser", "demo", "docs", "whole"}
"""Folders of tests that import the demo's models, which are installed with the first host only."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Another host cannot even import them."""
    here = OF_THE_DEMO.intersection(collection_path.relative_to(Path(__file__).parent).parts)
    return True if here and hosts.current().name != hosts.NAMES[0] else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what this host does not allow, and what needs to run against one host only. Files that may take longest
    begin first, or all processes would wait for the one that has the last of them."""
    current = hosts.current()
    wanted = [item for item in items if _is_for(current, item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    if current.name == hosts.NAMES[0]:
        wanted = [each for item in wanted for each in (item, *_under_mutations(item))]
    patience_s: Counter[Path] = Counter()
    for item in wanted:
        patience_s[item.path] = max(patience_s[item.path], *(mark.args[0] for mark in item.iter_markers("timeout")), 0)
    items[:] = sorted(wanted, key=lambda item: -patience_s[item.path])


def _is_for(current: Host, item: pytest.Item) -> bool:
    if current.name != hosts.NAMES[0] and item.get_closest_marker("host_independent"):
        return False
    return all(current.allows.issuperset(mark.args) for mark in item.iter_markers("where_allowed"))


def _under_mutations(item: pytest.Item) -> Iterator[pytest.Function]:
    """A copy of a test for each mutation that it must notice."""
    test = f"{item.path.relative_to(Path(__file__).parent)}::{item.name}"
    for mutation in mutants.MUTANTS:
        if test in mutants.MUTANTS[mutation].tests and isinstance(item, pytest.Function):
            base, bracket, parameters = item.name.partition("[")
            name = f"{base} under {mutation}"
            copy: pytest.Function = pytest.Function.from_parent(
                item.parent,
                name=f"{name}{bracket}{parameters}",
                originalname=name,
                callspec=getattr(item, "callspec", None),
                callobj=_that_must_fail(item.obj),
                fixtureinfo=item._fixtureinfo,
            )
            copy.add_marker(pytest.mark.under(mutation))
            yield copy


def _that_must_fail(test: Callable[..., None]) -> Callable[..., None]:
    """By an assertion or an error of its own: a fixture that fails proves nothing."""

    @wraps(test)
    def failing(**arguments: Any) -> None:
        with pytest.raises((Exception, pytest.fail.Exception)):
            test(**arguments)

    return failing


@pytest.fixture(autouse=True)
def mutation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Takes a mechanism out of the package, in a copy of a test that must notice it."""
    mark = request.node.get_closest_marker("under")
    if mark is None:
        yield
        return
    request.getfixturevalue("live")
    undo = mutants.apply(mark.args[0])
    yield
    undo()


@pytest.fixture
def host() -> Host:
    return hosts.current()


@pytest.fixture(scope="session")
def celery_app_in_process() -> Celery:
    """The app that ``celeryconfig.py`` makes, as a web process has it: it sends, and consumes nothing."""
    from celeryconfig import app

    return app


@pytest.fixture
def configure(settings: Any) -> Configure:
    """``configure(SHARDS=1)``: change settings of the package for this test."""

    def changed(**keys: Any) -> None:
        settings.RECENT_WORKFLOWS = {**settings.RECENT_WORKFLOWS, **keys}

    return changed


@pytest.fixture(scope="session")
def names_used(celery_app_in_process: Celery) -> Iterator[list[str]]:
    """Prefixes of Redis keys, which are names of queues too; what they left is removed at the end."""
    names: list[str] = []
    yield names
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        for name in names:
            broker.delete(celery_app_in_process, name)
            for key in client.scan_iter(f"{name}:*"):
                client.unlink(key)


@pytest.fixture(autouse=True)
def alone(
    configure: Configure, celery_app_in_process: Celery, names_used: list[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Redis keys and a queue of this test's own, and no outage remembered from another; returns their name."""
    name = f"test-{uuid.uuid4()}"
    names_used.append(name)
    celery_app_in_process.set_current()
    # The app keeps the pool of the first broker it sent to, which may have been another test's own.
    monkeypatch.setattr(celery_app_in_process, "_pool", None)
    monkeypatch.setattr(celery_app_in_process.amqp, "_producer_pool", None)
    configure(KEY_PREFIX=name, QUEUE=name, **PATIENT)
    nudge.reset()
    return name


@pytest.fixture
def redis_as_broker(alone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever broker is given. Redis counts no consumers. And a worker in a thread needs it: with RabbitMQ Celery's
    event loop sleeps until the next heartbeat before it acknowledges a task that it ran itself, or ends."""
    monkeypatch.setenv("CELERY_BROKER_URL", f"{os.environ['REDIS_URL'].rpartition('/')[0]}/1")


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The test database, whatever fixture of ours asks for it; pytest-django makes it for its own ones only."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, serialized_aliases=[])
    yield
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity=0)


@pytest.fixture
def live(django_db_setup: None, django_db_blocker: DjangoDbBlocker, host: Host) -> Iterator[Host]:
    """The host under test, with a database whose transactions really commit.

    Like ``transactional_db``, but it deletes rows where that truncates every table, which took a third of all time.
    """
    with django_db_blocker.unblock():
        yield host
        if connection.in_atomic_block or not connection.get_autocommit():
            _forsake_transaction()
        _delete_all_rows()


def _forsake_transaction() -> None:
    """A test that failed inside a transaction must not take the following ones along."""
    if connection.connection is not None:
        connection.connection.close()
    connection.connect()


def _delete_all_rows() -> None:
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    shards = Shard._meta.db_table
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger, no foreign key: so in any order
        # Shards first, as a flush locks first: one that a worker is still at ends before any of its rows is deleted.
        for table in (shards, *(set(tables) - OF_DJANGO_ITSELF - {shards})):
            cursor.execute(f'DELETE FROM "{table}"')
        cursor.execute(f'DELETE FROM "{CHANGES}"')


@pytest.fixture
def pushing(live: Host) -> Iterator[None]:
    """The demo's own trigger on the table, which tells open pages."""
    pytest.importorskip("psycopg")
    migration = import_module("demo.push.migrations.0001_initial")
    with connection.cursor() as cursor:
        cursor.execute(migration.MAKE)
    yield
    with connection.cursor() as cursor:
        cursor.execute(migration.REMOVE)
