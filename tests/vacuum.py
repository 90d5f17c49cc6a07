"""VACUUM that has done its work on return."""

from __future__ import annotations

from django.db import connection
from django.db.models import Model

from tests.waiting import until


def vacuum(*models: type[Model]) -> None:
    """VACUUM and ANALYZE tables until all of their pages are marked as visible to everybody, which index-only scans
    need. The first time may not do: as long as somebody has an older snapshot, such as autovacuum while it analyzes
    another table, rows that are newer cannot be marked. Nor can a page with a dead row, which by itself VACUUM leaves
    to the indexes where there are few of them."""
    tables = [model._meta.db_table for model in models]

    def done() -> bool:
        """All pages are marked."""
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM (ANALYZE, INDEX_CLEANUP ON) {', '.join(map(connection.ops.quote_name, tables))}")
            cursor.execute(
                "SELECT bool_and(relallvisible = relpages) FROM pg_class WHERE oid = ANY(%s::regclass[])", [tables]
            )
            return bool(cursor.fetchone()[0])

    until(done, within_s=30)
