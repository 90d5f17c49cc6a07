"""Transactions of whoever writes the table: their isolation, their limits, and what an error of theirs means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from django.db import DatabaseError, DataError, InterfaceError, connections, transaction

from workflows_tasks import conf
from workflows_tasks.errors import NothingCommits
from workflows_tasks.host import host
from workflows_tasks.sql import cursor

DB_ERRORS: Final = (DatabaseError, InterfaceError)
"""What Django raises for an error of the database or of the connection."""

NOT_A_REFUSAL: Final = ("08", "25", "40", "42", "53", "55", "57", "58")
"""Classes of SQLSTATE that say nothing about a value: connection, transaction, a column or a right that is missing, a
resource, a lock, an operator, the system."""

OURS: Final = {"row_security": "off", "datestyle": "ISO, YMD", "jit": "off"}
"""Settings of every transaction of ours. ``row_security``: a policy that hides runs would look like their deletion, so
it must be an error. ``datestyle``: keys must print alike for every role. ``jit``: our statements take less time than
their compilation."""

STATEMENT_TIMEOUT: Final = "57014"
LOCK_TIMEOUT: Final = "55P03"
DEADLOCK: Final = "40P01"
SERIALIZATION: Final = "40001"


@contextmanager
def read_committed(limits: Mapping[str, str]) -> Iterator[None]:
    """A transaction with a snapshot for each statement, whatever the host's default.

    Under REPEATABLE READ the only snapshot would be older than the shard's lock. The transaction must be the outermost
    one, because inside another its end would commit nothing.

    Args:
        limits: as ``limits`` returns them.

    Raises:
        RuntimeError: there is a transaction around this one (Django's test cases excepted).
        NothingCommits: the connection's autocommit is off, so the block's end would not be a commit.
    """
    connection = connections[host().database]
    if not connection.in_atomic_block and not connection.get_autocommit():
        raise NothingCommits(
            f"Autocommit is off for database {connection.alias!r}, so nothing would commit what a flush writes. "
            "Leave DATABASES[...]['AUTOCOMMIT'] and set_autocommit() alone where flushes run."
        )
    with transaction.atomic(using=connection.alias, durable=True), cursor() as db:
        if not connection.savepoint_ids:
            db.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        db.execute(*set_locally(limits))
        yield


def set_locally(settings: Mapping[str, str]) -> tuple[str, list[str]]:
    """The statement that gives a transaction its settings, ours included. Only one can be prepared."""
    all_settings = {**OURS, **settings}
    calls = ", ".join(["set_config(%s, %s, true)"] * len(all_settings))
    return f"SELECT {calls}", [part for setting in all_settings.items() for part in setting]


def limits(*, statement_s: float, lock_s: float, idle_s: float) -> dict[str, str]:
    """Limits of a transaction of ours, whatever the role's are.

    Args:
        statement_s: seconds after which a statement gives up.
        lock_s: seconds that it waits for a lock.
        idle_s: seconds after which the server ends the session of a process that stands still inside it.
    """
    seconds = {
        "statement_timeout": statement_s,
        "lock_timeout": lock_s,
        "idle_in_transaction_session_timeout": idle_s,
    }
    return {name: f"{max(round(limit * 1000), 1)}ms" for name, limit in seconds.items()}


def flush_limits() -> dict[str, str]:
    """Limits of a slice, as parts of the time that a flush has; and memory for a hash of all its keys, or PostgreSQL
    would compare each run with each key."""
    whole_s = conf.settings().flush_time_limit_s
    return limits(statement_s=whole_s / 2, lock_s=whole_s / 8, idle_s=whole_s / 2) | {"work_mem": "16MB"}


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's own error code: psycopg 3 calls it ``sqlstate``, psycopg 2 ``pgcode``."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def is_refusal(error: BaseException) -> bool:
    """Whether the database refused a value, so that a smaller part of what was asked may be accepted."""
    state = sqlstate(error)
    if state is None:
        return isinstance(error, DataError)
    return not state.startswith(NOT_A_REFUSAL)
