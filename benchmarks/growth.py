"""How the figures grow with the history, and on paper what a hundred times more would take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from benchmarks.figures import Figures, one

FIGURES: Final[Mapping[str, Mapping[str, Any]]] = {
    "read, heaviest, 4 rows: ours, ms": {
        "section": "read", "case": "heaviest, 4 rows, warm", "contender": "recent_workflows()", "unit": "ms",
    },
    "the same by DISTINCT ON, ms": {
        "section": "read", "case": "heaviest, 4 rows, warm", "contender": "DISTINCT ON", "unit": "ms",
    },
    "DISTINCT ON by ours": {
        "section": "read", "case": "heaviest, 4 rows, warm", "contender": "DISTINCT ON", "unit": "× ours",
    },
    "save, added p50, µs": {"section": "save", "case": "added", "contender": "ours", "unit": "µs"},
    "save, task.delay() adds, p50, µs": {
        "section": "save", "case": "added", "contender": "task.delay() per save", "unit": "µs",
    },
    "WAL of the table a save, 40 under way, bytes": {
        "section": "save", "case": "WAL, 40 under way, state 8 kB", "contender": "ours", "unit": "bytes",
    },
    "one worker, hot keys, runs/s": {
        "section": "write-behind", "case": "hot", "contender": "ours", "unit": "runs/s",
    },
    "one worker, skewed keys, runs/s": {
        "section": "write-behind", "case": "skewed", "contender": "ours", "unit": "runs/s",
    },
    "one worker, uniform keys, runs/s": {
        "section": "write-behind", "case": "uniform", "contender": "ours", "unit": "runs/s",
    },
    "the same, one SQL statement, runs/s": {
        "section": "write-behind", "case": "uniform", "contender": "one SQL statement", "unit": "runs/s",
    },
    "freshness at 350 saves/s, p50 s": {
        "section": "freshness", "case": "350 saves/s", "contender": "ours", "unit": "p50 s",
    },
    "freshness at 350 saves/s, p99 s": {
        "section": "freshness", "case": "350 saves/s", "contender": "ours", "unit": "p99 s",
    },
    "the same during a backfill, p99 s": {
        "section": "freshness", "case": "350 saves/s, backfill", "contender": "ours", "unit": "p99 s",
    },
    "flush messages a save": {
        "section": "freshness", "case": "350 saves/s", "contender": "ours", "unit": "messages/save",
    },
    "backfill, 2 at a time, s": {
        "section": "backfill", "case": "all of history", "contender": "ours, 2 at a time", "unit": "s",
    },
    "one INSERT … SELECT, s": {
        "section": "backfill", "case": "all of history", "contender": "one INSERT … SELECT", "unit": "s",
    },
}  # fmt: skip
"""Rows of the growth table: label -> which figure."""

RUNS: Final = 1_000_000_000
SAVES_PER_S: Final = 50_000
WORKERS: Final = 100
SHARDS: Final = 256
WINDOW_S: Final = 1.0
SAVES_PER_RUN_AND_WINDOW: Final = 2.0
"""A run that executes is saved about so often in a window; the others of it cost nothing more."""


def on_paper(figures: Figures) -> str:
    """An estimate for 1 billion runs and 50,000 saves a second, with its arithmetic; empty without the figures."""
    rate = one(figures.every, section="write-behind", case="uniform", contender="ours", unit="runs/s")
    filled = one(figures.every, section="backfill", case="all of history", contender="ours, 2 at a time", unit="s")
    wal = one(figures.every, section="save", case="WAL, 350 under way, state 8 kB", contender="ours", unit="bytes")
    own = one(figures.every, section="save", case="WAL, 350 under way, state 8 kB", contender="bare save", unit="bytes")
    storage = figures.notes.get("storage")
    if not (rate and filled and wal and own and storage):
        return ""
    ids = SAVES_PER_S / SAVES_PER_RUN_AND_WINDOW
    table = storage["recent_workflows()"]
    rows = table["rows"] * RUNS / figures.runs
    return TEXT.format(
        ids=ids,
        rate=rate.median,
        flushing=ids / rate.median,
        messages=SHARDS / WINDOW_S,
        saves_per_message=SAVES_PER_S * WINDOW_S / SHARDS,
        batch=ids * WINDOW_S / SHARDS,
        busy=ids * WINDOW_S / SHARDS / rate.median,
        claims_mb=ids * 60 / 1e6,
        rows=rows / 1e6,
        bytes=table["bytes"] / table["rows"],
        gigabytes=rows * table["bytes"] / table["rows"] / 1e9,
        wal=wal.median * ids / 1e6,
        own=own.median * SAVES_PER_S / 1e6,
        fill_rate=figures.runs / filled.median,
        fill_h=RUNS / (figures.runs / filled.median) / 3600,
        saves=SAVES_PER_S,
        workers=WORKERS,
        shards=SHARDS,
    )


TEXT: Final = """\
### On paper: 1 billion runs, {saves:,} saves a second, {workers} workers

Nothing of this was run. It takes the figures above and multiplies; the load is taken to be twice as repetitive as the
worst case (each run under way is saved twice a window, uniform keys).

| | arithmetic | |
|---|---|---:|
| a read | one range of an index; one more level at a billion runs | as above |
| run ids to flush | {saves:,} saves/s ÷ 2 saves of a run in a window | {ids:,.0f} a second |
| workers' processes busy | {ids:,.0f} ÷ {rate:,.0f} runs/s of one worker, uniform keys | {flushing:.1f} of {workers} |
| messages, one for {saves_per_message:,.0f} saves | `SHARDS = {shards}`, a window of 1 s | {messages:,.0f} a second |
| a flush | {batch:,.0f} ids a shard and window ÷ {rate:,.0f} | {busy:.2f} s of each second |
| Redis commands | one script a save, each a few µs; one server runs some 100,000 a second | half a core's server |
| Redis memory | {ids:,.0f} ids × about 60 bytes a window | {claims_mb:.1f} MB |
| rows of the table | as many a run as here | {rows:,.0f} M |
| its size | × {bytes:,.0f} bytes with indexes | {gigabytes:,.0f} GB |
| WAL of the table | {ids:,.0f} runs/s raised × bytes of a run's two rows | {wal:,.0f} MB/s |
| WAL of the saves themselves | 8 kB of state each | {own:,.0f} MB/s |
| backfill | 1 billion ÷ {fill_rate:,.0f} runs/s on these 2 cores | {fill_h:.1f} h; less with more cores |

**The first thing that breaks is the host's own table, not this one**: {saves:,} saves a second with 8 kB of state are
{own:,.0f} MB of WAL a second, more than one PostgreSQL primary takes. Whoever has that many saves has partitioned or
sharded the runs already (Citus, or one database a group of workspaces); a workspace is the unit of a shard here too,
so each database gets an installation of its own, with its own `KEY_PREFIX`.

The next ones, in order, and what carries each further:

1. *One Redis*, at about 100,000 scripts a second: every shard's keys have one hash tag, so Redis Cluster spreads them
   (`REDIS_URL` may name a factory of a cluster client); half the commands go with a window in which runs repeat.
2. *One shard's flush*, when a single workspace is so busy that its ids outlast the window: `FLUSH_WINDOW_S` up, for
   what repeats costs nothing; a workspace cannot be split over shards, as one writer at a time is why the table is
   exact.
3. *Index maintenance of the table's hottest pages*: partition it by hash of the workspace (every statement names it).
4. *The sweep*, which reads runs by time: {saves:,} saves a second are {saves:,} index entries a second to look at;
   `SWEEP_PAGE` and `SWEEP_PERIOD_S` bound it, and an index on the time is a must.
"""
