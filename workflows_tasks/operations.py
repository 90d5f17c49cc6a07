"""What an operator asks for, as values: ``manage.py recent_workflows`` prints them, metrics export them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from django.db import connections

from workflows_tasks import conf, events, flush, inbox, reads, repair, truth
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.host import host
from workflows_tasks.ids import encode
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.sql.fragments import EVERYWHERE, Workspaces

COUNTED_UP_TO = 100_000
"""Tables estimated to have more rows than this are not counted, which would take seconds."""


@dataclass(frozen=True, slots=True)
class Status:
    """The pipeline at this moment. Ages and times in seconds."""

    shards: list[inbox.ShardStatus]
    rows: int
    rows_are_estimated: bool
    visible_p50_s: float | None
    visible_p99_s: float | None

    @property
    def stats(self) -> dict[str, float]:
        """Counters and histograms of all shards together."""
        return events.merged(shard.stats for shard in self.shards)

    @property
    def pending(self) -> int:
        return sum(shard.pending for shard in self.shards)

    @property
    def oldest_pending_s(self) -> float:
        return max((shard.oldest_pending_s or 0.0 for shard in self.shards), default=0.0)

    @property
    def claims(self) -> int:
        return sum(shard.claims for shard in self.shards)

    @property
    def aside(self) -> int:
        return sum(shard.aside for shard in self.shards)

    def as_json(self) -> dict[str, Any]:
        counters = {name: self.stats.get(name, 0) for name in events.COUNTERS}
        shards = [{k: v for k, v in asdict(shard).items() if k != "stats"} for shard in self.shards]
        return {
            "pending": self.pending,
            "oldest_pending_s": self.oldest_pending_s,
            "claims": self.claims,
            "aside": self.aside,
            "rows": self.rows,
            "rows_are_estimated": self.rows_are_estimated,
            "visible_p50_s": self.visible_p50_s,
            "visible_p99_s": self.visible_p99_s,
            "counters": counters,
            "shards": shards,
        }


def status(*, exactly: bool = True) -> Status:
    """Read every shard and the table's size.

    Args:
        exactly: count the rows of a small table.

    Raises:
        InboxUnavailable: Redis does not answer.
    """
    shards = inbox.status()
    visible = events.histogram(events.merged(shard.stats for shard in shards), "commit_to_visible")
    rows, estimated = _rows(exactly=exactly)
    return Status(
        shards=shards,
        rows=rows,
        rows_are_estimated=estimated,
        visible_p50_s=events.quantile_s(visible, 0.50),
        visible_p99_s=events.quantile_s(visible, 0.99),
    )


def _rows(*, exactly: bool) -> tuple[int, bool]:
    with connections[host().database].cursor() as cursor:
        cursor.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [WorkspaceRecentWorkflow._meta.db_table]
        )
        estimate = cursor.fetchone()[0]
    if estimate > COUNTED_UP_TO or not exactly:
        return max(estimate, 0), True
    return WorkspaceRecentWorkflow.objects.using(host().database).count(), False


def pending() -> int:
    """Run ids that wait in all shards."""
    return sum(shard.pending for shard in inbox.status())


class SetAside(NamedTuple):
    """A run id that waits for ``drain --retry``, and the reason."""

    shard: int
    run: str
    why: str


def aside() -> list[SetAside]:
    """Every run id that was set aside."""
    return [
        SetAside(shard, run, told["why"])
        for shard in range(conf.settings().shards)
        for run, told in inbox.aside(shard).items()
    ]


def retry_aside() -> int:
    """Put everything that was set aside back into the inbox; returns how many run ids."""
    return sum(inbox.retry_aside(shard) for shard in range(conf.settings().shards))


def drain(progress: Callable[[int], None]) -> flush.Flushed:
    """Flush every shard until nothing is pending, calling ``progress`` with the run ids of each flush.

    What flushes hand on to other shards is drained too. Open claims of other workers are left to them.
    """
    total = flush.Flushed()
    while waiting := [shard for shard in range(conf.settings().shards) if inbox.has_pending(shard)]:
        for shard in waiting:
            done = flush.flush(shard)
            progress(done.runs)
            total.runs += done.runs
            total.rows += done.rows
    return total


def workspaces(text: str | None) -> Workspaces:
    """The range that ``A-B`` names, or ``A..B`` where keys have dashes; either end may be left out.

    Raises:
        InvalidArgument: an end is no key of a workspace, there is no range, or a dash may be of a key.
    """
    if text is None:
        return EVERYWHERE
    sign = ".." if ".." in text else "-"
    found = [range_ for at in range(len(text)) if text.startswith(sign, at) for range_ in _range(text, at, sign)]
    if len(found) > 1:
        raise InvalidArgument(f"{text!r} could be several ranges, for keys may have dashes; write A..B.")
    if not found:
        raise InvalidArgument(
            f"{text!r} is no range of workspaces; write A-B, with the keys of the first and the last."
        )
    return found[0]


def _range(text: str, at: int, sign: str) -> Iterator[Workspaces]:
    with suppress(InvalidArgument):
        first, last = (reads.key_of(end)[0] if end else None for end in (text[:at], text[at + len(sign) :]))
        yield Workspaces(first=first, last=last)


def repair_now(drift: list[truth.Comparison]) -> None:
    """Put differences right, by flushes in this process; returns when it is done."""
    if repair.repair(drift):
        drain(lambda _: None)


@dataclass(frozen=True, slots=True)
class Explained:
    """One workflow of a home page: what the table says, what the runs say, and what is on its way."""

    row: truth.Comparison
    waiting: str | None
    """``pending`` or ``claimed`` if one of its runs is in the inbox: the table is then about to change."""

    def as_json(self) -> dict[str, Any]:
        return {**self.row.as_json(), "waiting": self.waiting}


def explain(workspace: Any, user: Any = None) -> list[Explained]:
    """Every workflow of a home page, newest first. Reads the workspace's whole history.

    Raises:
        InvalidArgument: as ``recent_workflows``.
    """
    key, uid = reads.key_of(workspace, user)
    rows = truth.compare(Workspaces(key, key), uid=uid, all_rows=True)
    places = inbox.where_is({encode(run) for row in rows for run in row.runs})
    return [Explained(row, next((places[r] for r in map(encode, row.runs) if r in places), None)) for row in rows]
