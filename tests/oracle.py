"""What the table must say, worked out in plain Python from the host's rows, without any of the package's SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from tests.hosts.adapter import Host, Truth
from workflows_tasks import inbox
from workflows_tasks.flush import flush
from workflows_tasks.models import WorkspaceRecentWorkflow

MOST_ROUNDS = 20


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
    """Both grains: the newest run of each (workspace, workflow) and of each (workspace, user, workflow)."""
    ranks = {
        pk: rank for rank, pk in enumerate(host.run_model._base_manager.order_by("pk").values_list("pk", flat=True))
    }
    newest: dict[tuple[Any, str, Any], Truth] = {}
    for run in _counting(host.truths()):
        for uid in {"", run.user or ""}:
            key = (run.workspace, uid, run.workflow)
            present = newest.get(key)
            # Ties on the moment go to the higher key, in the order in which PostgreSQL has keys.
            if present is None or (run.used_at, ranks[run.run]) > (present.used_at, ranks[present.run]):
                newest[key] = run
    return [Row(*key, run.used_at, run.run) for key, run in newest.items()]


def _counting(runs: Iterable[Truth]) -> Iterable[Truth]:
    return (r for r in runs if r.counts and None not in (r.workspace, r.workflow, r.used_at))


def flush_all() -> None:
    """Flush every shard, in this process, until nothing is pending anywhere."""
    for _ in range(MOST_ROUNDS):
        pending = [shard.shard for shard in inbox.status() if shard.pending]
        if not pending:
            return
        for shard in pending:
            flush(shard)
    raise AssertionError(f"still pending after {MOST_ROUNDS} rounds: {inbox.status()}")


def idle() -> bool:
    """Nothing is pending, and nothing is claimed, which a worker may be writing.

    Asked twice: what goes from one shard to another may be in neither where it is looked for.
    """
    return not any(shard.pending or shard.claims for _ in range(2) for shard in inbox.status())


def assert_exact(host: Host) -> list[Row]:
    """The table is what the oracle says, row for row; returns it."""
    rows = stored()
    there, true = Counter(rows), Counter(expected(host))
    assert not true - there, "missing from the table"
    assert not there - true, "in the table, but not true"
    return rows
