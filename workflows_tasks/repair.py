"""Sweep and audit: find what the table is wrong about although nothing is pending, and announce it.

Neither writes the table. What they find is the loss: announcements that never came, and writes that nobody announced.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from math import ceil
from typing import Any, Final, NamedTuple

from django.db import connections

from workflows_tasks import conf, dispatch, events, inbox, truth
from workflows_tasks.host import host, storage_field
from workflows_tasks.ids import as_text, decode, encode
from workflows_tasks.models import Bookmark
from workflows_tasks.sql import looks
from workflows_tasks.sql.fragments import Workspaces, prepared

RUNS: Final = "sweep runs"
ROWS: Final = "sweep rows"
AUDIT: Final = "audit"
TRANSACTIONS: Final = "transactions"

SEEN: Final = 100
"""Most moments remembered with their transaction ids; past that every second one is forgotten."""

Position = Mapping[str, Any]
"""Where a bookmark is: keys as text, times in ISO format."""

SCOPES_WITHIN_S: Final = 10.0
"""How long a comparison waits for scopes to be resolved: what they stand for is not lost, and cannot be told from what
is. After that it says what it sees, for a host that deletes versions all day must be swept all the same."""

PAGES: Final = 50
"""Most pages of runs one sweep reads; after a long outage the next sweeps go on."""

MOST: Final = 100_000
"""Runs newer than their rows after which one sweep reads no further page: it has them all in memory."""


def sweep() -> int:
    """Announce what was lost: runs since the watermark that are newer than their row, and rows that are not true.

    Bookmarks move only after what they pass was announced. Returns how many runs were announced.
    """
    late, watermark = _late_runs()
    untrue, row = _untrue_rows()
    announced = _announce_lost(late + untrue, "healed")
    if watermark is not None:
        _move(RUNS, watermark)
    _move(ROWS, row)
    return announced


def _late_runs() -> tuple[list[Any], Position | None]:
    """Runs since the watermark that are newer than their row; and how far the watermark may move, if at all.

    It stays behind the oldest transaction that is still open, because what that wrote becomes visible later, under the
    time of its writing; and behind that by an overlap, because those times are from the clocks of other machines. It
    also stays behind runs that are left out for being so new that their flush is only due.
    """
    settings = conf.settings()
    ((now, oldest, running, following),) = truth.rows((looks.HORIZON, []))
    now, oldest = _of_utc(now), _of_utc(oldest)
    ended = _all_ended_before(now, running, following)
    fresh = now - timedelta(seconds=2 * settings.flush_window_s)
    horizon = min(min(oldest, ended) - timedelta(seconds=settings.sweep_overlap_s), fresh)
    used_at, run = _watermark(horizon)
    late: list[Any] = []
    settled: Position | None = None
    for _ in range(PAGES):
        page = truth.rows(looks.sweep_runs(used_at, run, settings.sweep_page))
        rows = [(_of_utc(at), each, is_late) for at, each, is_late in page]
        late += [each for at, each, is_late in rows if is_late and at <= fresh]
        for at, each in [(at, each) for at, each, _ in rows if at < horizon][-1:]:
            settled = {"used_at": at.isoformat(), "run": encode(each)}
        if len(rows) < settings.sweep_page or len(late) >= MOST:
            break
        used_at, run, _ = rows[-1]
    return late, settled


def _of_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc)


def _all_ended_before(now: datetime, running: int, following: int) -> datetime:
    """A moment such that every transaction which had written by then has ended.

    Transaction ids say which have ended, whatever role or prepared transaction they are of, but not when they began;
    so each sweep takes one and remembers it with its moment. What had begun to write by then has a lower id.
    """
    seen = [(datetime.fromisoformat(at), number) for at, number in (_position(TRANSACTIONS) or {"seen": []})["seen"]]
    seen = [*seen, (now, following)]
    ended = [position for position, (_, number) in enumerate(seen) if number <= running]
    seen = seen[ended[-1] :] if ended else seen
    kept = seen if len(seen) <= SEEN else [*seen[:-1:2], seen[-1]]
    _move(TRANSACTIONS, {"seen": [(at.isoformat(), number) for at, number in kept]})
    return seen[0][0]


def _watermark(horizon: datetime) -> tuple[datetime, Any]:
    """Where the sweep goes on. The first one ever starts at the horizon: history is the backfill's."""
    position = _position(RUNS)
    if position is None:
        _move(RUNS, {"used_at": horizon.isoformat(), "run": None})
        return horizon, None
    run = None if position["run"] is None else prepared(host().run_key, [decode(position["run"])])[0]
    return datetime.fromisoformat(position["used_at"]), run


def _untrue_rows() -> tuple[list[Any], Position]:
    """Among the next rows of the table, the runs of those that are not true; and where to go on."""
    page = conf.settings().sweep_page
    rows = truth.rows(looks.sweep_rows((_position(ROWS) or {"id": 0})["id"], page))
    return [run for _, run, untrue in rows if untrue], {"id": rows[-1][0] if len(rows) == page else 0}


class Checked(NamedTuple):
    """One chunk of workspaces, compared."""

    last: Any
    """Its last workspace; None where nothing comes after it."""
    runs: int
    drift: list[truth.Comparison]


def check(workspaces: Workspaces) -> Iterator[Checked]:
    """Compare a range of workspaces, a chunk at a time. What is on its way through the inbox is no drift."""
    last: Any = object()
    while last is not None:
        last, runs = truth.chunk(workspaces, conf.settings().audit_chunk)
        chunk = workspaces if last is None else replace(workspaces, last=last)
        yield Checked(last, runs, drift(chunk))
        workspaces = replace(workspaces, first=None, after=last)


def drift(workspaces: Workspaces, since: Any = None) -> list[truth.Comparison]:
    """Where table and runs of a range of workspaces differ and nothing on its way will put it right.

    Args:
        since: only runs used at that moment or later had to be filled.
    """
    differences = truth.compare(workspaces, since=since)
    lost = _lost([run for row in differences for run in row.runs])
    return [row for row in differences if any(encode(run) in lost for run in row.runs)]


def _lost(suspects: list[Any]) -> dict[str, int]:
    """Which runs the table is wrong about, however often one looks during the time that a flush is due in.

    Once is not enough: every save is for a moment committed and not announced, a run that executes is saved again and
    again, and what a scope stands for waits under no name of its own.
    """
    look_for_s = 2 * conf.settings().flush_window_s
    lost = truth.lost(suspects) if suspects else {}
    until_s = time.monotonic() + look_for_s
    scopes_until_s = time.monotonic() + SCOPES_WITHIN_S
    while lost and (now_s := time.monotonic()) < until_s:
        time.sleep(look_for_s / 20)
        if now_s < scopes_until_s and inbox.scopes_wait():
            until_s = now_s + look_for_s
        else:
            lost = truth.lost([decode(run) for run in lost])
    return lost


def audit() -> int:
    """One step of the rolling audit: as many chunks as it takes to be round within the period.

    Returns how many differences were announced.
    """
    settings = conf.settings()
    field = storage_field(host().workspace)
    position = (_position(AUDIT) or {"workspace": None})["workspace"]
    after = None if position is None else field.to_python(position)
    found = 0
    for step, checked in enumerate(check(Workspaces(after=after)), start=1):
        found += repair(checked.drift)
        _move(AUDIT, {"workspace": None if checked.last is None else as_text(field, checked.last)})
        if step >= _chunks_per_step(settings):
            break
    return found


def _chunks_per_step(settings: conf.Settings) -> int:
    steps = settings.audit_period_s / settings.audit_step_s
    return ceil(estimated_runs() / settings.audit_chunk / steps) or 1


def estimated_runs() -> int:
    """PostgreSQL's own estimate of the number of runs."""
    ((runs,),) = truth.rows(
        ("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::regclass", [_run_table()])
    )
    return int(runs)


def _run_table() -> str:
    return connections[host().database].ops.quote_name(host().run._meta.db_table)


def repair(drift: Iterable[truth.Comparison], counter: str = "drift") -> int:
    """Announce the runs of differences; flushes then put the rows right. Returns how many runs."""
    return _announce_lost([run for row in drift for run in row.runs], counter)


def _announce_lost(suspects: list[Any], counter: str) -> int:
    lost = _lost(suspects)
    if lost:
        events.repaired(counter=counter, runs=len(lost))
        inbox.count(counter, len(lost))
        dispatch.deliver(lost, patient=True)
    return len(lost)


def _position(name: str) -> Any:
    found = Bookmark.objects.using(host().database).filter(name=name).first()
    return found.position if found else None


def _move(name: str, position: Position) -> None:
    Bookmark.objects.using(host().database).update_or_create(name=name, defaults={"position": position})
