"""Loads a platform's history in bulk: PostgreSQL makes the rows itself, since ORM saves would take an hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from demo import catalogue
from demo.shape import USERS, WorkspaceShape

VERSIONS = 2
"""Versions of each workflow. A run points to one of them, so its workflow is two hops away."""


def load(shapes: Sequence[WorkspaceShape]) -> int:
    """Fill the platform's empty tables with workspaces, workflows, versions and runs; returns how many runs."""
    with transaction.atomic(), connection.cursor() as cursor:
        # References are right by construction; checking each would take longer than writing it.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("SET LOCAL synchronous_commit = off")
        cursor.execute("SELECT setseed(0.5)")
        cursor.execute(_SHAPES, _columns(shapes))
        cursor.execute("INSERT INTO bots_workspace (id, name) SELECT workspace, name FROM shape")
        cursor.execute(_WORKFLOWS, [catalogue.titles()])
        cursor.execute(_VERSIONS, [VERSIONS])
        with _without_indexes(cursor):
            cursor.execute(_RUNS, [catalogue.users(USERS), VERSIONS])
            runs = int(cursor.rowcount)
        for table in ("bots_workspace", "bots_publishedrun", "bots_publishedrunversion"):
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
    return runs


@contextmanager
def _without_indexes(cursor: Any) -> Iterator[None]:
    """The runs' indexes are built when all runs are there, which takes half as long as keeping them on each insert."""
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'bots_savedrun' AND indexname <> %s",
        ["bots_savedrun_pkey"],
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f'DROP INDEX "{name}"')
    yield
    for _, definition in indexes:
        cursor.execute(definition)


def vacuum() -> None:
    """What autovacuum does within minutes on a live server: visibility for index-only scans, statistics for plans."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _columns(shapes: Sequence[WorkspaceShape]) -> list[list[object]]:
    names = ("id", "name", "runs", "workflows", "users", "first_workflow", "first_user")
    return [[getattr(shape, name) for shape in shapes] for name in names]


_SHAPES = """
    CREATE TEMPORARY TABLE shape ON COMMIT DROP AS
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[])
    AS shape(workspace, name, runs, workflows, users, first_workflow, first_user)
"""

_WORKFLOWS = """
    INSERT INTO bots_publishedrun (id, title)
    SELECT position, title FROM unnest(%s::text[]) WITH ORDINALITY AS workflow(title, position)
"""

_VERSIONS = """
    INSERT INTO bots_publishedrunversion (published_run_id, number)
    SELECT workflow.id, number
    FROM bots_publishedrun AS workflow CROSS JOIN generate_series(1, %s) AS number
    ORDER BY workflow.id, number
"""

# A workspace's first runs take its workflows in turn, so that each is used at least once; then the popular ones get
# most. Every chance is drawn in the inner query: once a row, although it is used more than once.
_RUNS = """
    INSERT INTO bots_savedrun
        (workspace_id, uid, parent_version_id, surface, state, created_at, updated_at)
    SELECT
        CASE WHEN lost > 0.005 THEN workspace END,
        CASE WHEN anonymous > 0.02 THEN (%s::text[])[1 + (first_user + floor(users * who ^ 2)::int) %% people] END,
        CASE WHEN nth <= workflows OR unpublished > 0.06
            THEN 1 + versions * ((first_workflow + choice) %% published) + floor(versions * which)::int END,
        CASE WHEN nth <= workflows OR preview > 0.04 THEN 0 ELSE 1 END,
        jsonb_build_object('step', 20, 'steps', 20, 'output', repeat(md5(nth::text), 4)),
        used_at - interval '40 seconds',
        used_at
    FROM (
        SELECT
            drawn.*,
            CASE WHEN nth <= workflows THEN nth - 1 ELSE floor(workflows * popularity ^ 3)::int END AS choice,
            now() - idle - (1 - (nth - 0.5 * early) / runs) * (interval '400 days' - idle) AS used_at
        FROM (
            SELECT
                placed.*, nth, random() AS lost, random() AS anonymous, random() AS who, random() AS unpublished,
                random() AS which, random() AS preview, random() AS popularity, random() AS early
            FROM (
                SELECT shape.*, interval '300 days' * random() ^ 4 * 20 / (20 + runs) + interval '1 minute' AS idle,
                    %s::int AS versions, (SELECT count(*)::int FROM bots_publishedrun) AS published,
                    {people} AS people
                FROM shape
            ) AS placed CROSS JOIN LATERAL generate_series(1, runs) AS nth
        ) AS drawn
    ) AS placed
    ORDER BY used_at
""".replace("{people}", str(USERS))
