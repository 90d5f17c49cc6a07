"""What waits in the change log, for whoever asks. Nothing here changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from workflows_tasks import conf
from workflows_tasks.projection.changes import TAKEABLE
from workflows_tasks.projection.fragments import compose
from workflows_tasks.sql import rows, value


@dataclass(frozen=True, slots=True)
class ShardChanges:
    """What waits in one shard."""

    shard: int
    pending: int
    """Changes that can be taken."""
    scopes: int
    """Of those, scopes."""
    oldest_s: float | None
    quarantined: int


MOST_COUNTED: Final = 100_000
"""Changes of a shard that are counted at most. A longer log is shown as this number."""


def status() -> list[ShardChanges]:
    """What waits in each shard, in one statement."""
    statement = compose(
        """
        SELECT shard, pending.changes, pending.scopes, extract(epoch FROM clock_timestamp() - pending.oldest)::float8,
               pending.quarantined
        FROM generate_series(0, {last}) AS shard CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE {takeable}) AS changes,
                   count(*) FILTER (WHERE run IS NULL AND {takeable}) AS scopes,
                   min(at) FILTER (WHERE {takeable}) AS oldest,
                   count(*) FILTER (WHERE error IS NOT NULL) AS quarantined
            FROM (SELECT run, at, retry_at, error FROM {log} WHERE {log}.shard = shard.shard LIMIT {most}) AS change
        ) AS pending ORDER BY shard
        """,
        last=conf.settings().shards - 1, takeable=TAKEABLE, most=MOST_COUNTED,
    )  # fmt: skip
    return [ShardChanges(*row) for row in rows(statement)]


def shards_pending(before: str | None = None, only: int | None = None) -> list[int]:
    """Shards with a change that can be taken. Nothing is counted, so a flood is no slower than one change.

    Args:
        before: a moment; only changes that are older.
        only: a shard; no other is asked.
    """
    statement = compose(
        # In the index's order: for EXISTS the planner reads the whole log, once for each shard where nothing waits.
        """SELECT shard FROM generate_series({first}, {last}) AS shard CROSS JOIN LATERAL (
            SELECT FROM {log} WHERE {log}.shard = shard.shard AND {takeable} AND {older}
            ORDER BY workspace, at LIMIT 1
        ) AS one ORDER BY shard""",
        first=0 if only is None else only, last=conf.settings().shards - 1 if only is None else only,
        takeable=TAKEABLE,
        older="true" if before is None else "at < " + value(before) + "::timestamptz",
    )  # fmt: skip
    return [shard for (shard,) in rows(statement)]


def oldest_change_s() -> float:
    """Seconds that the oldest change has waited; 0 if none waits."""
    return max((shard.oldest_s or 0.0 for shard in status()), default=0.0)


class Quarantined(NamedTuple):
    """A change that the database refused."""

    shard: int
    workspace: str | None
    run: str | None
    scope: str | None
    error: str
    tries: int


def quarantined(limit: int) -> list[Quarantined]:
    """Changes in quarantine, the oldest first."""
    statement = compose(
        """SELECT shard, workspace, run, CASE WHEN run IS NULL THEN concat_ws(' ', lookup, key) END, error, tries
        FROM {log} WHERE error IS NOT NULL ORDER BY at LIMIT {limit}""",
        limit=limit,
    )  # fmt: skip
    return [Quarantined(*row) for row in rows(statement)]
