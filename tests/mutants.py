"""Mutations: the package with one mechanism taken out. The tests named for a mutation must fail under it.

``conftest.py`` runs a copy of each such test under the mutation, beside the test itself: ``pytest tests -m under`` runs
these copies alone. A mutation replaces functions of the package, or words of its SQL. It refuses to be applied where
those words are not found, so that none becomes a no-op when the package changes.
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
from workflows_tasks.capture import catalogue, tables, triggers
from workflows_tasks.comparison import compare
from workflows_tasks.host import host
from workflows_tasks.models import CHANGES, Shard
from workflows_tasks.projection import changes, decisions, flush, scopes, slices, transactions, writer
from workflows_tasks.projection.changes import Scope
from workflows_tasks.projection.flush import Flushed
from workflows_tasks.projection.fragments import compose
from workflows_tasks.projection.ranges import Range
from workflows_tasks.sql import Sql, cursor, rows

CHANGED: Final = [changes, compare, decisions, flush, history, scopes, slices, transactions, triggers, writer]
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


class Mutant(NamedTuple):
    """A mutation: what it takes out in a few words, how, and the tests that notice, by their names below ``tests/``."""

    takes_out: str
    apply: Callable[[], None]
    tests: Sequence[str]
    alters_database: bool = False


def apply(name: str) -> Callable[[], None]:
    """Take the mechanism that ``name`` names out of the package; what is returned puts it back."""
    before = [(place, dict(vars(place))) for place in CHANGED]
    mutant = MUTANTS[name]
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


def _bodies() -> list[str]:
    where = catalogue.names()
    assert where is not None
    return [body for table in tables.tables(host()) for body in triggers.functions(table, where).values()]


def _create_functions() -> None:
    where = catalogue.names()
    assert where is not None
    with connection.cursor() as executing:
        for table in tables.tables(host()):
            for name, body in triggers.functions(table, where).items():
                executing.execute(triggers.create_function(name, body))


class Outdated(BaseException):
    """A mutation does not find the words that it replaces. No test takes this for a failure that it expects."""


def _with_words(statement: Sql, changed: Mapping[str, str]) -> Sql:
    """The statement, with words of it replaced."""
    text = statement.text
    for old, new in changed.items():
        if old not in text:
            raise Outdated(old)
        text = text.replace(old, new, 1)
    return Sql(text, statement.params)


# Flushes


def _no_lock() -> None:
    made = slices._lock

    def unlocked(shard: int) -> Sql:
        return _with_words(made(shard), {"FOR UPDATE OF shard SKIP LOCKED": ""})

    slices._lock = unlocked


def _merged_lock() -> None:
    """The lock is taken by the statement that reads what to write, whose snapshot is then older than the lock."""
    _no_lock()
    made = decisions._of_runs

    def merged(shard: int, *args: Any, **options: Any) -> Sql:
        held = f'held AS MATERIALIZED (SELECT FROM "{Shard._meta.db_table}" WHERE number = {shard} FOR UPDATE)'
        return _with_words(
            made(shard, *args, **options),
            {
                "WITH RECURSIVE": f"WITH RECURSIVE {held},",
                "stored WHERE last_run_id": "stored WHERE (SELECT count(*) FROM held) = 1 AND last_run_id",
            },
        )

    decisions._of_runs = merged


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
    real = flush._finished
    flush._finished = lambda pending, _: real(pending, [])


def _forget_first() -> None:
    """The taken changes are forgotten and committed, and then written."""

    def forget_first(shard: int, total: Flushed, _: float) -> bool:
        with slices.hold(shard) as current:
            taken = changes.take_runs(shard)
            changes.forget([change for each in taken for change in each.ids])
            current.finish([age_s for each in taken for age_s in each.ages_s], {})
        if taken:
            with slices.hold(shard):
                writes, _unfinished = decisions.decide(shard, [each.run for each in taken])
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
    """Change words of the statements that write and have all of them; each is a regular expression."""

    def apply() -> None:
        sources = getsource(writer) + getsource(decisions)
        for old, _ in changed:
            assert re.search(old, sources), f"no statement says {old!r}"

        def rows_reworded(statement: Sql) -> list[Any]:
            text = statement.text
            if all(re.search(old, text) for old, _ in changed):
                for old, new in changed:
                    text = re.sub(old, new, text)
            return list(rows(Sql(text, statement.params)))

        writer.rows = decisions.rows = rows_reworded

    return apply


def _kinds_apart() -> None:
    """All advances are written before all recomputes."""
    real = writer.write
    writer.write = lambda writes: real(sorted(writes, key=lambda each: each.row is None))


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


def _uncaptured(table: str, event: str) -> Callable[[], None]:
    def without(real: Callable[..., str]) -> Callable[..., str]:
        def body(of: tables.Table, *args: Any) -> str:
            made, begin = real(of, *args), "BEGIN\n"
            if of.name != table:
                return made
            return made.replace(begin, f"{begin}IF TG_OP = '{event}' THEN RETURN NULL; END IF;\n", 1)

        return body

    def apply() -> None:
        triggers.row_body, triggers.truncate_body = without(triggers.row_body), without(triggers.truncate_body)

    return apply


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


FLUSH, FILL, SCOPES = (f"concurrency/test_{name}.py::test_" for name in ("flush", "fill", "scopes"))
KEY_ORDER: Final = "concurrency/test_key_order.py::test_"
CAPTURE: Final = "integration/capture/test_"
COMES_BACK: Final = [
    f"{FLUSH}a_run_comes_back_while_the_next_newest_is_searched[{going}]" for going in ("deleted", "set back")
]
GOES: Final = [f"{FLUSH}a_run_goes_while_a_flush_advances_to_it[{going}]" for going in ("deleted", "set back")]
MEANWHILE: Final = f"{FLUSH}a_change_that_commits_meanwhile_is_not_forgotten"
FILLED: Final = f"{FILL}a_recompute_leaves_what_a_fill_wrote_meanwhile"
MOVES: Final = f"{FLUSH}a_run_moves_to_another_shard"

MUTANTS: Final[dict[str, Mutant]] = {
    "no-lock": Mutant("the shard's lock", _no_lock, [*COMES_BACK, *GOES]),
    "merged-lock": Mutant("the lock's own statement: it is taken in the one that reads", _merged_lock, GOES),
    "any-isolation": Mutant(
        "READ COMMITTED where the database has another default",
        _as_the_database_likes,
        [f"{FLUSH}statements_after_the_lock_see_what_committed_before_them"],
    ),
    "forget-all": Mutant(
        "that only taken changes are forgotten: all of the shard are",
        _forget_instead(f"shard IN (SELECT shard {OF_TAKEN})"),
        [f"{MEANWHILE}[recomputed-another workspace]"],
    ),
    "forget-by-workspace": Mutant(
        "that changes are forgotten by id: those of the workspace are",
        _forget_instead(f"workspace IN (SELECT workspace {OF_TAKEN})"),
        [f"{MEANWHILE}[recomputed-another run]"],
    ),
    "forget-by-run": Mutant(
        "that changes are forgotten by id: those of the run are",
        _forget_instead(f"(workspace, run) IN (SELECT workspace, run {OF_TAKEN})"),
        [f"{MEANWHILE}[recomputed-the same run]"],
    ),
    "forget-untaken": Mutant(
        "that an advance forgets what it took: it forgets all of these workspaces",
        _reworded(
            (r"ctid = ANY\(ARRAY\(SELECT place FROM _picked\)\)", "workspace IN (SELECT workspace FROM _picked)")
        ),
        [f"{FLUSH}what_a_slice_does_not_take_keeps_its_change"],
    ),
    "forget-unfinished": Mutant(
        "that a full slice keeps what it did not finish",
        _forget_unfinished,
        [f"{FLUSH}what_a_full_slice_leaves_keeps_its_change"],
    ),
    "forget-first": Mutant(
        "that changes are forgotten with the write: they are before it",
        _forget_first,
        [f"{FLUSH}killed_at_any_step[decided]"],
    ),
    "scope-not-logged": Mutant(
        "that a scope is replaced by what it names, before it is forgotten",
        _scope_not_logged,
        [f"{SCOPES}runs_of_every_shard_follow_a_version"],
    ),
    "parts-not-logged": Mutant(
        "that a split scope is replaced by all of its parts",
        _parts_not_logged,
        [f"{SCOPES}a_scope_of_many_runs_is_split", f"{SCOPES}every_run_is_split_by_workspace"],
    ),
    "no-condition": Mutant(
        "that a row is recomputed only as it was read",
        _reworded((AS_READ_IN_CTE, ""), (AS_READ, "")),
        [f"{FILLED}[an older run-before the flush writes]", f"{FILLED}[nothing-before the flush writes]"],
    ),
    "condition-in-cte": Mutant(
        "that this condition is on the row itself: it is in a CTE alone",
        _reworded(("FOR UPDATE OF stored", ""), (AS_READ, "")),
        [f"{FILLED}[an older run-while the flush waits for it]", f"{FILLED}[nothing-while the flush waits for it]"],
    ),
    "blind-upsert": Mutant(
        "that an upsert writes only upwards",
        _reworded((ONLY_UPWARDS, "")),
        [f"{FILL}a_fill_does_not_undo_a_flush", f"{FILL}a_flush_does_not_undo_a_fill"],
    ),
    "unsorted-advance": Mutant(
        "an advance's key order",
        _reworded(
            (
                "NOT EXISTS \\(SELECT FROM _not_true\\) ORDER BY workspace, uid, workflow",
                "NOT EXISTS (SELECT FROM _not_true) ORDER BY workspace DESC, uid DESC, workflow DESC",
            )
        ),
        [f"{KEY_ORDER}advances"],
    ),
    "unsorted-advance-beside": Mutant(
        "an advance's key order where other rows are recomputed",
        _reworded(("ORDER BY position", "ORDER BY position DESC")),
        [f"{KEY_ORDER}advances_beside_a_recompute"],
    ),
    "truth-not-asked": Mutant(
        "that an advance asks which rows are not true any more",
        _reworded((r"SELECT EXISTS \(SELECT FROM _not_true\)", "SELECT false")),
        [f"{KEY_ORDER}recomputes"],
    ),
    "kinds-apart": Mutant(
        "that advances and recomputes are in one order", _kinds_apart, [f"{KEY_ORDER}advances_and_recomputes[20]"]
    ),
    "unsorted-recompute": Mutant(
        "a recompute's key order",
        _reworded((r"ORDER BY given\.position", "ORDER BY given.position DESC")),
        [f"{KEY_ORDER}recomputes"],
    ),
    "unsorted-fill": Mutant(
        "a fill's key order",
        _reworded(
            (
                r"ORDER BY newest\.workspace, newest\.uid, newest\.workflow",
                "ORDER BY newest.workspace DESC, newest.uid DESC, newest.workflow DESC",
            )
        ),
        [f"{KEY_ORDER}a_fill"],
    ),
    "no-look": Mutant(
        "the look over a chunk's rows before it is closed",
        _no_look,
        [f"{FILL}a_run_goes_while_a_fill_writes_it[deleted]"],
    ),
    "look-over-written": Mutant(
        "that this look is over all rows: it is over those that were written",
        _look_over_written_rows,
        [f"{FILL}a_fill_is_killed_before_its_look[deleted]"],
    ),
    "not-locked-first": Mutant(
        "that a comparison locks the host's tables first",
        _not_locked_first,
        ["concurrency/test_compare.py::test_a_truncate_while_tables_are_compared"],
    ),
    "no-old-workspace": Mutant(
        "the change for a run's old workspace",
        _body(lambda body: body.replace(OLD_WORKSPACE, "IF now_is IS NULL AND was[2] IS NOT NULL THEN")),
        [f"{MOVES}[written-while the shard it {way} is flushed]" for way in ("left", "came to")],
    ),
    "one-shard": Mutant(
        "that a scope is written for every shard: it is for one",
        _one_shard,
        [f"{SCOPES}runs_of_every_shard_follow_a_version"],
    ),
    "without-duplicates": Mutant(
        "that a change is written even if an equal one is there",
        _body(_without_duplicates),
        [f"{MEANWHILE}[written-the same run]"],
    ),
    "truncate-trusts-snapshot": Mutant(
        "that a TRUNCATE in a transaction with one snapshot always leaves a scope",
        _trusts_an_old_snapshot,
        [f"{CAPTURE}sql_writes.py::test_truncate_with_a_snapshot_from_before_our_rows"],
    ),
    "log-not-asked": Mutant(
        "that a trigger asks for the log and its rights first",
        _not_asked,
        [
            f"{CAPTURE}faults.py::test_the_log_is_missing",
            f"{CAPTURE}faults.py::test_no_right_to_write_the_log",
        ],
    ),
    "counted-keys": Mutant(
        "the log's random key: it is counted by a sequence",
        _counted_keys,
        [f"{CAPTURE}migrations.py::test_a_restore_of_data_alone_with_triggers_on"],
        alters_database=True,
    ),
}
"""Mutations by name. Their tests run against the first host."""

UNCAPTURED: Final = {
    ("bots_savedrun", "INSERT"): f"{CAPTURE}sql_writes.py::test_insert_update_and_delete",
    ("bots_savedrun", "UPDATE"): f"{CAPTURE}django_writes.py::test_it_is_captured[save]",
    ("bots_savedrun", "DELETE"): f"{CAPTURE}deletes.py::test_one_and_a_queryset",
    ("bots_savedrun", "TRUNCATE"): f"{CAPTURE}sql_writes.py::test_truncate[False]",
    ("bots_publishedrunversion", "INSERT"): f"{CAPTURE}deletes.py::test_keys_that_point_nowhere",
    ("bots_publishedrunversion", "UPDATE"): f"{CAPTURE}paths.py::test_a_hop_led_to_another[save]",
    ("bots_publishedrunversion", "DELETE"): f"{CAPTURE}deletes.py::test_keys_that_point_nowhere",
    ("bots_publishedrunversion", "TRUNCATE"): f"{CAPTURE}deletes.py::test_keys_that_point_nowhere",
}
"""A test that notices that the trigger of a table is not there for an event."""

MUTANTS.update(
    {
        f"uncaptured {table} {event}": Mutant(
            f"the trigger of `{table}` for {event}", _uncaptured(table, event), [test]
        )
        for (table, event), test in UNCAPTURED.items()
    }
)
