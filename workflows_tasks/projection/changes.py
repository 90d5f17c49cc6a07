"""The change log as flushes use it: what a slice takes, what it forgets, what it logs anew, and quarantine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from workflows_tasks import conf
from workflows_tasks.host import host
from workflows_tasks.keys import shard_sql, text_of
from workflows_tasks.projection.fragments import compose
from workflows_tasks.projection.transactions import flush_limits, read_committed
from workflows_tasks.sql import Sql, execute, join, keys, rows, value

MOST_TAKEN: Final = 20_000
"""Changes of runs that one slice takes at most."""

MOST_OF_WORKSPACE: Final = 10_000
"""Of these, changes of one workspace at most, so that other workspaces do not wait behind a flood."""

MOST_SCOPES: Final = 500
"""Scopes that one slice resolves together at most."""

RETRY_S: Final = 60
"""Seconds until a change in quarantine is tried again; twice as long each time, up to an hour."""

MOST_RETRY_S: Final = 3_600

TAKEABLE: Final = "(retry_at IS NULL OR retry_at <= clock_timestamp())"
"""Condition on a change: it is not in quarantine, or its time to be tried again has come."""


class Change(NamedTuple):
    """Changes of one run in one workspace, which are flushed together."""

    workspace: str | None
    run: str
    ids: list[str]
    ages_s: list[float]
    """How long before the slice began each was written."""
    was_refused: bool
    """A change of this run is in quarantine."""


class Scope(NamedTuple):
    """A scope, or several of one lookup that are resolved together."""

    ids: tuple[str, ...]
    workspace: str | None
    lookup: str
    keys: tuple[str | None, ...]
    """The key of each."""
    low: str | None
    high: str | None

    def first(self, count: int) -> Scope:
        """The first ``count`` of several."""
        return self._replace(ids=self.ids[:count], keys=self.keys[:count])

    def __str__(self) -> str:
        parts = {
            "scope": self.lookup or "every run", "key": self.keys[0], "and": len(self.keys) - 1 or None,
            "workspace": self.workspace, "low": self.low, "high": self.high,
        }  # fmt: skip
        return " ".join(f"{name}={part}" for name, part in parts.items() if part is not None)


_PICKED: Final = """
_spaces(workspace) AS (
    (SELECT workspace FROM {log} WHERE shard = {shard} AND shards = {shards} AND workspace IS NOT NULL
     ORDER BY workspace LIMIT 1)
    UNION ALL
    SELECT (SELECT workspace FROM {log} WHERE shard = {shard} AND shards = {shards}
            AND workspace > spaces.workspace ORDER BY workspace LIMIT 1)
    FROM _spaces AS spaces WHERE spaces.workspace IS NOT NULL
), _oldest AS (
    SELECT spaces.workspace, first.at FROM _spaces AS spaces CROSS JOIN LATERAL (
        SELECT at FROM {log} WHERE shard = {shard} AND shards = {shards} AND workspace = spaces.workspace
          AND run IS NOT NULL AND {takeable} ORDER BY at LIMIT 1
    ) AS first
    WHERE spaces.workspace IS NOT NULL ORDER BY first.at LIMIT {most}
), _waiting AS MATERIALIZED (
    (SELECT each.* FROM (SELECT * FROM _oldest ORDER BY at) AS oldest CROSS JOIN LATERAL (
        SELECT workspace, run, id, at, ctid AS place FROM {log}
        WHERE shard = {shard} AND shards = {shards} AND workspace = oldest.workspace AND run IS NOT NULL
          AND {takeable} ORDER BY at LIMIT {of_workspace}
    ) AS each LIMIT {most})
    UNION ALL
    (SELECT workspace, run, id, at, ctid FROM {log}
     WHERE shard = {shard} AND shards = {shards} AND workspace IS NULL AND run IS NOT NULL AND {takeable}
     ORDER BY workspace, at LIMIT {of_workspace})
), _quarantined AS MATERIALIZED (
    SELECT workspace, run, id, at, ctid AS place, {takeable} AS is_waiting FROM {log}
    WHERE shard = {shard} AND shards = {shards} AND run IS NOT NULL AND error IS NOT NULL
), _picked AS MATERIALIZED (
    SELECT * FROM _waiting
    UNION ALL
    SELECT workspace, run, id, at, place FROM _quarantined
    WHERE NOT is_waiting AND run IN (SELECT run FROM _waiting)
)"""


def picked(shard: int) -> Sql:
    """The changes of runs that a slice takes, as expressions of a WITH RECURSIVE. The last one is ``_picked(workspace,
    run, id, at, place)``.

    They are a bounded number of each workspace. Workspaces that wait longest come first. The loop walks from workspace
    to workspace in the index, so a million changes of one cost no more than one change of each of the others. A change
    in quarantine comes along with a later change of its run.

    Names of a WITH that hosts' tables are read beneath begin with ``_``: a table of that name would be hidden.
    """
    return compose(_PICKED, shard=shard, takeable=TAKEABLE, most=MOST_TAKEN, of_workspace=MOST_OF_WORKSPACE)


@contextmanager
def in_index_order() -> Iterator[None]:
    """Statements with ``picked`` run inside this. Statistics may be from before a flood, and then the planner would
    read all of the flood to find the oldest changes."""
    execute(Sql("SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)"))
    yield
    execute(Sql("SELECT set_config('enable_bitmapscan', 'on', true), set_config('enable_seqscan', 'on', true)"))


def take_runs(shard: int) -> list[Change]:
    """Read the changes that ``picked`` names. None is deleted, because what a slice does not finish must stay."""
    statement = compose(
        """WITH RECURSIVE {picked}
        SELECT workspace, run, array_agg(id::text),
               array_agg(extract(epoch FROM now() - at)::float8),
               run IN (SELECT run FROM _quarantined)
        FROM _picked GROUP BY workspace, run""",
        picked=picked(shard),
    )
    with in_index_order():
        return [Change(*row) for row in rows(statement)]


def take_scope(shard: int) -> Scope | None:
    """Read the oldest scope of a shard that can be taken, with others that differ in their key alone; None without one.

    Many rows inserted into a table such as versions leave thousands of these. Nothing is deleted here.
    """
    statement = compose(
        """
        SELECT array_agg(id::text ORDER BY at), workspace, lookup, array_agg(key ORDER BY at), low, high FROM (
            SELECT id, at, lookup, key, low, high,
                   CASE WHEN lookup = {workspace_lookup} AND low IS NULL AND high IS NULL THEN NULL
                        ELSE workspace END AS workspace
            FROM {log} WHERE shard = {shard} AND shards = {shards} AND run IS NULL AND {takeable}
            ORDER BY at LIMIT {most}
        ) AS scope
        GROUP BY workspace, lookup, low, high ORDER BY min(at) LIMIT 1
        """,
        shard=shard, takeable=TAKEABLE, most=MOST_SCOPES, workspace_lookup=value(host().workspace.name),
    )  # fmt: skip
    row = next(iter(rows(statement)), None)
    if row is None:
        return None
    ids, workspace, lookup, keys, low, high = row
    return Scope(tuple(ids), workspace, lookup, tuple(keys), low, high)


def forget(ids: Sequence[str]) -> int:
    """Delete exactly these changes. Never "all up to": a change that committed meanwhile was not taken."""
    if not ids:
        return 0
    return execute(compose("DELETE FROM {log} WHERE id = ANY({ids})", ids=keys(ids, "uuid")))


def quarantine(ids: Sequence[str], error: str) -> None:
    """Keep changes that the database refused, with the error, and try them again slowly."""
    execute(
        compose(
            """UPDATE {log} SET error = {error}, tries = coalesce(tries, 0) + 1,
                retry_at = clock_timestamp() + make_interval(secs => least({retry} * 2 ^ coalesce(tries, 0), {most}))
            WHERE id = ANY({ids})""",
            error=value(error),
            retry=RETRY_S,
            most=MOST_RETRY_S,
            ids=Sql("%s::uuid[]", (list(ids),)),
        )
    )


def retry_quarantined() -> int:
    """Have every change in quarantine tried by the next flush; returns how many."""
    return execute(
        compose(
            "UPDATE {log} SET retry_at = NULL WHERE error IS NOT NULL",
        )
    )


def log_runs(runs: Iterable[tuple[str, str]]) -> int:
    """Log changes of runs, each ``(workspace, run)`` as text, as a trigger would; returns how many."""
    pairs = list(runs)
    if not pairs:
        return 0
    return _insert(
        Sql(
            "SELECT DISTINCT workspace, run FROM unnest(%s::text[], %s::text[]) AS given(workspace, run)",
            ([workspace for workspace, _ in pairs], [run for _, run in pairs]),
        )
    )


def log_selected(selected: Sql) -> int:
    """Log the changes of runs that a query names: ``workspace`` and ``run``, in their own types."""
    return _insert(
        compose(
            "SELECT DISTINCT {workspace}, {run} FROM ({selected}) AS selected(workspace, run)",
            workspace=text_of("selected.workspace"),
            run=text_of("selected.run"),
            selected=selected,
        )
    )


def _insert(named: Sql) -> int:
    shards = conf.settings().shards
    return execute(
        compose(
            """INSERT INTO {log} (shard, shards, workspace, run)
            SELECT {shard}, {shards}, named.workspace, named.run FROM ({named}) AS named(workspace, run)
            WHERE named.workspace IS NOT NULL""",
            shard=shard_sql("named.workspace", shards),
            shards=shards,
            named=named,
        )
    )


def log_scopes(shard: int, scopes: Iterable[Scope]) -> int:
    """Log scopes of a shard, each of one key; returns how many. Their ids are ignored: the log makes new ones."""
    records = [[each.workspace, each.lookup, each.keys[0], each.low, each.high] for each in scopes]
    if not records:
        return 0
    columns = [list(column) for column in zip(*records, strict=True)]
    arrays = join(", ", [keys(column) for column in columns])
    return execute(
        compose(
            """INSERT INTO {log} (shard, shards, workspace, lookup, key, low, high)
            SELECT {shard}, {shards}, given.* FROM unnest({arrays}) AS given(workspace, lookup, key, low, high)""",
            shard=shard,
            arrays=arrays,
        )
    )


def log_everything() -> None:
    """Log the scope that names every run, for every shard."""
    for shard in range(conf.settings().shards):
        log_scopes(shard, [Scope((), None, "", (None,), None, None)])


def deal_again() -> int:
    """Give changes that were written for another number of shards to the shards there are now: at most ``MOST_TAKEN``.

    One statement deletes and inserts, so two processes that do this at once share the work. An old trigger that meant
    every shard wrote one copy for each. Each copy now goes to every shard: more than needed, never less.

    Returns:
        how many were written; 0 if there is none left.

    Only a process with the agreed number may call it, or two numbers would deal the same changes back and forth.

    It reads the whole log, so its limits are ours: a role's would stop every look of beat during a flood.
    """
    shards = conf.settings().shards
    statement = compose(
        """WITH dealt AS (
            DELETE FROM {log} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {log} WHERE shards <> {shards} LIMIT {most}))
            RETURNING *
        )
        INSERT INTO {log} (shard, shards, workspace, run, lookup, key, low, high, at, error, tries, retry_at)
        SELECT DISTINCT part.shard, {shards}, dealt.workspace, dealt.run, dealt.lookup, dealt.key, dealt.low,
            dealt.high, dealt.at, dealt.error, dealt.tries, dealt.retry_at
        FROM dealt CROSS JOIN LATERAL (
            SELECT {shard} WHERE dealt.workspace IS NOT NULL
            UNION ALL
            SELECT generate_series(0, {last}) WHERE dealt.workspace IS NULL
        ) AS part(shard)""",
        shards=shards,
        most=MOST_TAKEN,
        last=shards - 1,
        shard=shard_sql("dealt.workspace", shards),
    )
    with read_committed(flush_limits()):
        return execute(statement)
