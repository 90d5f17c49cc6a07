"""The same few runs, under the same keys, wherever they are made; and the pipeline stopped at its every stage."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from django.db import connection

from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace

HERE: Final = Path(__file__).parent
APPS: Final = ("workflows_tasks", "backfill")
NOON: Final = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
PENDING, CLAIMED, WRITTEN = 3, 2, 1
"""Keys of the runs by where they are."""


def make_runs() -> None:
    """Workspace 1 with three workflows, each run once by one user, an hour apart."""
    Workspace.objects.create(pk=1, name="Kitchen")
    for key in (WRITTEN, CLAIMED, PENDING):
        PublishedRun.objects.create(pk=key, title=f"Workflow {key}")
        PublishedRunVersion.objects.create(pk=key, published_run_id=key)
        run = SavedRun(pk=key, workspace_id=1, uid="anna", parent_version_id=key)
        SavedRun.objects.bulk_create([run])  # which announces nothing
        SavedRun.objects.filter(pk=key).update(updated_at=NOON + timedelta(hours=key))


def tables() -> list[str]:
    """Those of this project's apps that there are."""
    names = connection.introspection.django_table_names(only_existing=True)
    return sorted(name for name in names if name.startswith(tuple(f"{app}_" for app in APPS)))


def schema() -> list[tuple[Any, ...]]:
    """Columns, indexes and constraints, as PostgreSQL has them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT table_name, column_name, data_type, is_nullable, column_default, identity_generation
            FROM information_schema.columns WHERE table_name = ANY(%(tables)s)
            UNION ALL
            SELECT tablename, indexname, indexdef, '', '', '' FROM pg_indexes WHERE tablename = ANY(%(tables)s)
            UNION ALL
            SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
            FROM pg_constraint WHERE contype IN ('p', 'u', 'f', 'c') AND conrelid::regclass::text = ANY(%(tables)s)
            ORDER BY 1, 2, 3
            """,
            {"tables": tables()},
        )
        return [tuple(map(_plain, row)) for row in cursor.fetchall()]


def _plain(text: Any) -> Any:
    """Without casts and parentheses: PostgreSQL writes a condition anew each time that it reads one."""
    return re.sub(r"::[a-z ]+(\[\])?|[()]", "", text) if isinstance(text, str) else text


def read(client: Any, prefix: str) -> dict[str, Any]:
    """Every key below a prefix, less the prefix: its kind and what it holds."""
    found: dict[str, Any] = {}
    for key in sorted(client.scan_iter(f"{{{prefix}:*")):
        kind = client.type(key).decode()
        name = key.decode().replace(prefix, "PREFIX", 1)
        if kind == "zset":
            found[name] = [
                kind,
                [[_text(member), score] for member, score in client.zrange(key, 0, -1, withscores=True)],
            ]
        elif kind == "hash":
            found[name] = [kind, {_text(field): _text(value) for field, value in client.hgetall(key).items()}]
        else:
            found[name] = [kind, _text(client.get(key))]
    return found


def write(client: Any, prefix: str, frozen: dict[str, Any]) -> None:
    """The reverse of ``read``."""
    for name, (kind, held) in frozen.items():
        key = name.replace("PREFIX", prefix, 1)
        if kind == "zset":
            client.zadd(key, dict(held))
        elif kind == "hash":
            client.hset(key, mapping=held)
        else:
            client.set(key, held)


def _text(value: Any) -> str:
    return str(value.decode())
