"""System checks. Each message says what would happen, each hint what to do; docs/install.md lists them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from celery import current_app
from django.core import checks
from django.db import connections, router
from django.db.utils import OperationalError

from workflows_tasks import conf, inbox
from workflows_tasks import host as hosts
from workflows_tasks.errors import ConfigurationError, InboxUnavailable
from workflows_tasks.queues import beat_schedule

OLDEST_POSTGRESQL = 15
SAFE_POLICY = "noeviction"


def register() -> None:
    """Register every check of this package."""
    checks.register(check_settings)
    checks.register(check_database_engine)
    checks.register(check_redis)
    checks.register(check_beat)
    checks.register(check_database_version, checks.Tags.database)


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """``RECENT_WORKFLOWS`` by itself, and what it names in the host's models."""
    problems = conf.problems() or list(hosts.problems())
    return [checks.Error(problem.msg, hint=problem.hint, id=problem.id) for problem in problems]


def check_database_engine(**_: Any) -> list[checks.CheckMessage]:
    """Runs and our table must be in one PostgreSQL."""
    host = _host()
    if host is None:
        return []
    from workflows_tasks.models import WorkspaceRecentWorkflow

    ours = router.db_for_write(WorkspaceRecentWorkflow)
    found: list[checks.CheckMessage] = []
    if connections[host.database].vendor != "postgresql":
        found.append(
            checks.Error(
                f"Database {host.database!r} is {connections[host.database].display_name}; flushes would fail on it.",
                hint=f"Keep {host.run._meta.label} in PostgreSQL {OLDEST_POSTGRESQL} or newer.",
                id="recent_workflows.E020",
            )
        )
    if ours != host.database:
        found.append(
            checks.Error(
                f"Runs are written to database {host.database!r} but recent workflows to {ours!r}; "
                "a flush reads one and writes the other in one statement.",
                hint="Route the app workflows_tasks to the database of the runs.",
                id="recent_workflows.E021",
            )
        )
    return found


def check_database_version(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Asks the server, so it runs where Django's own database checks do: ``check --database``, ``migrate``."""
    host = _host()
    if host is None or host.database not in (databases or ()) or connections[host.database].vendor != "postgresql":
        return []
    try:
        version = connections[host.database].pg_version  # type: ignore[attr-defined]
    except OperationalError:
        return []  # Django says so itself, and better
    if version >= OLDEST_POSTGRESQL * 10_000:
        return []
    return [
        checks.Error(
            f"Database {host.database!r} is PostgreSQL {version // 10_000}; flushes are not tested on it.",
            hint=f"Upgrade to PostgreSQL {OLDEST_POSTGRESQL} or newer.",
            id="recent_workflows.E022",
        )
    ]


def check_redis(**_: Any) -> list[checks.CheckMessage]:
    """A Redis that evicts keys can drop a whole shard's ids. Silent where Redis is not there, as in a build."""
    if _host() is None:
        return []
    try:
        policy = inbox.eviction_policy(timeout_s=1.0)
    except InboxUnavailable:
        return []
    except Exception as error:  # a client factory that cannot be imported, a URL that cannot be parsed
        return [
            checks.Error(
                f"{conf.NAME}['REDIS_URL'] makes no client ({error}); no run could be announced.",
                hint="Give a redis:// URL, or the dotted path of a callable factory(*, timeout_s) -> Redis.",
                id="recent_workflows.E023",
            )
        ]
    if policy is None or policy == SAFE_POLICY:
        return []
    return [
        checks.Warning(
            f"Redis may evict the inbox (maxmemory-policy is {policy}); runs would be late by up to a sweep.",
            hint=f"Set maxmemory-policy to {SAFE_POLICY}, or give the inbox a Redis of its own.",
            id="recent_workflows.W001",
        )
    ]


def check_beat(**_: Any) -> Iterator[checks.CheckMessage]:
    """Without its beat entries a lost message or a dead worker is not noticed."""
    if _host() is None:
        return
    scheduled = {entry.get("task") for entry in (current_app.conf.beat_schedule or {}).values()}
    missing = [entry["task"] for entry in beat_schedule().values() if entry["task"] not in scheduled]
    if missing:
        yield checks.Warning(
            f"Celery beat has no entry for {', '.join(missing)}; lost messages, dead workers and silent writes would "
            "go unnoticed.",
            hint="Call workflows_tasks.queues.configure(app) where your Celery app is made, and import that module in "
            "your project's __init__; or, if another scheduler sends them, silence this.",
            id="recent_workflows.W002",
        )


def _host() -> hosts.Host | None:
    try:
        return hosts.host()
    except ConfigurationError:
        return None  # check_settings says why
