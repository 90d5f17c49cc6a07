"""Transactions of the table's writer: what they lock, how long they may take, and when they are tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from django.db import DataError, OperationalError, connections, transaction

from workflows_tasks import conf, events
from workflows_tasks.errors import NothingCommits
from workflows_tasks.host import host

LOCK_CLASS: Final = 0x52574654
"""First key of the shards' advisory locks; the second is the shard."""

TRANSIENT: Final = frozenset({"40001", "40P01", "55P03"})
"""SQLSTATEs worth another try: serialization failure, deadlock, lock timeout."""

STATEMENT_TIMEOUT: Final = "57014"
REFUSALS: Final = ("21", "22", "23", "54")
"""Classes of SQLSTATE that speak of values. Not 42: a column that is missing until a migration ran is nobody's id."""

ATTEMPTS: Final = 5

T = TypeVar("T")


@contextmanager
def locked(shard: int, *, statement: float = 1 / 6) -> Iterator[None]:
    """A transaction that holds the shard's lock: one writer per shard, until its commit."""
    with read_committed(*limits(statement=statement)):
        with cursor() as executing:
            # A statement of its own: the next one takes its snapshot after the lock is granted, and so sees all that
            # was committed by whoever held it before. Transaction-scoped, so it works behind a transaction pooler.
            executing.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, shard])
        yield


def limits(*, statement: float = 1 / 6) -> list[str]:
    """Limits of a transaction, as parts of the time a flush has. A stopped or hanging worker must not keep a lock: the
    server ends its session."""
    parts = {"lock_timeout": 1 / 8, "statement_timeout": statement, "idle_in_transaction_session_timeout": 1 / 2}
    whole_ms = conf.settings().flush_time_limit_s * 1000
    return [f"SET LOCAL {name} = {round(whole_ms * part)}" for name, part in parts.items()]


@contextmanager
def read_committed(*settings: str) -> Iterator[None]:
    """A transaction with a snapshot for each statement. A host may have made REPEATABLE READ its default, under which
    the only snapshot would be older than the lock.

    Durable: inside somebody else's transaction "committed" would not be true, and the claim is acknowledged for it.

    Raises:
        RuntimeError: there is a transaction around this one (Django's test cases excepted).
        NothingCommits: the connection's autocommit is off, so that the block's end would not be a commit.
    """
    connection = connections[host().database]
    if not connection.in_atomic_block and not connection.get_autocommit():
        raise NothingCommits(
            f"Autocommit is off for database {connection.alias!r}, so nothing would commit what a flush writes. "
            "Leave DATABASES[...]['AUTOCOMMIT'] and set_autocommit() alone where flushes run."
        )
    with transaction.atomic(using=connection.alias, durable=True), cursor() as executing:
        outermost = not connection.savepoint_ids
        isolation = ["SET TRANSACTION ISOLATION LEVEL READ COMMITTED"] if outermost else []
        if statements := [*isolation, *settings]:
            executing.execute("; ".join(statements))
        yield


@contextmanager
def cursor() -> Iterator[Any]:
    """A cursor on the host's database."""
    with connections[host().database].cursor() as cursor:
        yield cursor


def retried(shard: int, step: Callable[[], T], again: Callable[[], None] = lambda: None) -> T:
    """A transaction, tried again where it met another; ``again`` is called each time.

    Args:
        shard: for the log; -1 where history is filled, which locks none.

    Raises:
        django.db.DatabaseError: of the last of ``ATTEMPTS``, or at once what another attempt would not mend.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return step()
        except OperationalError as error:
            if attempt == ATTEMPTS or sqlstate(error) not in TRANSIENT:
                raise
            again()
            events.retrying(error, shard=shard, attempt=attempt)
            time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  # jitter, so that two do not meet again
    raise AssertionError("unreachable")


def is_refusal(error: BaseException) -> bool:
    """True if the database refused what it was asked, so that a smaller part of it may be accepted.

    A statement timeout counts: one key may take too long. A lost connection, a full disk, a shutdown do not.
    """
    state = sqlstate(error) or ""
    return state == STATEMENT_TIMEOUT or state.startswith(REFUSALS) or isinstance(error, DataError)


def sqlstate(error: BaseException) -> str | None:
    """The database's own error class: psycopg 3 calls it ``sqlstate``, psycopg 2 ``pgcode``."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
