"""The ways in which a host, or anybody else, changes what rows are made of: a transaction at a time, at random."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.db import DatabaseError, connection, transaction

DRIVER: Final[Any] = connection.Database  # type: ignore[attr-defined]  # psycopg or psycopg2
RUNS: Final = range(1, 7)
WORKSPACES: Final = (1, 2, 3)
"""Of two shards: 1 is of one, 2 and 3 of the other."""

VERSIONS: Final = (1, 2, 3)
LINES: Final = (1, 2)
WORKFLOWS: Final = (1, 2)
USERS: Final = ("a", "b", "a", "b", "", None)
MOMENTS: Final = range(4)
ISOLATION: Final = ("READ COMMITTED", "READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

USED_AT: Final = "timestamptz '2026-01-15 12:00Z' + %s * interval '10 hours'"
"""Some moments are of another day: a page is read by day first."""

NEW_WORLD: Final = """
    INSERT INTO workspace (id, hidden) VALUES (1, false), (2, false), (3, false);
    INSERT INTO workflow (id) VALUES (1), (2);
    INSERT INTO line (id, workflow_id) VALUES (1, 1), (2, 2);
    INSERT INTO version (id, line_id) VALUES (1, 1), (2, 2), (3, 1)
"""

Statement = tuple[str, Sequence[Any]]
Count = Callable[..., None]


class Abandoned(Exception):
    """The writer thinks better of it, and rolls back."""


def write(chance: random.Random, nap: Callable[[], None], count: Count) -> None:
    """One transaction; a writer that loses against others gives up."""
    try:
        if chance.random() < 0.15:
            _by_django(chance, nap)
        else:
            _raw(chance, nap, count)
    except Abandoned:
        count("writers that rolled back")
    except (DatabaseError, DRIVER.Error) as error:  # a deadlock, a conflict, the same key
        count(f"writers: {type(error.__cause__ or error).__name__}")
    finally:
        _end()


def _end() -> None:
    """Whatever went wrong: no transaction stays open."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")  # without one it is a warning
    except DatabaseError:
        connection.close()


def _raw(chance: random.Random, nap: Callable[[], None], count: Count) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"BEGIN ISOLATION LEVEL {chance.choice(ISOLATION)}")
        for _ in range(chance.choice((1, 1, 2, 3))):
            if chance.random() < 0.1:
                cursor.execute("SAVEPOINT thought")
                cursor.execute(*statement(chance))
                cursor.execute("ROLLBACK TO SAVEPOINT thought")
            elif chance.random() < 0.03:
                _copy(cursor, chance)
            else:
                cursor.execute(*statement(chance))
            nap()
        if chance.random() < 0.05:
            time.sleep(0.02)  # open for long
        if chance.random() < 0.1:
            raise Abandoned
        if chance.random() < 0.2:
            _prepare(cursor, chance, count)
        else:
            cursor.execute("COMMIT")


def _copy(cursor: Any, chance: random.Random) -> None:
    key = chance.choice(RUNS)
    cursor.execute("DELETE FROM run WHERE id = %s", [key])
    row = (key, chance.choice(WORKSPACES), chance.choice(USERS), 1, False, "2026-01-15 12:00Z")
    statement = 'COPY run (id, workspace_id, "user", version_id, hidden, used_at) FROM STDIN'
    if hasattr(cursor, "copy_expert"):  # psycopg2
        cursor.copy_expert(statement, io.StringIO("\t".join(map(str, row)) + "\n"))
        return
    with cursor.copy(statement) as copy:
        copy.write_row(row)


def _prepare(cursor: Any, chance: random.Random, count: Count) -> None:
    """Committed, or rolled back, late and by another statement."""
    name = f"'{threading.get_ident()}'"
    cursor.execute(f"PREPARE TRANSACTION {name}")
    time.sleep(chance.random() * 0.02)
    cursor.execute(f"{'COMMIT' if chance.random() < 0.8 else 'ROLLBACK'} PREPARED {name}")
    count("prepared transactions")


def _by_django(chance: random.Random, nap: Callable[[], None]) -> None:
    from tests.concurrency.models import Run, Version, Workspace

    key = chance.choice(RUNS)
    fields = {
        "workspace_id": chance.choice([*WORKSPACES, None]), "user": chance.choice(USERS),
        "version_id": chance.choice(VERSIONS), "hidden": False,
    }  # fmt: skip
    acts: list[Callable[[], Any]] = [
        lambda: Run.objects.filter(pk=key).update(**fields),
        lambda: Run.objects.filter(pk=key).delete(),
        lambda: [run.save() for run in Run.objects.filter(pk=key)],
        lambda: Run.objects.bulk_create(
            [Run(pk=pk, used_at="2026-01-15 12:00Z", **fields) for pk in RUNS],
            update_conflicts=True, unique_fields=["id"], update_fields=["workspace", "version"],
        ),
        lambda: Run.objects.bulk_create([Run(pk=key, used_at="2026-01-16 12:00Z", **fields)], ignore_conflicts=True),
        lambda: Version.objects.filter(pk=chance.choice(VERSIONS)).update(line=chance.choice(LINES)),
        lambda: Workspace.objects.filter(pk=chance.choice(WORKSPACES)).update(hidden=chance.random() < 0.3),
    ]  # fmt: skip
    with transaction.atomic():
        chance.choice(acts)()
        nap()


def statement(chance: random.Random) -> Statement:
    """One statement of raw SQL."""
    kinds = list(KINDS)
    kind = chance.choices(kinds, [KINDS[each][0] for each in kinds])[0]
    return kind, tuple(part(chance) for part in KINDS[kind][1])


def _run(chance: random.Random) -> int:
    return chance.choice(RUNS)


def _workspace(chance: random.Random) -> int:
    return chance.choice(WORKSPACES)


def _workspace_or_none(chance: random.Random) -> int | None:
    return chance.choice((*WORKSPACES, None))


def _user(chance: random.Random) -> str | None:
    return chance.choice(USERS)


def _version(chance: random.Random) -> int:
    return chance.choice(VERSIONS)


def _version_or_none(chance: random.Random) -> int | None:
    return chance.choice((*VERSIONS, None))


def _line(chance: random.Random) -> int:
    return chance.choice(LINES)


def _line_or_none(chance: random.Random) -> int | None:
    return chance.choice((*LINES, None))


def _workflow(chance: random.Random) -> int:
    return chance.choice(WORKFLOWS)


def _workflow_or_none(chance: random.Random) -> int | None:
    return chance.choice((*WORKFLOWS, None))


def _moment(chance: random.Random) -> int:
    return chance.choice(MOMENTS)


def _rarely(chance: random.Random) -> bool:
    return chance.random() < 0.2


COLUMNS: Final = '(id, workspace_id, "user", version_id, hidden, used_at)'
KINDS: Final[dict[str, tuple[float, list[Callable[[random.Random], Any]]]]] = {
    f"INSERT INTO run {COLUMNS} VALUES (%s, %s, %s, %s, false, {USED_AT}) ON CONFLICT (id) DO UPDATE"
    " SET used_at = excluded.used_at, workspace_id = excluded.workspace_id": (
        22, [_run, _workspace, _user, _version, _moment],
    ),
    "DELETE FROM run WHERE id = %s": (10, [_run]),
    "UPDATE run SET hidden = NOT hidden WHERE id = %s": (6, [_run]),
    "UPDATE run SET workspace_id = %s WHERE id = %s": (7, [_workspace_or_none, _run]),
    "UPDATE run SET version_id = %s WHERE id = %s": (5, [_version_or_none, _run]),
    'UPDATE run SET "user" = %s WHERE id = %s': (5, [_user, _run]),
    f"UPDATE run SET used_at = {USED_AT} WHERE id = %s": (8, [_moment, _run]),
    "UPDATE version SET line_id = %s WHERE id = %s": (5, [_line_or_none, _version]),
    "UPDATE line SET workflow_id = %s WHERE id = %s": (4, [_workflow_or_none, _line]),
    "DELETE FROM version WHERE id = %s": (3, [_version]),
    "INSERT INTO version (id, line_id) VALUES (%s, %s) ON CONFLICT DO NOTHING": (5, [_version, _line]),
    "DELETE FROM line WHERE id = %s": (2, [_line]),
    "INSERT INTO line (id, workflow_id) VALUES (%s, %s) ON CONFLICT DO NOTHING": (3, [_line, _workflow]),
    "UPDATE version SET id = id + 10 WHERE id = %s": (1, [_version]),
    "UPDATE workspace SET hidden = NOT hidden WHERE id = %s": (3, [_workspace]),
    "DELETE FROM workspace WHERE id = %s": (1, [_workspace]),
    "INSERT INTO workspace (id, hidden) VALUES (%s, false) ON CONFLICT (id) DO UPDATE SET hidden = false": (
        2, [_workspace],
    ),
    "UPDATE run SET workspace_id = %s WHERE workspace_id = %s": (3, [_workspace_or_none, _workspace]),
    "UPDATE run SET hidden = %s": (2, [_rarely]),
    f"INSERT INTO run {COLUMNS} SELECT n, 1 + n %% 3, 'a', 1 + n %% 3, false, {USED_AT}"
    " FROM generate_series(1, 6) AS n ON CONFLICT (id) DO NOTHING": (2, [_moment]),
    "DELETE FROM run WHERE workspace_id = %s": (1, [_workspace]),
    "TRUNCATE run": (0.7, []),
    "TRUNCATE version": (0.2, []),
    "WITH earlier AS (UPDATE run SET used_at = used_at + interval '10 hours' WHERE id = %s RETURNING id),"
    " other AS (UPDATE run SET \"user\" = 'b' WHERE id = %s), gone AS (DELETE FROM run WHERE id = %s)"
    f" INSERT INTO run {COLUMNS} SELECT 7, 1, 'a', 1, false, {USED_AT} WHERE NOT EXISTS (SELECT FROM run WHERE id = 7)":
        (1, [_run, _run, _run, _moment]),
    "MERGE INTO run USING (VALUES (%s)) AS given(id) ON run.id = given.id"
    f" WHEN MATCHED THEN UPDATE SET used_at = {USED_AT}"
    f" WHEN NOT MATCHED THEN INSERT {COLUMNS} VALUES (given.id, 2, 'b', 2, false, now())": (2, [_run, _moment]),
    "UPDATE run SET id = id + 10 WHERE id = %s": (1, [_run]),
    "DELETE FROM run WHERE id > 6": (1, []),
}  # fmt: skip
"""Statement -> how often, and what its parameters are."""
