"""What the loose index scan costs a save: the WAL of the two indexes that it needs on the runs, one for each grain."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks import saves
from benchmarks.figures import Figures
from benchmarks.stage import Stage, execute
from demo.narration import step

STATE_BYTES: Final = 8_000

_SET_UP: Final = (
    "ALTER TABLE bots_savedrun ADD COLUMN published_run_id bigint",
    "CREATE INDEX ON bots_savedrun (workspace_id, published_run_id, updated_at DESC, id DESC) WHERE surface = 0",
    "CREATE INDEX ON bots_savedrun (workspace_id, uid, published_run_id, updated_at DESC, id DESC) WHERE surface = 0",
)
_PLACE: Final = """
    UPDATE bots_savedrun AS run SET published_run_id = version.published_run_id
    FROM bots_publishedrunversion AS version WHERE version.id = run.parent_version_id AND run.id = ANY(%s)
"""
_TEAR_DOWN: Final = "ALTER TABLE bots_savedrun DROP COLUMN published_run_id"  # and its indexes with it


def measure(stage: Stage, figures: Figures) -> None:
    """Bytes of WAL that a bare save writes more with the column and the indexes, window by window."""
    runs = saves.under_way(stage, STATE_BYTES)

    def windows() -> list[float]:
        with saves.Receivers().installed():
            return [saves.written(partial(saves.window, runs)) for _ in range(saves.WINDOWS)]

    with step("Saves: WAL of a loose index scan's indexes") as came_of_it:
        without = windows()
        for statement in _SET_UP:
            execute(statement)
        execute(_PLACE, [[run.pk for run in runs]])
        added = [one - other for one, other in zip(windows(), without, strict=True)]
        execute(_TEAR_DOWN)
        case = saves.wal_case(saves.UNDER_WAY, STATE_BYTES)
        figures.add("save", case, "loose index scan, its indexes", "bytes", added)
        came_of_it(f"{sum(added) / len(added):,.0f} bytes a save more")
