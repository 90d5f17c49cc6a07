"""Which of our statements no index of the host's serves. Without one, they read all runs, again and again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q
from django.db.models.constants import LOOKUP_SEP
from django.db.models.lookups import Exact

from workflows_tasks import conf
from workflows_tasks.host import Host
from workflows_tasks.projection import scopes
from workflows_tasks.projection.sql import Sql, quoted, rows

PARTITIONED: Final = "p"


@dataclass(frozen=True, slots=True)
class Need:
    """An index that a statement of ours needs."""

    statement: str
    """What the statement is for."""
    model: str
    table: str
    fields: tuple[str, ...]
    """As ``models.Index`` takes them."""
    columns: tuple[str, ...]
    free: frozenset[str] = frozenset()
    """Columns that may stand among the first, because the statement says what they are equal to."""
    is_partitioned: bool = False

    @property
    def create(self) -> str:
        """The statement that makes it without stopping writers."""
        table = quoted(self.table)
        columns = ", ".join(
            quoted(column) + (" DESC" if field.startswith("-") else "")
            for column, field in zip(self.columns, self.fields, strict=True)
        )
        if not self.is_partitioned:
            return f"CREATE INDEX CONCURRENTLY ON {table} ({columns});"
        name = quoted("_".join((self.table[:20], *self.columns))[:60])
        return (
            f"CREATE INDEX {name} ON ONLY {table} ({columns}); then for each partition CREATE INDEX CONCURRENTLY ON "
            f"partition ({columns}); and ALTER INDEX {name} ATTACH PARTITION its index; (CONCURRENTLY is not for a "
            f"partitioned table itself)"
        )

    def is_served(self, index: tuple[str, ...]) -> bool:
        """Whether an index of these columns serves it.

        The statement says what the first columns are equal to, and takes the rows in the order of the last. One column
        alone is an equality.
        """
        if len(self.columns) == 1:
            return index[:1] == self.columns
        *equal, last = self.columns
        if last not in index:
            return False
        before = set(index[: index.index(last)])
        return equal[0] in before and before <= {*equal, *self.free}


def missing(host: Host) -> Iterator[Need]:
    """Needs that no index serves. Tables that are not there yet need nothing."""
    by_columns = {(need.table, need.columns): need for need in reversed(list(_needs(host)))}  # the first of each
    for need in reversed(by_columns.values()):
        kind, served = _catalogue(need)
        if kind is not None and not served:
            yield _partitioned(need) if kind == PARTITIONED else need


def _partitioned(need: Need) -> Need:
    return Need(need.statement, need.model, need.table, need.fields, need.columns, need.free, is_partitioned=True)


def _needs(host: Host) -> Iterator[Need]:
    workspace, user, used_at = host.workspace, host.user, host.used_at
    equal = [field for field in _equalities(host) if field.model is workspace.model]
    grains = conf.settings().grains
    wanted = {
        conf.WORKSPACE: ("the search for the newest run of a workspace", [workspace, *equal, used_at]),
        conf.USER: ("the search for the newest run of a user", [user, workspace, *equal, used_at]),
    }
    yield _need("comparing the table with a workspace's runs", [workspace])
    for grain in grains:
        statement, fields = wanted[grain]
        # The columns of a multi-table model are in several tables, and no index has them together.
        yield _need(statement, fields if used_at.model is fields[0].model else fields[:1])
    for lookup in scopes.lookups():
        for field in _hops(host, lookup):
            yield _need(f"finding the runs of a changed {lookup.replace(LOOKUP_SEP, '.')}", [field])


def _need(statement: str, fields: list[Any]) -> Need:
    """The last of several fields is a moment, the newest first. Those between it and the first may be left out."""
    model = fields[0].model
    names = [field.name for field in fields]
    if len(fields) > 1:
        names[-1] = f"-{names[-1]}"
    columns = tuple(str(field.column) for field in fields)
    return Need(
        statement, model._meta.label, str(model._meta.db_table), tuple(names), columns, frozenset(columns[1:-1])
    )


def _hops(host: Host, lookup: str) -> Iterator[Any]:
    """The foreign keys that a lookup follows, backwards from its key to the runs."""
    model: Any = host.run
    for name in lookup.split(LOOKUP_SEP):
        field = model._meta.get_field(name)
        yield field
        model = field.related_model


def _equalities(host: Host) -> Iterator[Any]:
    """Fields of the run that ``RUN_FILTER`` says the value of."""
    q = host.run_filter
    if q.connector != Q.AND or q.negated:
        return
    for child in q.children:
        if isinstance(child, tuple):
            name = str(child[0]).removesuffix(f"{LOOKUP_SEP}{Exact.lookup_name}")
            yield from (field for field in host.run._meta.concrete_fields if name in {field.name, field.attname})


def _catalogue(need: Need) -> tuple[str | None, bool]:
    """The kind of the table, None if it is missing; and whether one of its indexes serves the need.

    A partial index serves what has an order, since the host made it for such pages; for an equality alone only if all
    it leaves out is null.
    """
    statement = """
        SELECT c.relkind::text, (
            SELECT coalesce(json_agg(coalesce(attname, '') ORDER BY place), '[]')::text
            FROM unnest(i.indkey::int[]) WITH ORDINALITY AS part(number, place)
            LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = part.number AND part.number > 0
            WHERE place <= i.indnkeyatts
        ), coalesce(pg_get_expr(i.indpred, c.oid), ''), am.amname
        FROM pg_class c LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid
        LEFT JOIN pg_class ic ON ic.oid = i.indexrelid LEFT JOIN pg_am am ON am.oid = ic.relam
        WHERE c.oid = to_regclass(%s)
    """
    kind, served = None, False
    for relkind, columns, predicate, method in rows(Sql(statement, (quoted(need.table),))):
        kind = relkind
        index = tuple(json.loads(columns))
        is_whole = not predicate or predicate == f"({index[0]} IS NOT NULL)"
        if len(need.columns) > 1:
            served = served or (method == "btree" and need.is_served(index))
        else:
            served = served or (method in {"btree", "hash"} and is_whole and need.is_served(index))
    return kind, served
