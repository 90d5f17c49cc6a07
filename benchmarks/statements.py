"""One statement over many runs, with and without the triggers; and one that makes rows of a workspace wrong at once."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from benchmarks.figures import Figures, ratios
from benchmarks.stage import Stage, execute
from demo.narration import step
from workflows_tasks.projection import searches
from workflows_tasks.projection.flush import flush_all

RUNS: Final = 20_000
ROUNDS: Final = 5
CASES: Final = {
    "the time of narrow rows": "UPDATE bots_savedrun SET updated_at = now() WHERE id IN (SELECT id FROM some_narrow)",
    "8 kB of state": "UPDATE bots_savedrun SET updated_at = now(), state = jsonb_build_object('o', id || some_text.t) "
    "FROM some_text WHERE id IN (SELECT id FROM some_wide)",
    "nothing relevant": "UPDATE bots_savedrun SET created_at = now() WHERE id IN (SELECT id FROM some_narrow)",
}


def measure(stage: Stage, figures: Figures) -> None:
    """The same statement in turn with the triggers on and off."""
    for name, offset in (("narrow", 0), ("wide", RUNS)):
        execute(f"CREATE TABLE some_{name} AS SELECT id FROM bots_savedrun ORDER BY id OFFSET {offset} LIMIT {RUNS}")
    execute(
        "CREATE TABLE some_text AS SELECT string_agg(md5(random()::text || i), '') AS t FROM generate_series(1, 250) i"
    )
    for case, statement in CASES.items():
        with step(f"Statements: {case}, {RUNS:,} runs") as came_of_it:
            came_of_it(_compared(figures, case, statement))
    with step("Recompute: a pass or a walk, by the number of keys") as came_of_it:
        came_of_it(_recompute(stage, figures))


def _compared(figures: Figures, case: str, statement: str) -> str:
    took: dict[str, list[float]] = {"origin": [], "replica": []}
    files = {}
    for turn in range(ROUNDS + 1):
        for role, values in took.items():
            execute(f"SET session_replication_role = {role}")
            before = _temporary_bytes()
            started = time.perf_counter()
            execute(statement)
            if turn:
                values.append(time.perf_counter() - started)
            files[role] = _temporary_bytes() - before
        execute("SET session_replication_role = origin")
        execute("TRUNCATE workflows_tasks_change")
        execute("VACUUM bots_savedrun")
    figures.add("statement", case, "without triggers", "s", took["replica"])
    figures.add("statement", case, "with triggers", "s", took["origin"])
    figures.add("statement", case, "with triggers", "MB of temporary files", [files["origin"] / 1e6])
    ratio = figures.add("statement", case, "with triggers", "× without", ratios(took["origin"], took["replica"]))
    return f"{ratio.median:.2f} × without"


def _temporary_bytes() -> int:
    ((size,),) = execute("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
    return int(size)


def _recompute(stage: Stage, figures: Figures) -> str:
    """Seconds to search keys of one workspace by each way. The flush takes the pass where it is the cheaper one."""
    workspace = stage.shapes[1]
    rows = execute(
        "SELECT workspace_id::text, uid, published_run_id::text FROM workflows_tasks_workspacerecentworkflow "
        "WHERE workspace_id = %s ORDER BY uid DESC LIMIT 500",
        [workspace.id],
    )
    keys = [searches.Key(*row) for row in rows]
    for count in (1, 10, 100, 500):
        some = keys[:count]
        if len(some) < count:
            break
        for name, way in (("pass", searches._pass_over), ("walk", _walks)):
            took = []
            for _ in range(3):
                started = time.perf_counter()
                way(some)
                took.append(1000 * (time.perf_counter() - started))
            figures.add("recompute", f"{count} keys of {workspace.runs:,} runs", name, "ms", took)
    flush_all()
    return f"{median([workspace.runs]):,.0f} runs"


def _walks(keys: list[searches.Key]) -> None:
    for start in range(0, len(keys), searches.WALKS):
        searches._walk(keys[start : start + searches.WALKS])
