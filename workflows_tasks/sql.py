"""SQL with its parameters, and its execution on the host's database.

Keys travel as text (``keys``) and are cast back in the statement. Moments travel as text too, because PostgreSQL stores
moments that Python cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connections

from workflows_tasks.host import host


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL with its parameters, so that the two are never put in order by hand."""

    text: str
    params: tuple[Any, ...] = ()

    def __add__(self, other: Sql | str) -> Sql:
        return join("", (self, other))

    def __radd__(self, other: str) -> Sql:
        return join("", (other, self))


def join(separator: str, parts: Iterable[Sql | str]) -> Sql:
    """Pieces one after the other."""
    pieces = [part if isinstance(part, Sql) else Sql(part) for part in parts]
    return Sql(separator.join(each.text for each in pieces), tuple(value for each in pieces for value in each.params))


def literal(statement: Sql) -> str:
    """The statement with its parameters written into it, since the body of a function cannot have any."""
    operations: Any = connections[host().database].ops
    return str(operations.compose_sql(statement.text, statement.params))


def value(parameter: Any, kind: str = "text") -> Sql:
    """A parameter, cast to a type."""
    return Sql(f"%s::{kind}", (parameter,))


def keys(texts: Iterable[str | None], kind: str = "text") -> Sql:
    """An array of keys, from their texts. It is composed here: a driver takes ten times as long for thousands."""
    elements = (
        "NULL" if each is None else '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in texts
    )
    return Sql("%s::text[]" + f"::{kind}[]" * (kind != "text"), ("{" + ",".join(elements) + "}",))


def rows(statement: Sql) -> list[Any]:
    """Execute a statement; returns its rows."""
    with cursor() as db:
        db.execute(statement.text, statement.params or None)
        return list(db.fetchall()) if db.description else []


def execute(statement: Sql) -> int:
    """Execute a statement; returns how many rows it wrote."""
    with cursor() as db:
        db.execute(statement.text, statement.params or None)
        return int(db.rowcount)


@contextmanager
def cursor() -> Iterator[Any]:
    """A cursor on the host's database."""
    with connections[host().database].cursor() as db:
        yield db


def quoted(name: str) -> str:
    """A table's or column's name, as Django quotes it."""
    return str(connections[host().database].ops.quote_name(name))
