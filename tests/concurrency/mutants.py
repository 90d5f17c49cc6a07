"""The package with one mechanism taken out, by the mutation's name: each must make tests fail.

Each mutation replaces functions of the package, or words of its SQL; it refuses to be applied where those words are not
found, so that none becomes a no-op when the package changes.
"""

# They put other functions in place of the package's on purpose, and reach into what it imports.
# mypy: disable-error-code="assignment, attr-defined"

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import getsource
from typing import Any, Final, NamedTuple

from django.db import connection, transaction

from workflows_tasks import history
from workflows_tasks.capture import installation, triggers
from workflows_tasks.comparison import compare
from workflows_tasks.host import host
from workflows_tasks.models import CHANGES, Shard
from workflows_tasks.projection import changes, flush, scopes, transactions, writer
from workflows_tasks.projection.changes import Scope
from workflows_tasks.projection.flush import Flushed
from workflows_tasks.projection.sql import Range, Sql, compose, cursor, rows

CHANGED: Final = [changes, compare, flush, history, scopes, transactions, triggers, writer]
"""Modules in which mutations replace something."""

AS_READ_IN_CTE: Final = (
    r"WHERE \(stored\.last_used_at, stored\.last_run_id\)"
    r"\s+= \(given\.was_used_at::timestamptz, given\.was_run::[^)]+\)"
)
AS_READ: Final = r"AND \(stored\.last_used_at, stored\.last_run_id\)\s+= \(locked\.was_used_at, locked\.was_run\)"
ONLY_UPWARDS: Final = (
    r"WHERE \(excluded\.last_used_at, excluded\.last_run_id\)\s+> \(stored\.last_used_at, stored\.last_run_id\)"
)
OLD_WORKSPACE: Final = "IF was[2] IS NOT NULL AND was[1:2] IS DISTINCT FROM now_is[1:2] THEN"
EVENTS: Final = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


class Mutant(NamedTuple):
    """A mutation: what it takes out, in a few words, and how."""

    takes_out: str
    apply: Callable[[], None]
    alters_database: bool = False


def apply(name: str) -> Callable[[], None]:
    """Take the mechanism that ``name`` names out of the package; what is returned puts it back."""
    before = [(place, dict(vars(place))) for place in CHANGED]
    mutant = find(name)
    bodies = _bodies()
    mutant.apply()
    replaced = [
        (place, key, old) for place, was in before for key, old in was.items() if vars(place).get(key) is not old
    ]
    assert replaced or mutant.alters_database, f"{name} replaces nothing"
    if any(place is triggers for place, *_ in replaced):
        assert _bodies() != bodies, f"{name} changes no trigger"
        _create_functions()

    def undo() -> None:
        for place, key, old in replaced:
            setattr(place, key, old)
        _create_functions()
        if mutant.alters_database:
            _default_key("gen_random_uuid()")

    return undo


def find(name: str) -> Mutant:
    """The mutation of that name. ``uncaptured TABLE EVENT`` names one for each table and event."""
    if name.startswith(UNCAPTURED):
        _, table, event = name.split()
        return Mutant(f"the trigger of {table} for {event}", lambda: _uncaptured(table, event))
    return MUTANTS[name]


UNCAPTURED: Final = "uncaptured "


def uncaptured() -> list[str]:
    """A mutation for each table of the host and each event."""
    return [f"{UNCAPTURED}{table.name} {event}" for table in triggers.tables(host()) for event in EVENTS]


def _bodies() -> list[str]:
    where = installation.names()
    assert where is not None
    return [body for table in triggers.tables(host()) for body in triggers.functions(table, where).values()]


def _create_functions() -> None:
    where = installation.names()
    assert where is not None
    with connection.cursor() as executing:
        for table in triggers.tables(host()):
            for name, body in triggers.functions(table, where).items():
                executing.execute(triggers.create_function(name, body))


# Flushes


def _no_lock() -> None:
    made = flush._lock

    def unlocked(shard: int) -> Sql:
        statement, lock = made(shard), "FOR UPDATE OF shard SKIP LOCKED"
        assert lock in statement.text
        return Sql(statement.text.replace(lock, ""), statement.params)

    flush._lock = unlocked


def _merged_lock() -> None:
    """The lock is taken by the statement that reads what to write, whose snapshot is then older than the lock."""
    _no_lock()
    made = flush._concerned

    def merged(shard: int, runs: Sequence[str]) -> Sql:
        statement, table = made(shard, runs), Shard._meta.db_table
        begin = "WITH candidate AS MATERIALIZED ("
        assert begin in statement.text
        held = f'WITH held AS MATERIALIZED (SELECT FROM "{table}" WHERE number = {shard} FOR UPDATE), '
        text = statement.text.replace(begin, held + begin.removeprefix("WITH "), 1)
        end = "FROM decided\n"
        assert end in text
        return Sql(text.replace(end, "FROM decided CROSS JOIN (SELECT count(*) FROM held) AS held\n"), statement.params)

    flush._concerned = merged


def _as_the_database_likes() -> None:
    @contextmanager
    def with_any_isolation(limits: Mapping[str, str]) -> Iterator[None]:
        with transaction.atomic(using=host().database, durable=True), cursor() as executing:
            executing.execute(*transactions.set_locally(limits))
            yield

    transactions.read_committed = with_any_isolation


def _forget_instead(condition: str) -> Callable[[], None]:
    def apply() -> None:
        real = changes.forget

        def forget_more(ids: Sequence[str]) -> int:
            if ids:
                with cursor() as executing:
                    executing.execute(
                        f"DELETE FROM {CHANGES} WHERE run IS NOT NULL AND {condition}", {"ids": list(ids)}
                    )
            return real(ids)

        changes.forget = forget_more

    return apply


OF_TAKEN: Final = f"FROM {CHANGES} WHERE id = ANY(%(ids)s::uuid[])"


def _forget_unfinished() -> None:
    flush._runs_of = lambda *_: set()


def _forget_first() -> None:
    """The taken changes are forgotten and committed, and then written."""

    def forget_first(shard: int, total: Flushed, _: float) -> bool:
        with flush._slice(shard) as current:
            taken = changes.take_runs(shard)
            current.finish(taken, [change for each in taken for change in each.ids], {})
        if taken:
            with flush._slice(shard):
                writes, _unfinished = flush._decide(shard, [each.run for each in taken])
                writer.write(writes)
        total.changes += len(taken)
        return bool(taken)

    flush._flush_runs = forget_first


# Scopes


def _scope_not_logged() -> None:
    real = scopes.resolve

    def forgotten(shard: int, scope: Scope) -> int:
        with _replaced(changes, "log_selected", lambda _: 0):
            return real(shard, scope)

    scopes.resolve = forgotten


def _parts_not_logged() -> None:
    real = changes.log_scopes
    changes.log_scopes = lambda shard, parts: real(shard, list(parts)[:1])


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    real = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, real)


# What is written


def _reworded(*changed: tuple[str, str]) -> Callable[[], None]:
    """Change words of the statements of ``writer`` that have all of them; each is a regular expression."""

    def apply() -> None:
        real = writer.rows
        for old, _ in changed:
            assert re.search(old, getsource(writer)), f"no statement says {old!r}"

        def rows_reworded(statement: Sql) -> list[Any]:
            text = statement.text
            if all(re.search(old, text) for old, _ in changed):
                for old, new in changed:
                    text = re.sub(old, new, text)
            return list(real(Sql(text, statement.params)))

        writer.rows = rows_reworded

    return apply


def _kinds_apart() -> None:
    """All advances are written before all recomputes."""
    real = writer.write
    writer.write = lambda writes: real(sorted(writes, key=lambda each: each.kind))


# Fills


def _look_over_written_rows() -> None:
    """The look is over the rows that this process's last fill wrote."""
    real_fill, real_look = history.fill, history.recheck_filled
    written: list[Any] = []
    stored = "SELECT id, last_run_id FROM {table}"

    def fill(among: Range, **options: Any) -> int:
        before = {tuple(row) for row in rows(compose(stored))}
        done = real_fill(among, **options)
        written[:] = [row for row in map(tuple, rows(compose(stored))) if row not in before]
        return done

    def look(among: Range) -> int:
        return real_look(among) if written else 0

    history.fill, history.recheck_filled = fill, look


def _no_look() -> None:
    history.recheck_filled = lambda _: 0


# Comparing


def _not_locked_first() -> None:
    @contextmanager
    def unlocked(**_: Any) -> Iterator[None]:
        with transaction.atomic(using=host().database), cursor() as executing:
            if not connection.savepoint_ids:
                executing.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield

    compare.snapshot = unlocked


# Capture


def _body(change: Callable[[str], str]) -> Callable[[], None]:
    def apply() -> None:
        real = triggers.row_body
        triggers.row_body = lambda *args: change(real(*args))

    return apply


def _without_duplicates(body: str) -> str:
    known = r"VALUES \((.*), (now_is|was)\[2\], (?:now_is|was)\[1\]\);"
    return re.sub(
        known,
        rf"SELECT \1, \2[2], \2[1] WHERE NOT EXISTS (SELECT FROM public.{CHANGES} AS present"
        r" WHERE present.workspace = \2[2] AND present.run = \2[1]);",
        body,
    )


def _one_shard() -> None:
    real = triggers._for_every_shard
    triggers._for_every_shard = lambda *args: re.sub(r"generate_series\(0, \d+\)", "generate_series(0, 0)", real(*args))


def _not_asked() -> None:
    triggers._is_ready = lambda _: "true"


def _trusts_an_old_snapshot() -> None:
    real = triggers.truncate_body
    triggers.truncate_body = lambda *args: real(*args).replace(
        "current_setting('transaction_isolation') = 'read committed'", "true"
    )


def _uncaptured(table: str, event: str) -> None:
    row_body, truncate_body = triggers.row_body, triggers.truncate_body

    def without(real: Callable[..., str]) -> Callable[..., str]:
        def body(of: triggers.Table, *args: Any) -> str:
            begin = "BEGIN\n"
            made = real(of, *args)
            return (
                made.replace(begin, f"{begin}IF TG_OP = '{event}' THEN RETURN NULL; END IF;\n", 1)
                if of.name == table
                else made
            )

        return body

    triggers.row_body, triggers.truncate_body = without(row_body), without(truncate_body)


def _counted_keys() -> None:
    """The log's key is a number from a sequence, which begins anew where only data was restored."""
    with connection.cursor() as executing:
        executing.execute(
            f"CREATE SEQUENCE IF NOT EXISTS counted OWNED BY {CHANGES}.id; ALTER SEQUENCE counted RESTART"
        )
    _default_key("lpad(nextval('public.counted')::text, 32, '0')::uuid")


def _default_key(expression: str) -> None:
    with connection.cursor() as executing:
        executing.execute(f"ALTER TABLE {CHANGES} ALTER COLUMN id SET DEFAULT {expression}")


MUTANTS: Final[dict[str, Mutant]] = {
    "no-lock": Mutant("the shard's lock", _no_lock),
    "merged-lock": Mutant("the lock's own statement: it is taken in the one that reads", _merged_lock),
    "any-isolation": Mutant("READ COMMITTED where the database has another default", _as_the_database_likes),
    "forget-all": Mutant(
        "that only taken changes are forgotten: all of the shard are",
        _forget_instead(f"shard IN (SELECT shard {OF_TAKEN})"),
    ),
    "forget-by-workspace": Mutant(
        "that changes are forgotten by id: those of the workspace are",
        _forget_instead(f"workspace IN (SELECT workspace {OF_TAKEN})"),
    ),
    "forget-by-run": Mutant(
        "that changes are forgotten by id: those of the run are",
        _forget_instead(f"(workspace, run) IN (SELECT workspace, run {OF_TAKEN})"),
    ),
    "forget-unfinished": Mutant("that a full slice keeps what it did not finish", _forget_unfinished),
    "forget-first": Mutant("that changes are forgotten with the write: they are before it", _forget_first),
    "scope-not-logged": Mutant("that a scope is replaced by what it names, before it is forgotten", _scope_not_logged),
    "parts-not-logged": Mutant("that a split scope is replaced by all of its parts", _parts_not_logged),
    "no-condition": Mutant(
        "that a row is recomputed only as it was read", _reworded((AS_READ_IN_CTE, ""), (AS_READ, ""))
    ),
    "condition-in-cte": Mutant(
        "that this condition is on the row itself: it is in a CTE alone",
        _reworded(("FOR UPDATE OF stored", ""), (AS_READ, "")),
    ),
    "blind-upsert": Mutant("that an upsert writes only upwards", _reworded((ONLY_UPWARDS, ""))),
    "unsorted-advance": Mutant("an advance's key order", _reworded(("ORDER BY position", "ORDER BY position DESC"))),
    "kinds-apart": Mutant("that advances and recomputes are in one order", _kinds_apart),
    "unsorted-recompute": Mutant(
        "a recompute's key order", _reworded((r"ORDER BY given\.position", "ORDER BY given.position DESC"))
    ),
    "unsorted-fill": Mutant(
        "a fill's key order",
        _reworded(
            (
                r"ORDER BY newest\.workspace, newest\.uid, newest\.workflow",
                "ORDER BY newest.workspace DESC, newest.uid DESC, newest.workflow DESC",
            )
        ),
    ),
    "no-look": Mutant("the look over a chunk's rows before it is closed", _no_look),
    "look-over-written": Mutant(
        "that this look is over all rows: it is over those that were written", _look_over_written_rows
    ),
    "not-locked-first": Mutant("that a comparison locks the host's tables first", _not_locked_first),
    "no-old-workspace": Mutant(
        "the change for a run's old workspace",
        _body(lambda body: body.replace(OLD_WORKSPACE, "IF now_is IS NULL AND was[2] IS NOT NULL THEN")),
    ),
    "one-shard": Mutant("that a scope is written for every shard: it is for one", _one_shard),
    "without-duplicates": Mutant("that a change is written even if an equal one is there", _body(_without_duplicates)),
    "truncate-trusts-snapshot": Mutant(
        "that a TRUNCATE in a transaction with one snapshot always leaves a scope", _trusts_an_old_snapshot
    ),
    "log-not-asked": Mutant("that a trigger asks for the log and its rights first", _not_asked),
    "counted-keys": Mutant("the log's random key: it is counted by a sequence", _counted_keys, alters_database=True),
}
"""Mutations by name."""
