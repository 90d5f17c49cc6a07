"""Search the newest run that is left for a key whose row names a run that no longer counts.

There are two ways. A *pass* reads all runs of a workspace once, and serves any number of keys. A *walk* serves one key.
It goes down the runs of the key's workspace or user from the newest, and nearly always ends soon. A walk costs 3 to 13
ms, at worst 75; a pass costs 1.5 to 4 µs a run. So the more keys a workspace has, the more runs a pass may read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from workflows_tasks.keys import text_of
from workflows_tasks.projection.fragments import compose, fragments, has_grain_of, keyed
from workflows_tasks.sql import Sql, join, rows, value
from workflows_tasks.sql import keys as array

PASS_RUNS: Final = 5_000
"""A workspace of at most so many runs is always read by a pass."""

RUNS_A_KEY: Final = 3_000
"""Runs that a pass reads in the time of one walk."""

PASS_STATEMENT_RUNS: Final = 200_000
"""About how many runs the passes of one statement read, unless one workspace has more."""

PAGES: Final = (1_000, 30_000)
"""How many runs a walk looks at, first and second, before it searches by workflow."""

WALKS: Final = 20
"""Walks in one statement."""


class Key(NamedTuple):
    """What the table has one row for; workspace and workflow as text."""

    workspace: str
    uid: str
    workflow: str


class Newest(NamedTuple):
    """The newest run of a key, as text; both None where none is left."""

    used_at: str | None
    run: str | None


NONE_LEFT: Final = Newest(None, None)


def newest(keys: Sequence[Key], *, until_s: float) -> dict[Key, Newest]:
    """Search the newest run of each key until the time is over, by at least one statement. Passes come before walks.

    Args:
        until_s: ``time.monotonic()`` after which no further statement begins.

    Returns:
        the newest run of each key that was searched.
    """
    searched: dict[Key, Newest] = {}
    stored = [key for key in keys if has_grain_of(key.uid)]
    for part, is_pass in _parts(stored, _sizes(stored)) if stored else ():
        if searched and time.monotonic() >= until_s:
            break
        searched |= _pass_over(part) if is_pass else _walk(part)
    # Nothing is left for a row of a grain that is not stored any more.
    return searched | {key: NONE_LEFT for key in keys if not has_grain_of(key.uid)}


def _parts(keys: Sequence[Key], sizes: dict[str, int | None]) -> Iterator[tuple[list[Key], bool]]:
    """Keys that one statement serves, and whether it is a pass."""
    for_pass = [key for key in keys if sizes[key.workspace] is not None]
    part: list[Key] = []
    runs = 0
    workspaces: set[str] = set()
    for key in for_pass:
        if key.workspace not in workspaces:
            size = sizes[key.workspace] or 0
            if part and runs + size > PASS_STATEMENT_RUNS:
                yield part, True
                part, runs, workspaces = [], 0, set()
            workspaces.add(key.workspace)
            runs += size
        part.append(key)
    if part:
        yield part, True
    for_walk = [key for key in keys if sizes[key.workspace] is None]
    for start in range(0, len(for_walk), WALKS):
        yield for_walk[start : start + WALKS], False


def _sizes(keys: Sequence[Key]) -> dict[str, int | None]:
    """Runs of each workspace; None where it has too many for a pass, so that its keys are walked."""
    keys_of = Counter(key.workspace for key in keys)
    limits = [max(PASS_RUNS, RUNS_A_KEY * count) for count in keys_of.values()]
    statement = compose(
        """SELECT asked.workspace, asked.most, (
            SELECT count(*) FROM (
                SELECT FROM {raw} WHERE raw.workspace = asked.workspace::{workspace_type} LIMIT asked.most + 1
            ) AS counted
        ) FROM unnest({workspaces}, {limits}) AS asked(workspace, most)""",
        workspaces=Sql("%s::text[]", (list(keys_of),)), limits=Sql("%s::bigint[]", (limits,)),
    )  # fmt: skip
    return {workspace: runs if runs <= most else None for workspace, most, runs in rows(statement)}


def _pass_over(keys: Sequence[Key]) -> dict[Key, Newest]:
    """Read all runs of the keys' workspaces once.

    Each run is looked up in a hash of the keys. ``IS TRUE`` keeps this from becoming a join. A join may be a nested
    loop: where statistics know little of a workspace yet, that would compare each run with each key.
    """
    parts = fragments()
    columns = [list(column) for column in zip(*keys, strict=True)]
    of_workspace = compose(
        "live.workspace = ANY({keys})",
        keys=array(dict.fromkeys(columns[0]), parts.workspace_type),
    )
    statement = compose(
        """
        SELECT DISTINCT ON (keyed.workspace, keyed.uid, keyed.workflow)
            {workspace}, keyed.uid, {workflow}, keyed.used_at::text, {run}
        FROM {keyed}
        WHERE ((keyed.workspace, keyed.uid, keyed.workflow) IN (
            SELECT wanted.workspace::{workspace_type}, wanted.uid, wanted.workflow::{workflow_type}
            FROM unnest({workspaces}, {uids}, {workflows}) AS wanted(workspace, uid, workflow)
        )) IS TRUE
        ORDER BY keyed.workspace, keyed.uid, keyed.workflow, keyed.used_at DESC, keyed.run DESC
        """,
        # As our columns print them, for that is what the keys were read from.
        workspace=text_of(f"keyed.workspace::{parts.workspace_type}"),
        workflow=text_of(f"keyed.workflow::{parts.workflow_type}"), run=text_of("keyed.run"),
        keyed=keyed(parts.live, of_workspace),
        workspaces=array(columns[0]), uids=array(columns[1]), workflows=array(columns[2]),
    )  # fmt: skip
    left = {Key(*key): Newest(used_at, run) for *key, used_at, run in rows(statement)}
    return {key: left.get(key, NONE_LEFT) for key in keys}


def _walk(keys: Sequence[Key]) -> dict[Key, Newest]:
    """Walk down the newest runs of each key's workspace or user. What is not met there is searched by workflow."""
    done: dict[Key, Newest] = {}
    missing = list(keys)
    for page in (*PAGES, None):
        if not missing:
            break
        walks = join(" UNION ALL ", [_walk_of(n, key, page) for n, key in enumerate(missing)])
        done |= {missing[position]: Newest(used_at, run) for position, used_at, run in rows(walks)}
        missing = [key for key in missing if key not in done]
    return done | dict.fromkeys(missing, NONE_LEFT)


def _walk_of(position: int, key: Key, page: int | None) -> Sql:
    """The walk of one key, as a branch of a UNION. Its values are constants, so that the planner knows how many runs
    this workspace has, and walks down the index instead of sorting them all."""
    parts = fragments()
    of_workflow = "live.workflow = " + value(key.workflow) + f"::{parts.workflow_type}"
    where = ["live.workspace = " + value(key.workspace) + f"::{parts.workspace_type}"]
    if key.uid:
        where.append('live."user" = ' + value(key.uid) + f"::{parts.user_type}")
    if page is None:
        where.append(of_workflow)
    return compose(
        """(
            SELECT {position} AS position, live.used_at::text AS used_at, {run} AS run FROM (
                SELECT live.workflow, live.used_at, live.run FROM {live}
                WHERE {where} ORDER BY live.used_at DESC, live.run DESC LIMIT {page}
            ) AS live
            WHERE {of_workflow} ORDER BY live.used_at DESC, live.run DESC LIMIT 1
        )""",
        position=position, run=text_of("live.run"), where=join(" AND ", where), page=page or 1,
        of_workflow=of_workflow,
    )  # fmt: skip
