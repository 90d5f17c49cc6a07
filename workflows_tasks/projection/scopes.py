"""Scopes: resolve one into changes of the runs that matter, or split it if it names too many.

One transaction resolves a scope. Rows advance to the newest of the scope's runs. If the scope names a row that is not
true, the row's run is logged as a change. Then the scope is forgotten.

It is not enough to log a change of the newest run. If that run were deleted before the change is flushed, no row would
name it, and nobody would look for the next newest.
"""

from __future__ import annotations

from typing import Final

from workflows_tasks.capture.tables import tables
from workflows_tasks.capture.triggers import EVERY_RUN
from workflows_tasks.host import host
from workflows_tasks.keys import text_of
from workflows_tasks.projection import changes, writer
from workflows_tasks.projection.changes import Scope
from workflows_tasks.projection.fragments import compose, fragments, in_shard, matching, newest_per_key, not_true
from workflows_tasks.sql import Sql, join, rows, value

MOST_RUNS: Final = 20_000
"""A scope of at most this many runs, and rows, is resolved by one statement. A larger one is split."""

WORKSPACES_AT_ONCE: Final = 200
"""Workspaces that "every run" is split into by one statement."""

FEW_RUNS: Final = 10
"""A refused scope of at most this many runs is not split further. Each of its runs is logged as a change."""


def lookups() -> list[str]:
    """Every lookup that a trigger may write."""
    return sorted({part.lookup for table in tables(host()) for part in table.scopes} | {host().workspace.name})


def resolve(shard: int, scope: Scope) -> int:
    """Replace a scope by changes of runs or by smaller scopes, in the caller's transaction.

    Returns:
        how many smaller scopes; 0 if it was resolved.
    """
    if scope.lookup not in {EVERY_RUN, *lookups()}:
        # It is from before a deploy that renamed a field of its lookup. Nobody can follow it now.
        every = scope._replace(lookup=EVERY_RUN, workspace=None, keys=(None,), low=None, high=None)
        return split(shard, every, MOST_RUNS)
    if scope.lookup == EVERY_RUN:
        return split(shard, scope.first(1), MOST_RUNS)
    if _size(shard, scope) > MOST_RUNS:
        if len(scope.keys) > 1:
            return resolve(shard, scope.first(len(scope.keys) // 2))
        return split(shard, scope, MOST_RUNS)
    writer.advance(_newest(shard, scope))
    changes.log_selected(_rows_not_true(shard, scope))
    changes.forget(scope.ids)
    return 0


def split(shard: int, scope: Scope, most: int) -> int:
    """Replace a scope by smaller ones: one for each workspace, then one for each ``most`` runs. Returns how many."""
    if scope.lookup == EVERY_RUN:
        parts = _next_workspaces(shard, scope)
    elif _of_workspace(scope):
        parts = _ranges(shard, scope._replace(workspace=scope.keys[0]), most)
    elif scope.workspace is None:
        parts = [scope._replace(workspace=workspace) for workspace in _workspaces(shard, scope)]
    else:
        parts = _ranges(shard, scope, most)
    changes.log_scopes(shard, parts)
    changes.forget(scope.ids)
    return len(parts)


def split_refused(shard: int, scope: Scope) -> int:
    """Split a scope in which the database refuses something. A small one becomes changes of its runs."""
    if scope.lookup != EVERY_RUN:
        size = _size(shard, scope)
        if size <= FEW_RUNS:
            named = compose("SELECT matched.workspace, matched.run FROM {matched}", matched=_matched(shard, scope))
            stored = compose(
                "SELECT stored.workspace_id, stored.last_run_id FROM {table} AS stored WHERE {named}",
                named=_named(shard, scope),
            )  # fmt: skip
            changes.log_selected(join(" UNION ALL ", [named, stored]))
            changes.forget(scope.ids)
            return 0
        return split(shard, scope, max(size // 8, FEW_RUNS))
    return split(shard, scope, FEW_RUNS)


def names_run(run: str) -> Sql:
    """Condition on ``change``, a scope in the log: it names a row's run. The caller checks the workspace.

    A scope of the whole workspace names every row there, even if the row's run is gone. Any other scope names the runs
    from which its lookup leads to its key, whether they count or not.

    Args:
        run: SQL of the run's key.
    """
    kind = fragments().run_type
    in_range = f"""(change.low IS NULL OR {run} > change.low::{kind})
        AND (change.high IS NULL OR {run} <= change.high::{kind})"""
    of_workspace = "change.lookup = " + value(host().workspace.name)
    by_lookup = [
        of_workspace,
        *(
            compose(
                "(change.lookup = {lookup} AND EXISTS (SELECT FROM {matched} WHERE matched.run = {run}))",
                lookup=value(lookup),
                run=run,
                matched=_matched_by_change(lookup),
            )
            for lookup in lookups()
            if lookup != host().workspace.name
        ),
    ]
    return compose(
        "(change.lookup NOT IN ({known}) OR ({in_range} AND ({by_lookup})))",
        known=join(", ", [value(lookup) for lookup in lookups()]), in_range=in_range,
        by_lookup=join(" OR ", by_lookup),
    )  # fmt: skip


def _matched_by_change(lookup: str) -> Sql:
    return matching(lookup, Sql("ARRAY[change.key]"))


def _keys(scope: Scope) -> Sql:
    return value(list(scope.keys), "text[]")


def _of_workspace(scope: Scope) -> bool:
    return scope.lookup == host().workspace.name


def _in_range(run: str, scope: Scope) -> Sql:
    kind = fragments().run_type
    limits = [
        f"{run} {sign} " + value(text) + f"::{kind}" for sign, text in ((">", scope.low), ("<=", scope.high))
        if text is not None
    ]  # fmt: skip
    return join(" AND ", limits) if limits else Sql("true")


def _in_workspace(workspace: str, shard: int, scope: Scope) -> Sql:
    """Condition: a workspace is the scope's, or, where it may be any, one of the shard."""
    if _of_workspace(scope):
        return f"{workspace} = ANY((" + _keys(scope) + f")::{fragments().workspace_type}[])"
    if scope.workspace is None:
        return Sql(in_shard(workspace, shard))
    return f"{workspace} = " + value(scope.workspace) + f"::{fragments().workspace_type}"


def _matched(shard: int, scope: Scope) -> Sql:
    """``matched(run, workspace)``: every run of the scope, whether it counts or not."""
    return compose(
        "(SELECT matched.run, matched.workspace FROM {matched} WHERE {in_workspace} AND {in_range}) "
        "AS matched(run, workspace)",
        matched=matching(scope.lookup, _keys(scope)), in_workspace=_in_workspace("matched.workspace", shard, scope),
        in_range=_in_range("matched.run", scope),
    )  # fmt: skip


def _named(shard: int, scope: Scope) -> Sql:
    """Condition on ``stored``: the scope names the row's run, or the row is of the workspace that the scope names."""
    in_workspace = _in_workspace("stored.workspace_id", shard, scope)
    if _of_workspace(scope):
        return compose(
            "{in_workspace} AND {in_range}",
            in_workspace=in_workspace, in_range=_in_range("stored.last_run_id", scope),
        )  # fmt: skip
    return compose(
        "{in_workspace} AND stored.last_run_id IN (SELECT matched.run FROM {matched})",
        in_workspace=in_workspace, matched=_matched(shard, scope),
    )  # fmt: skip


def _size(shard: int, scope: Scope) -> int:
    """Runs of a scope, or the runs that its rows name if these are more. Counting runs stops just past ``MOST_RUNS``.

    Not rows: two may name one run, and a scope of few runs cannot be cut, however many rows it has. Runs of other
    shards count too, or a shard that has none of a million would read them all.
    """
    most = MOST_RUNS + 1
    sizes = [
        compose("SELECT count(*) AS size FROM (SELECT FROM {matched} WHERE {where} LIMIT {most}) AS counted",
                matched=matching(scope.lookup, _keys(scope)), most=most,
                where=_in_range("matched.run", scope) if scope.workspace is None and not _of_workspace(scope)
                else _in_workspace("matched.workspace", shard, scope) + " AND " + _in_range("matched.run", scope)),
    ]  # fmt: skip
    if _of_workspace(scope):
        sizes.append(
            compose(
                "SELECT count(DISTINCT stored.last_run_id) FROM {table} AS stored WHERE {named}",
                named=_named(shard, scope),
            )
        )
    return max(int(size) for (size,) in rows(join(" UNION ALL ", sizes)))


def _rows_not_true(shard: int, scope: Scope) -> Sql:
    return compose(
        "SELECT stored.workspace_id, stored.last_run_id FROM {table} AS stored WHERE {named} AND {not_true}",
        named=_named(shard, scope), not_true=not_true(),
    )  # fmt: skip


def _newest(shard: int, scope: Scope) -> Sql:
    """``newest``: for each key, the newest of the scope's runs that count."""
    where = _in_workspace("live.workspace", shard, scope)
    if _of_workspace(scope):
        where = where + " AND " + _in_range("live.run", scope)
    else:
        where = where + " AND live.run IN (SELECT matched.run FROM " + _matched(shard, scope) + ")"
    return newest_per_key(fragments().live, where)


def _next_workspaces(shard: int, scope: Scope) -> list[Scope]:
    """The next workspaces past ``low`` as scopes of their own, and the rest as one that begins after them."""
    begin = None if scope.low is None else value(scope.low) + f"::{fragments().workspace_type}"
    statement = compose(
        """
        WITH RECURSIVE _spaces(workspace, number) AS (
            SELECT {first}, 1
            UNION ALL
            SELECT {next}, number + 1 FROM _spaces AS spaces WHERE workspace IS NOT NULL AND number < {most}
        )
        SELECT {text}, {of_shard} FROM _spaces WHERE workspace IS NOT NULL ORDER BY number
        """,
        first=_workspace_after(begin), next=_workspace_after("spaces.workspace"), most=WORKSPACES_AT_ONCE,
        text=text_of("workspace"), of_shard=in_shard("workspace", shard),
    )  # fmt: skip
    workspaces = rows(statement)
    name = host().workspace.name
    parts = [
        scope._replace(workspace=workspace, lookup=name, keys=(workspace,), low=None)
        for workspace, is_ours in workspaces if is_ours
    ]  # fmt: skip
    if len(workspaces) == WORKSPACES_AT_ONCE:
        parts.append(scope._replace(low=workspaces[-1][0]))
    return parts


def _workspace_after(after: Sql | str | None) -> Sql:
    """Query of the next workspace past ``after`` that has runs or rows."""
    past = {
        column: "true" if after is None else compose("{column} > {after}", column=column, after=after)
        for column in ("raw.workspace", "stored.workspace_id")
    }
    return compose(
        """(SELECT workspace FROM (
            (SELECT raw.workspace FROM {raw} WHERE {raw_past} AND raw.workspace IS NOT NULL
             ORDER BY raw.workspace LIMIT 1)
            UNION ALL
            (SELECT stored.workspace_id FROM {table} AS stored WHERE {stored_past}
             ORDER BY stored.workspace_id LIMIT 1)
        ) AS both_(workspace) ORDER BY workspace LIMIT 1)""",
        raw_past=past["raw.workspace"], stored_past=past["stored.workspace_id"],
    )  # fmt: skip


def _workspaces(shard: int, scope: Scope) -> list[str]:
    """Workspaces in which the scope has runs. If a row of another workspace still names a run, that run was moved away,
    and the move logged a change of its own."""
    statement = compose(
        "SELECT DISTINCT {text} FROM {matched}", text=text_of("matched.workspace"), matched=_matched(shard, scope)
    )
    return [workspace for (workspace,) in rows(statement)]


def _ranges(shard: int, scope: Scope, most: int) -> list[Scope]:
    """Cut a scope into ranges of ``most`` runs. At its two ends the limits are the scope's own, if it has any.

    Cuts are in the order of the keys, not of their texts: else the first range could be the scope itself again.
    """
    runs = compose("SELECT matched.run FROM {matched}", matched=_matched(shard, scope))
    if _of_workspace(scope):
        runs = runs + compose(
            " UNION SELECT stored.last_run_id FROM {table} AS stored WHERE {named}",
            named=_named(shard, scope),
        )  # fmt: skip
    statement = compose(
        """SELECT {text} FROM (
            SELECT runs.run, row_number() OVER (ORDER BY runs.run) AS position FROM ({runs}) AS runs(run)
        ) AS numbered WHERE mod(position, {most}) = 0 ORDER BY numbered.run""",
        text=text_of("run"), runs=runs, most=most,
    )  # fmt: skip
    cuts = [run for (run,) in rows(statement)]
    return [
        scope._replace(low=low, high=high)
        for low, high in zip([scope.low, *cuts], [*cuts, scope.high], strict=True)
        if low is None or low != high
    ]
