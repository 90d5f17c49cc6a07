"""What the table must say, worked out in plain Python from the host's rows, without any of the package's SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db.models import QuerySet

from tests.hosts.adapter import Host, Truth
from workflows_tasks import conf
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.projection import backlog, changes
from workflows_tasks.projection.flush import flush


class Row(NamedTuple):
    """A row of the table, less its own key."""

    workspace: Any
    uid: str
    workflow: Any
    used_at: Any
    run: Any


def stored() -> list[Row]:
    """The table."""
    rows = WorkspaceRecentWorkflow.objects.values_list(
        "workspace_id", "uid", "published_run_id", "last_used_at", "last_run_id"
    )
    return [Row(*row) for row in rows]


def expected(host: Host) -> list[Row]:
    """The newest run of each (workspace, workflow) and of each (workspace, user, workflow); of the grains in force."""
    grains = conf.settings().grains
    # A queryset of no manager's: the host's may leave runs out.
    runs = QuerySet(host.run_model).order_by("pk").values_list("pk", flat=True)
    ranks = {pk: rank for rank, pk in enumerate(runs)}
    newest: dict[tuple[Any, str, Any], Truth] = {}
    for run in _counting(host.truths()):
        uids = {""} if conf.WORKSPACE in grains else set()
        uids |= {run.user} if conf.USER in grains and run.user else set()
        for uid in uids:
            key = (run.workspace, uid, run.workflow)
            present = newest.get(key)
            # Ties on the moment go to the higher key, in the order in which PostgreSQL has keys.
            if present is None or (run.used_at, ranks[run.run]) > (present.used_at, ranks[present.run]):
                newest[key] = run
    return [Row(*key, run.used_at, run.run) for key, run in newest.items()]


def _counting(runs: Iterable[Truth]) -> Iterable[Truth]:
    return (r for r in runs if r.counts and None not in (r.workspace, r.workflow, r.used_at))


def flush_all() -> None:
    """Flush in this process until nothing can be taken anywhere. A shard where nothing waits is left alone."""
    while changes.deal_again():
        pass
    while waiting := [shard.shard for shard in backlog.status() if shard.pending]:
        for shard in waiting:
            flush(shard)


def is_idle() -> bool:
    """Nothing waits for a flush."""
    return not any(shard.pending for shard in backlog.status())


def assert_exact(host: Host) -> list[Row]:
    """The table is what the oracle says, row for row; returns it."""
    rows = stored()
    there, true = Counter(rows), Counter(expected(host))
    assert not true - there, "missing from the table"
    assert not there - true, "in the table, but not true"
    return rows
