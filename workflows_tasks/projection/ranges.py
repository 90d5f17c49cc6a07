"""Ranges of workspaces and runs, in the order of their keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workflows_tasks.projection.fragments import fragments
from workflows_tasks.sql import Sql, join, value


@dataclass(frozen=True, slots=True)
class Range:
    """A range of workspaces by key, as text: from ``first``, or just past ``after``, to ``last``. None is unbounded.

    It may begin inside its first workspace, just past ``after_run``, and end inside its last one, with ``last_run``. So
    there is a range between any two positions in the order of (workspace, run).
    """

    first: str | None = None
    last: str | None = None
    after: str | None = None
    after_run: str | None = None
    last_run: str | None = None

    def where(self, workspace: str, run: str | None = None) -> Sql:
        """Condition on a column of workspaces and one of their runs.

        Without ``run`` the workspaces at the ends are whole. Within one workspace it is an equality and a range of
        runs. Otherwise it is a range of workspaces, so that an index on that column serves.
        """
        kind, run_kind = fragments().workspace_type, fragments().run_type

        def of_workspace(text: str) -> Sql:
            return value(text) + f"::{kind}"

        one = self.first is not None and self.first == self.last
        bounds = [("=", self.first)] if one else [(">=", self.first), (">", self.after), ("<=", self.last)]
        where = [f"{workspace} {sign} " + of_workspace(text) for sign, text in bounds if text is not None]
        for sign, end, text in ((">", self.first, self.after_run), ("<=", self.last, self.last_run)):
            if run is None or text is None:
                continue
            limit = value(text) + f"::{run_kind}"
            if one:
                where.append(f"{run} {sign} " + limit)
            else:
                assert end is not None
                where.append(f"({workspace}, {run}) {sign} (" + of_workspace(end) + ", " + limit + ")")
        return join(" AND ", where) if where else Sql("true")


EVERYWHERE: Final = Range()
