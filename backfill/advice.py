"""Which index on the host's runs would help a backfill, and what it would cost. Asked of the catalogue, never made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db import connections
from django.db.models import Field

from backfill import sql
from workflows_tasks import truth
from workflows_tasks.filters import fields_read
from workflows_tasks.host import host
from workflows_tasks.sql.fragments import EVERYWHERE

NAME: Final = "recent_workflows_history"

TUPLE_BYTES: Final = 8 + 4
"""Header and line pointer of an index entry."""

FILL_FACTOR: Final = 0.9


@dataclass(frozen=True, slots=True)
class Advice:
    """How the runs are read, and what would be better."""

    reads_by: str
    """What PostgreSQL would do to count the runs: ``Seq Scan``, ``Index Only Scan`` …"""

    is_led_by_workspace: bool
    """An index begins with the workspace. Without one each transaction reads the whole table."""

    index: str
    """Statement that makes the index under which both counting and filling read it alone; empty if there is one."""

    index_bytes: int
    """About how large it would be."""

    elsewhere: list[str]
    """Columns that are needed and in another table, so that no index can have them."""

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def advise() -> Advice:
    """Look at the run's table, its indexes and statistics."""
    needed = list(_needed())
    table = host().workspace.model._meta.db_table
    keys = [_column(host().workspace), _column(_own_key())]
    here = [field for field in needed if field.model._meta.db_table == table]
    included = [column for column in dict.fromkeys(map(_column, here)) if column not in keys]
    indexes = _indexes(table)
    covered = any(columns[:2] == keys and {*keys, *included} <= set(columns) for columns in indexes)
    return Advice(
        reads_by=_reads_by(),
        is_led_by_workspace=any(columns[0] == keys[0] for columns in indexes if columns),
        index="" if covered else _statement(table, keys, included),
        index_bytes=0 if covered else _bytes(table, [*keys, *included]),
        elsewhere=sorted({f"{f.model._meta.db_table}.{f.column}" for f in needed if f not in here}),
    )


def _needed() -> Iterator[Field[Any, Any]]:
    """The run's own fields that history reads."""
    found = host()
    yield from (found.workspace, found.user, found.path[0], found.used_at)
    for q in (found.run_filter, found.backfill_filter):
        for name in sorted(fields_read(q) or ()):
            field: Any = found.run._meta.pk if name == "pk" else found.run._meta.get_field(name)
            if getattr(field, "column", None):
                yield field


def _own_key() -> Any:
    return host().run._meta.pk


def _column(field: Any) -> str:
    return str(field.column)


def _indexes(table: str) -> list[list[str]]:
    """The columns of each valid index without a condition, those of INCLUDE last."""
    statement = """
        SELECT array_agg(attname::text ORDER BY position)
        FROM pg_index
        CROSS JOIN LATERAL unnest(indkey::int2[]) WITH ORDINALITY AS part(attnum, position)
        JOIN pg_attribute ON attrelid = indrelid AND pg_attribute.attnum = part.attnum
        WHERE indrelid = %s::regclass AND indpred IS NULL AND indisvalid
        GROUP BY indexrelid
    """
    return [columns for (columns,) in truth.rows((statement, [_quoted(table)]))]


def _statement(table: str, keys: list[str], included: list[str]) -> str:
    of_keys, of_included = (", ".join(map(_quoted, columns)) for columns in (keys, included))
    return f"CREATE INDEX CONCURRENTLY {NAME} ON {_quoted(table)} ({of_keys}) INCLUDE ({of_included})"


def _bytes(table: str, columns: list[str]) -> int:
    statement = """
        SELECT (SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = %s::regclass),
               (SELECT coalesce(sum(avg_width), 0) FROM pg_stats
                WHERE schemaname = ANY(current_schemas(false)) AND tablename = %s AND attname = ANY(%s))
    """
    ((runs, width),) = truth.rows((statement, [_quoted(table), table, columns]))
    aligned = -(-(int(width) or 8 * len(columns)) // 8) * 8
    return round(float(runs) * (aligned + TUPLE_BYTES) / FILL_FACTOR)


def _reads_by() -> str:
    """The scan of the run's table in the plan of the count."""
    statement, params = sql.weigh(EVERYWHERE, 1)
    ((found,),) = truth.rows((f"EXPLAIN (FORMAT JSON) {statement}", params))
    plan = json.loads(found) if isinstance(found, str) else found
    table = host().workspace.model._meta.db_table
    scans = [node["Node Type"] for node in _nodes(plan[0]["Plan"]) if node.get("Relation Name") == table]
    return ", ".join(dict.fromkeys(scans))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


def _quoted(name: str) -> str:
    return connections[host().database].ops.quote_name(name)
