"""Compare the table with the runs in one snapshot, and tell drift from what waits.

A difference is *waiting* if the change log of that snapshot explains it, *unfilled* if the history of its workspace is
not filled, *refused* if only quarantined changes explain it, and *drift* if nothing does. One look is enough, because a
write and its change in the log commit together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from django.db import connections, transaction

from workflows_tasks import conf
from workflows_tasks.capture.tables import tables
from workflows_tasks.host import host
from workflows_tasks.keys import shard_sql, text_of
from workflows_tasks.projection import scopes
from workflows_tasks.projection.fragments import compose, fragments, newest_per_key, not_true, of_grain
from workflows_tasks.projection.ranges import Range
from workflows_tasks.projection.transactions import limits, set_locally
from workflows_tasks.sql import Sql, cursor, quoted, rows, value

WAITING: Final = "waiting"
UNFILLED: Final = "unfilled"
REFUSED: Final = "refused"
DRIFT: Final = "drift"
AGREES: Final = "agrees"

LOCK_S: Final = 5.0
"""Seconds that a comparison waits for whoever truncates or alters a table of the host's."""

_unfilled: list[tuple[Callable[[str], Sql], Callable[[], str], Callable[[], str]]] = []
"""What the app ``backfill`` has registered; empty where it is not installed."""


def register_unfilled(
    condition: Callable[[str], Sql], advice: Callable[[], str], trouble: Callable[[], str] = str
) -> None:
    """Register who knows where history is not filled yet. The last one counts.

    Args:
        condition: given SQL of a workspace, returns a condition that is true if its history is not filled.
        advice: returns what to do about it, for people.
        trouble: returns why the filling does not go on, for people; empty if it does.
    """
    _unfilled[:] = [(condition, advice, trouble)]


def trouble_of_filling() -> str:
    """Why the filling of history does not go on, for people; empty if it does, or if there is none."""
    return next((trouble() for _, _, trouble in _unfilled), "")


def advice_to_fill() -> str:
    """What to do about history that is not filled, for people."""
    for _, advice, _ in _unfilled:
        return advice()
    return 'add "backfill" to INSTALLED_APPS, then run: manage.py migrate, and manage.py backfill start'


class Difference(NamedTuple):
    """One key: what the table says (None without a row), and what the runs say (None without a run). All as text."""

    workspace: str
    uid: str
    workflow: str
    stored_used_at: str | None
    stored_run: str | None
    used_at: str | None
    run: str | None
    state: str
    """``AGREES``, ``WAITING``, ``UNFILLED``, ``REFUSED`` or ``DRIFT``."""

    @property
    def kind(self) -> str:
        """How it differs."""
        if (self.stored_used_at, self.stored_run) == (self.used_at, self.run):
            return AGREES
        if self.stored_run is None:
            return "missing"
        if self.run is None:
            return "extra"
        return "wrong tie" if self.stored_used_at == self.used_at else "other run"

    @property
    def runs(self) -> list[tuple[str, str]]:
        """``(workspace, run)`` of what a flush must look at to put it right."""
        return [(self.workspace, run) for run in (self.stored_run, self.run) if run is not None]

    def as_json(self) -> dict[str, Any]:
        """For a table or a machine."""
        return {"state": self.state, "kind": self.kind, **{k: v for k, v in self._asdict().items() if k != "state"}}


@contextmanager
def snapshot(*, statement_s: float | None = None) -> Iterator[None]:
    """A transaction with one snapshot, in which table, runs and change log belong together.

    The host's tables are locked against TRUNCATE first: TRUNCATE is not versioned, and an older snapshot would show no
    runs and no change. Limits are ours, whatever the role's are.

    Args:
        statement_s: seconds after which a statement gives up; ``COMPARE_TIMEOUT_S`` by default.
    """
    connection = connections[host().database]
    limit_s = conf.settings().compare_timeout_s if statement_s is None else statement_s
    with transaction.atomic(using=connection.alias), cursor() as db:
        if not connection.savepoint_ids:
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        names = ", ".join(quoted(table.name) for table in tables(host()))
        # Before any SELECT, even of a setting: that takes the snapshot. SET and LOCK do not.
        db.execute(f"SET LOCAL lock_timeout = '{LOCK_S * 1000:.0f}ms'")
        db.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
        db.execute(*set_locally(limits(statement_s=limit_s, lock_s=LOCK_S, idle_s=limit_s + 30)))
        yield


def compare(
    among: Range, *, uid: str | None = None, all_rows: bool = False, part: tuple[int, int] = (0, 1)
) -> list[Difference]:
    """Keys of a range of workspaces where table and runs differ, in one snapshot.

    ``BACKFILL_FILTER`` may leave old runs out. Then a row is right if it is true and not older than the newest run that
    the filter keeps. A missing row is right if the filter keeps no run of its key.

    Each has a state; only ``DRIFT`` is unexplained.

    Args:
        among: of whole workspaces.
        uid: only keys with this ``uid``; ``''`` is the workspace's own.
        all_rows: return keys that agree, too.
        part: ``(number, of)``, counted from 0: only this part of the workflows, if a workspace is too large for one
            statement.
    """
    with snapshot():
        return [Difference(*row) for row in rows(_statement(among, uid, part, all_rows=all_rows))]


def _statement(among: Range, uid: str | None, part: tuple[int, int], *, all_rows: bool) -> Sql:
    parts = fragments()
    of_live = among.where("live.workspace") + _of_part("live.workflow", part)
    of_stored = compose(
        "{range} AND {grain}{part}",
        range=among.where("stored.workspace_id"), grain=of_grain("stored.uid"),
        part=_of_part("stored.published_run_id", part),
    )  # fmt: skip
    of_uid = Sql("true") if uid is None else "uid = " + value(uid)
    expected, differs = _expected(among, part, of_uid)
    return compose(
        """
        WITH _truth AS MATERIALIZED (SELECT * FROM {truth} WHERE {of_uid}),
        _present AS MATERIALIZED (SELECT * FROM {table} AS stored WHERE {of_stored} AND {of_uid}),
        _difference AS MATERIALIZED (
            SELECT coalesce(stored.workspace_id, truth.workspace) AS workspace, coalesce(stored.uid, truth.uid) AS uid,
                   coalesce(stored.published_run_id, truth.workflow) AS workflow,
                   stored.last_used_at AS stored_used_at, stored.last_run_id AS stored_run, truth.used_at, truth.run,
                   {differs} AS differs
            FROM _truth AS truth FULL JOIN _present AS stored
              ON stored.workspace_id = truth.workspace AND stored.uid = truth.uid
             AND stored.published_run_id = truth.workflow
            {expected}
        ),
        _others AS MATERIALIZED (SELECT * FROM {log} WHERE run IS NULL OR workspace IS NULL)
        SELECT {workspace}, uid, {workflow}, stored_used_at::text, {stored_run}, used_at::text, {run},
               CASE WHEN NOT differs THEN '{agrees}'
                    WHEN {by_change} THEN '{waiting}' WHEN {of_unfilled} THEN '{unfilled}'
                    WHEN {by_refused} THEN '{refused}' ELSE '{drift}' END
        FROM _difference AS difference WHERE {shown}
        ORDER BY difference.workspace, uid, coalesce(used_at, stored_used_at) DESC
        """,
        truth=newest_per_key(parts.live, of_live), of_stored=of_stored, of_uid=of_uid,
        differs=differs, expected=expected, workspace=text_of("workspace"), workflow=text_of("workflow"),
        stored_run=text_of("stored_run"), run=text_of("run"), agrees=AGREES, waiting=WAITING, unfilled=UNFILLED,
        refused=REFUSED, drift=DRIFT, of_unfilled=_of_unfilled(), by_change=_explained("change.error IS NULL"),
        by_refused=_explained("change.error IS NOT NULL"), shown="true" if all_rows else "differs",
    )  # fmt: skip


def _of_part(workflow: str, part: tuple[int, int]) -> str:
    number, of = part
    return "" if of == 1 else f" AND {shard_sql(text_of(workflow), of)} = {number}"


def _expected(among: Range, part: tuple[int, int], of_uid: Sql) -> tuple[Sql, Sql]:
    """A join with the newest runs that history counts, and the condition that a key differs."""
    differs = "(stored.last_used_at, stored.last_run_id) IS DISTINCT FROM (truth.used_at, truth.run)"
    parts = fragments()
    if not parts.has_history_filter:
        return Sql(""), Sql(differs)
    where = among.where("live.workspace", "live.run") + _of_part("live.workflow", part)
    expected = compose(
        # A full join is never a nested loop, whatever the planner expects. It adds no row: history's runs all count.
        """FULL JOIN (SELECT * FROM {newest} WHERE {of_uid}) AS expected
          ON (expected.workspace, expected.uid, expected.workflow) = (truth.workspace, truth.uid, truth.workflow)""",
        newest=newest_per_key(parts.history, where), of_uid=of_uid,
    )  # fmt: skip
    return expected, compose(
        """({differs} AND NOT CASE WHEN stored.id IS NULL THEN expected.run IS NULL
            ELSE NOT ({not_true}) AND (expected.run IS NULL
              OR (stored.last_used_at, stored.last_run_id) >= (expected.used_at, expected.run)) END)""",
        differs=differs, not_true=not_true(),
    )  # fmt: skip


def _of_unfilled() -> Sql:
    for condition, _, _ in _unfilled:
        return condition("difference.workspace")
    return Sql("false")


def _explained(kind: str) -> Sql:
    """Condition on ``difference``: a change of this kind explains it.

    The change names the row's run or the newest run, or it is a scope that names one of them. Its workspace is this
    one, or unknown.

    Changes of a workspace's runs are looked up in a hash, or each difference would read all of a flood. There are few
    other changes.
    """
    workspace = text_of("difference.workspace")
    of_run = [text_of(f"difference.{run}") for run in ("stored_run", "run")]
    named = compose(
        """(SELECT change.workspace, change.run FROM {log} AS change
            WHERE {kind} AND change.run IS NOT NULL AND change.shard = {shard}
              AND (change.workspace IN (
                SELECT {workspace} FROM _difference AS difference WHERE differs
              )) IS TRUE)""",
        kind=kind, shard=shard_sql("change.workspace", "change.shards"), workspace=workspace,
    )  # fmt: skip
    return compose(
        """(
            (({workspace}, {stored_run}) IN {named}) IS TRUE OR (({workspace}, {run}) IN {named}) IS TRUE OR EXISTS (
                SELECT FROM _others AS change
                WHERE {kind} AND change.shard = {shard}
                  AND (change.workspace IS NULL OR change.workspace = {workspace})
                  AND CASE WHEN change.run IS NOT NULL THEN change.run IN ({stored_run}, {run})
                           ELSE {scope_of_stored} OR {scope_of_true} END
            )
        )""",
        kind=kind, named=named, shard=shard_sql(workspace, "change.shards"), workspace=workspace,
        stored_run=of_run[0], run=of_run[1], scope_of_stored=scopes.names_run("difference.stored_run"),
        scope_of_true=scopes.names_run("difference.run"),
    )  # fmt: skip
