"""Sessions of PostgreSQL beside Django's own: another connection, another role, a program that knows no Django."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from django.db import connection

from tests.programs import postgresql

NO_LIBPQ_SETTINGS = {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def execute(statement: str, params: Sequence[Any] | None = None) -> int:
    """Execute a statement on Django's connection; returns the number of rows it concerned."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return int(cursor.rowcount)


def query(statement: str, params: Sequence[Any] | None = None) -> list[Any]:
    """Rows of a query on Django's connection."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


def counted(columns: str, table: str) -> tuple[int, ...]:
    """What the server has counted of a table until now: columns of ``pg_stat_user_tables``."""
    query("SELECT pg_stat_force_next_flush()")
    execute("SELECT 1")
    (counts,) = query(f"SELECT {columns} FROM pg_stat_user_tables WHERE relname = %s", [table])
    return tuple(map(int, counts))


@contextmanager
def session() -> Iterator[Any]:
    """A cursor of a connection of its own, in autocommit."""
    other: Any = connection.copy()
    other.connect()
    try:
        with other.cursor() as cursor:
            yield cursor
    finally:
        other.connection.close()


@contextmanager
def locked(statement: str, *params: Any) -> Iterator[None]:
    """Another connection's open transaction holds what ``statement`` locks, until the block ends."""
    with session() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(statement, params)
        yield
        cursor.execute("ROLLBACK")


@contextmanager
def driver(dsn: str = "", **parameters: Any) -> Iterator[Any]:
    """A cursor of the driver that Django uses here, psycopg or psycopg2, in autocommit; needs no settings."""
    from django.db.backends.postgresql import base

    of_base: Any = base
    other = of_base.Database.connect(dsn, **parameters)
    try:
        other.autocommit = True
        with other.cursor() as cursor:
            yield cursor
    finally:
        other.close()


def url(user: str | None = None) -> str:
    """Address of the test database, for programs."""
    given = connection.settings_dict
    name = quote(user or str(given["USER"]))
    password = f":{quote(str(given['PASSWORD']))}" if given["PASSWORD"] and not user else ""
    return f"postgresql://{name}{password}@{given['HOST']}:{given['PORT']}/{given['NAME']}"


def psql(script: str, *, user: str | None = None) -> str:
    """Have PostgreSQL's own client execute a script; returns what it printed, warnings too.

    Raises:
        AssertionError: a statement failed.
    """
    return program("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url(user), stdin=script)


def program(name: str, *arguments: str, stdin: str = "") -> str:
    """Run one of PostgreSQL's programs; returns what it printed, errors too."""
    done = subprocess.run(
        [postgresql(name), *arguments], input=stdin, env=NO_LIBPQ_SETTINGS, text=True, timeout=30, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@contextmanager
def role(*grants: str) -> Iterator[str]:
    """The name of a role that may log in and has been granted this much: ``SELECT ON some_table``."""
    name = f"role_{uuid.uuid4().hex}"
    execute(f"CREATE ROLE {name} LOGIN")
    try:
        for grant in grants:
            execute(f"GRANT {grant} TO {name}")
        yield name
    finally:
        execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
        execute(f"DROP OWNED BY {name}")
        execute(f"DROP ROLE {name}")
