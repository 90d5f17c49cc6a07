"""Find statements of ours that no index of the host serves. Each would read all runs, again and again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from django.db.models import Q
from django.db.models.constants import LOOKUP_SEP
from django.db.models.lookups import Exact

from workflows_tasks import conf
from workflows_tasks.host import Host
from workflows_tasks.projection import scopes
from workflows_tasks.sql import Sql, quoted, rows

PARTITIONED: Final = "p"


class Need(NamedTuple):
    """An index that a statement of ours needs."""

    statement: str
    """What the statement is for."""
    fields: list[Any]
    """The statement says what the first are equal to, and takes rows in the order of the last, newest first. One field
    alone is an equality. An index may leave out those between the first and the last."""

    @property
    def model(self) -> Any:
        return self.fields[0].model

    @property
    def names(self) -> list[str]:
        """As ``models.Index`` takes them."""
        *equal, last = (field.name for field in self.fields)
        return [*equal, f"-{last}"] if equal else [last]

    @property
    def columns(self) -> list[str]:
        return [field.column for field in self.fields]

    def is_served(self, index: list[str]) -> bool:
        """Whether an index of these columns serves it."""
        first, *others = self.columns
        if not others:
            return index[:1] == [first]
        before = set(index[: index.index(others[-1])]) if others[-1] in index else set()
        return first in before and before <= {first, *others}

    def create(self, *, is_partitioned: bool) -> str:
        """The statement that makes it without stopping writers."""
        table = quoted(self.model._meta.db_table)
        *equal, last = map(quoted, self.columns)
        columns = ", ".join([*equal, f"{last} DESC"] if equal else [last])
        if not is_partitioned:
            return f"CREATE INDEX CONCURRENTLY ON {table} ({columns});"
        name = quoted("_".join((self.model._meta.db_table[:20], *self.columns))[:60])
        return (
            f"CREATE INDEX {name} ON ONLY {table} ({columns}); then for each partition CREATE INDEX CONCURRENTLY ON "
            f"partition ({columns}); and ALTER INDEX {name} ATTACH PARTITION its index; (CONCURRENTLY is not for a "
            f"partitioned table itself)"
        )


def missing(host: Host) -> Iterator[tuple[Need, str]]:
    """Needs that no index serves, each with the statement that makes it. Tables that are not there need nothing."""
    by_columns: dict[Any, Need] = {}
    for need in _needs(host):
        by_columns.setdefault((need.model, *need.columns), need)
    for need in by_columns.values():
        kind, served = _catalogue(need)
        if kind is not None and not served:
            yield need, need.create(is_partitioned=kind == PARTITIONED)


def _needs(host: Host) -> Iterator[Need]:
    workspace, user, used_at = host.workspace, host.user, host.used_at
    equal = [field for field in _equalities(host) if field.model is workspace.model]
    wanted = {
        conf.WORKSPACE: ("the search for the newest run of a workspace", [workspace, *equal, used_at]),
        conf.USER: ("the search for the newest run of a user", [user, workspace, *equal, used_at]),
    }
    yield Need("comparing the table with a workspace's runs", [workspace])
    for grain in conf.settings().grains:
        statement, fields = wanted[grain]
        # The columns of a multi-table model are in several tables, and no index has them together.
        yield Need(statement, fields if used_at.model is fields[0].model else fields[:1])
    for lookup in scopes.lookups():
        for field in _hops(host, lookup):
            yield Need(f"finding the runs of a changed {lookup.replace(LOOKUP_SEP, '.')}", [field])


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
    """The kind of the table, None if it is missing; and whether one of its valid indexes serves the need.

    A partial index counts for a need with an order: its condition is assumed to fit ``RUN_FILTER``. For an equality
    alone it counts only if it leaves out nothing but nulls.
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
    for relkind, columns, predicate, method in rows(Sql(statement, (quoted(need.model._meta.db_table),))):
        kind, index = relkind, json.loads(columns)
        is_ordered = len(need.fields) > 1
        is_whole = is_ordered or not predicate or predicate == f"({index[0]} IS NOT NULL)"
        methods = {"btree"} if is_ordered else {"btree", "hash"}
        served = served or (method in methods and is_whole and need.is_served(index))
    return kind, served
