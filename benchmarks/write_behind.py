"""Runs a second that one worker follows, and what it writes for them.

A real Celery worker with one process is stopped (``SIGSTOP``), the runs are saved and their messages sent; then it goes
on, and the time until all of it is done counts. The limit is the same recompute as one prepared statement.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from django.db import connection

from benchmarks import peers
from benchmarks.amounts import Amounts
from benchmarks.figures import Figures, ratios
from benchmarks.stage import Stage, execute
from benchmarks.timing import once_s
from demo.narration import step
from demo.servers import Process
from workflows_tasks import announce, conf, inbox, projection

OURS: Final = "ours"
LIMIT: Final = "one SQL statement"
ANEW: Final = "one SQL statement a shard, each on a new connection"
TASKS: Final = "a task per save"
BATCHES: Final = "celery-batches"

WINDOW: Final = 350
"""Saves of one flush window at the load that the goals speak of."""

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


def measure(stage: Stage, figures: Figures, *, amounts: Amounts, rounds: int) -> None:
    """Each kind of keys, every contender, in turn."""
    with ExitStack() as stack:
        ours = stack.enter_context(stage.worker(conf.settings().queue, name="ours"))
        peer = stack.enter_context(stage.worker(peers.QUEUE, prefetch=peers.BATCH, name="peer"))
        for keys, chosen in KEYS.items():
            with step(f"Write-behind: one worker, {keys} keys") as came_of_it:
                came_of_it(_rates(figures, keys, _ways(stage, chosen, amounts, ours, peer), rounds))
                _rows(figures, keys, chosen)


def _ways(stage: Stage, chosen: str, amounts: Amounts, ours: Process, peer: Process) -> dict[str, Callable[[], float]]:
    """Each contender's round, as runs a second."""
    runs, of_tasks, of_batches = (_runs(chosen, n) for n in (amounts.ours, amounts.tasks, amounts.batches))
    shards = _by_shard(runs)
    return {
        LIMIT: lambda: _statement([runs]),
        ANEW: lambda: _statement(shards, anew=True),
        OURS: lambda: _ours(ours, runs),
        TASKS: lambda: _peer(stage, peer, peers.note_use, of_tasks),
        BATCHES: lambda: _peer(stage, peer, peers.note_uses, of_batches),
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
        figures.add("write-behind", keys, name, "runs/s", values)
    for other, unit in (
        (LIMIT, "× one statement"),
        (ANEW, "× a new connection a shard"),
        (BATCHES, "× celery-batches"),
    ):
        figures.add("write-behind", keys, OURS, unit, ratios(rates[OURS], rates[other]))
    return ", ".join(f"{name} {sorted(values)[len(values) // 2]:,.0f}/s" for name, values in rates.items())


def _runs(chosen: str, count: int) -> list[int]:
    runs = [run for (run,) in execute(chosen, [count])]
    random.Random(3).shuffle(runs)
    return runs


def _save(runs: Sequence[int]) -> None:
    """As if each were saved just now, later ones later."""
    execute(
        """
        UPDATE bots_savedrun AS run SET updated_at = now() + saved.position * interval '1 microsecond'
        FROM unnest(%s::bigint[]) WITH ORDINALITY AS saved(id, position) WHERE run.id = saved.id
        """,
        [list(runs)],
    )


def _statement(parts: Sequence[Sequence[int]], *, anew: bool = False) -> float:
    """The limit: a prepared statement and a commit for each part, nothing else. Runs a second.

    Args:
        anew: each part on a new connection, as Celery gives each task one.
    """
    runs = [run for part in parts for run in part]
    _save(runs)
    connection.ensure_connection()

    def write() -> None:
        for part in parts:
            if anew:
                connection.close()
                connection.ensure_connection()
            connection.connection.execute(peers.UPSERT, [list(part)], prepare=True)

    return len(runs) / once_s(write)


def _by_shard(runs: Sequence[int]) -> list[list[int]]:
    """As flushes take them: the runs of each shard."""
    parts: dict[int, list[int]] = {}
    for run, workspace in execute("SELECT id, workspace_id FROM bots_savedrun WHERE id = ANY(%s)", [list(runs)]):
        parts.setdefault(inbox.shard_of(workspace), []).append(run)
    return list(parts.values())


def _ours(worker: Process, runs: Sequence[int]) -> float:
    _save(runs)
    with _stopped(worker):
        announce(runs)
        time.sleep(conf.settings().flush_window_s)  # the messages are for the window's end
    return len(runs) / _seconds_until(_flushed, runs)


def _peer(stage: Stage, worker: Process, task: object, runs: Sequence[int]) -> float:
    _save(runs)
    with _stopped(worker):
        for run in runs:
            task.apply_async((run,), queue=peers.QUEUE)  # type: ignore[attr-defined]
    return len(runs) / _seconds_until(lambda: stage.idle(peers.QUEUE), runs)


@contextmanager
def _stopped(worker: Process) -> Iterator[None]:
    os.killpg(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(worker.pid, signal.SIGCONT)


def _seconds_until(done: Callable[[], bool], runs: Sequence[int]) -> float:
    """Seconds until nothing waits and every row is as it should be, which is only looked at then: it costs.

    Raises:
        RuntimeError: the rows were not right in time.
    """
    started = time.perf_counter()
    while not done() or not _right(runs):
        if time.perf_counter() - started > DONE_WITHIN_S:
            raise RuntimeError(f"After {DONE_WITHIN_S:.0f} s not all of {len(runs)} runs are in the table.")
        time.sleep(POLL_S)
        ended = time.perf_counter()
    return ended - started


def _flushed() -> bool:
    return not any(shard.pending or shard.claims for shard in inbox.status())


def _right(runs: Sequence[int]) -> bool:
    """Every key of these runs has a row that is at least as new as they are."""
    ((late,),) = execute(
        """
        SELECT EXISTS (
            SELECT FROM bots_savedrun AS run
            JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
            LEFT JOIN workflows_tasks_workspacerecentworkflow AS stored
              ON (stored.workspace_id, stored.uid, stored.published_run_id)
               = (run.workspace_id, '', version.published_run_id)
            WHERE run.id = ANY(%s) AND coalesce(stored.last_used_at, '-infinity') < run.updated_at
        )
        """,
        [list(runs)],
    )
    return not late


def _rows(figures: Figures, keys: str, chosen: str) -> None:
    """Rows written and messages sent for each run of a window, as each contender gathers them; counted here."""
    runs = _runs(chosen, WINDOW)
    written = {
        OURS: _written_by_us(runs),
        TASKS: _written_in_parts(runs, 1),
        BATCHES: _written_in_parts(runs, peers.BATCH),
    }
    for name, rows in written.items():
        figures.add("write-behind", keys, name, "rows written/run", [rows / len(runs)])
    shards = len({inbox.shard_of(workspace) for (workspace,) in execute(_WORKSPACES, [runs])})
    for name, messages in {OURS: shards, TASKS: len(runs), BATCHES: len(runs)}.items():
        figures.add("write-behind", keys, name, "messages/run", [messages / len(runs)])


_WORKSPACES: Final = "SELECT DISTINCT workspace_id FROM bots_savedrun WHERE id = ANY(%s)"


def _written_by_us(runs: Sequence[int]) -> int:
    _save(runs)
    return sum(projection.write(shard, runs).rows for shard in range(conf.settings().shards))


def _written_in_parts(runs: Sequence[int], size: int) -> int:
    _save(runs)
    written = 0
    with connection.cursor() as cursor:
        for start in range(0, len(runs), size):
            cursor.execute(peers.UPSERT, [list(runs[start : start + size])])
            written += cursor.rowcount
    return written
