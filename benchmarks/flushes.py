"""Runs a second that one worker flushes, beside the same upsert; and a flush beside a transaction held open."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from django.db import connection

from benchmarks import peers
from benchmarks.figures import Figures, ratios
from benchmarks.stage import Stage, execute
from benchmarks.timing import once_s
from demo.narration import step
from demo.servers import Process
from workflows_tasks import conf
from workflows_tasks.capture import nudge
from workflows_tasks.keys import shard_of
from workflows_tasks.projection import backlog, changes, flush

OURS: Final = "ours"
LIMIT: Final = "one SQL statement"
ANEW: Final = "one SQL statement a shard, each on a new connection"
TASKS: Final = "a task per save"

KEYS: Final[Mapping[str, str]] = {
    # Runs of one workflow of the heaviest workspace.
    "hot": """
        SELECT id FROM bots_savedrun WHERE workspace_id = 5 AND surface = 0 AND parent_version_id IS NOT NULL LIMIT %s
    """,
    # Runs as history has them.
    "skewed": """
        SELECT id FROM bots_savedrun WHERE workspace_id IS NOT NULL AND surface = 0 AND parent_version_id IS NOT NULL
        ORDER BY hashint8(id) LIMIT %s
    """,
    # Each run is of a workspace and workflow of its own.
    "uniform": """
        SELECT min(last_run_id) FROM workflows_tasks_workspacerecentworkflow
        WHERE uid = '' GROUP BY workspace_id, published_run_id ORDER BY hashint8(min(last_run_id)) LIMIT %s
    """,
}

DONE_WITHIN_S: Final = 120.0
POLL_S: Final = 0.01


def measure(stage: Stage, figures: Figures, *, runs: int, rounds: int, held_s: float) -> None:
    """Each kind of keys, every contender, in turn; then a transaction that stays open."""
    with stage.worker(conf.settings().queue, name="ours") as ours, stage.worker(peers.QUEUE, name="peer") as peer:
        for keys, chosen in KEYS.items():
            with step(f"Flushes: one worker, {keys} keys") as came_of_it:
                came_of_it(_rates(figures, keys, _ways(stage, chosen, runs, ours, peer), rounds))
    with step(f"Flushes beside a transaction that is held open for {held_s:.0f} s") as came_of_it:
        came_of_it(_held_open(figures, held_s))


def _ways(stage: Stage, chosen: str, count: int, ours: Process, peer: Process) -> dict[str, Callable[[], float]]:
    """Each contender's round, as runs a second."""
    runs, few = _runs(chosen, count), _runs(chosen, count // 100)
    parts = _by_shard(runs)
    return {
        LIMIT: lambda: _statement([runs]),
        ANEW: lambda: _statement(parts, anew=True),
        OURS: lambda: _ours(ours, runs, list(parts)),
        TASKS: lambda: _peer(stage, peer, few),
    }


def _rates(figures: Figures, keys: str, ways: Mapping[str, Callable[[], float]], rounds: int) -> str:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    draw, order = random.Random(5), list(ways)
    for turn in range(rounds + 1):
        draw.shuffle(order)
        for name in order:
            rate = ways[name]()
            if turn:  # the first round warms everybody up
                rates[name].append(rate)
        execute("VACUUM workflows_tasks_workspacerecentworkflow")
    for name, values in rates.items():
        figures.add("flush", keys, name, "runs/s", values)
    for other, unit in ((LIMIT, "× one statement"), (ANEW, "× a new connection a shard"), (TASKS, "× a task per save")):
        figures.add("flush", keys, OURS, unit, ratios(rates[OURS], rates[other]))
    return ", ".join(f"{name} {sorted(values)[len(values) // 2]:,.0f}/s" for name, values in rates.items())


def _runs(chosen: str, count: int) -> list[int]:
    runs = [run for (run,) in execute(chosen, [count])]
    random.Random(3).shuffle(runs)
    return runs


def _save(runs: Sequence[int], *, captured: bool) -> None:
    """As if each were saved just now, later ones later."""
    execute(f"SET session_replication_role = {'origin' if captured else 'replica'}")
    execute(
        """
        UPDATE bots_savedrun AS run SET updated_at = now() + saved.position * interval '1 microsecond'
        FROM unnest(%s::bigint[]) WITH ORDINALITY AS saved(id, position) WHERE run.id = saved.id
        """,
        [list(runs)],
    )
    execute("SET session_replication_role = origin")


def _statement(parts: Any, *, anew: bool = False) -> float:
    """The limit: a prepared statement and a commit for each part, nothing else. Runs a second.

    Args:
        anew: each part on a new connection, as Celery gives each task one.
    """
    each = list(parts.values()) if isinstance(parts, dict) else parts
    runs = [run for part in each for run in part]
    _save(runs, captured=False)
    connection.ensure_connection()

    def write() -> None:
        for part in each:
            if anew:
                connection.close()
                connection.ensure_connection()
            connection.connection.execute(peers.UPSERT, [list(part)], prepare=True)

    return len(runs) / once_s(write)


def _by_shard(runs: Sequence[int]) -> dict[int, list[int]]:
    """As flushes take them: the runs of each shard."""
    parts: dict[int, list[int]] = {}
    for run, workspace in execute("SELECT id, workspace_id::text FROM bots_savedrun WHERE id = ANY(%s)", [list(runs)]):
        parts.setdefault(shard_of(workspace, conf.settings().shards), []).append(run)
    return parts


def _ours(worker: Process, runs: Sequence[int], shards: Sequence[int]) -> float:
    with _stopped(worker):
        _save(runs, captured=True)
        for shard in shards:
            nudge.send(shard)
    return len(runs) / _seconds_until(lambda: not backlog.shards_pending(), runs)  # which counts nothing


def _peer(stage: Stage, worker: Process, runs: Sequence[int]) -> float:
    _save(runs, captured=False)
    with _stopped(worker):
        for run in runs:
            peers.note_use.apply_async((run,), queue=peers.QUEUE)
    return len(runs) / _seconds_until(lambda: stage.idle(peers.QUEUE), runs)


@contextmanager
def _stopped(worker: Process) -> Iterator[None]:
    os.killpg(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(worker.pid, signal.SIGCONT)


def _seconds_until(done: Callable[[], bool], runs: Sequence[int]) -> float:
    """Seconds until nothing waits.

    Raises:
        RuntimeError: it took too long.
    """
    started = time.perf_counter()
    while not done():
        if time.perf_counter() - started > DONE_WITHIN_S:
            raise RuntimeError(f"After {DONE_WITHIN_S:.0f} s not all of {len(runs)} runs are in the table.")
        time.sleep(POLL_S)
    return time.perf_counter() - started


def _held_open(figures: Figures, held_s: float) -> str:
    """What taking alone and a flush cost while vacuum can clean neither log nor table, at 350 saves a second."""
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("SELECT txid_current()")
    runs = _runs(KEYS["skewed"], 350)
    took: list[float] = []
    taking: list[float] = []
    shards = range(conf.settings().shards)
    started = time.monotonic()
    while time.monotonic() - started < held_s:
        begun = time.monotonic()
        _save(runs, captured=True)
        taking.append(1000 * once_s(lambda: [changes.take_runs(shard) for shard in shards]))
        took.append(1000 * once_s(flush.flush_all))
        time.sleep(max(1.0 - (time.monotonic() - begun), 0))
    other.rollback()
    other.close()
    fifth = max(len(took) // 5, 1)
    figures.add("held open", "first fifth", OURS, "ms to take 350 changes", taking[:fifth])
    figures.add("held open", "last fifth", OURS, "ms to take 350 changes", taking[-fifth:])
    figures.add("held open", "first fifth", OURS, "ms for 350 changes", took[:fifth])
    last = figures.add("held open", "last fifth", OURS, "ms for 350 changes", took[-fifth:])
    execute("VACUUM workflows_tasks_change")
    return f"{last.median:.0f} ms for 350 changes at the end"
