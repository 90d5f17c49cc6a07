"""The isolation level of new transactions, as the database gives it or as Django asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, connections
from django.db.backends.postgresql.psycopg_any import IsolationLevel


@contextmanager
def default_isolation(level: str) -> Iterator[None]:
    """Within, ``level`` is the database's default for every new connection, also for this thread's."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    _set(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    try:
        yield
    finally:
        _set(f"ALTER DATABASE {name} RESET default_transaction_isolation")


def _set(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


@contextmanager
def isolation_in_settings(level: IsolationLevel) -> Iterator[None]:
    """Within, the host's ``DATABASES`` ask for ``level`` in every new connection, also for this thread's."""
    options = connections.settings[connection.alias].setdefault("OPTIONS", {})
    assert "isolation_level" not in options
    options["isolation_level"] = level
    connection.close()
    try:
        yield
    finally:
        del options["isolation_level"]
        connection.close()
