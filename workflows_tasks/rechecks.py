"""Have runs looked at again after writes that no trigger saw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.db.models import Model, QuerySet

from workflows_tasks import keys
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.host import host
from workflows_tasks.projection import changes
from workflows_tasks.projection.fragments import compose, fragments
from workflows_tasks.sql import Sql

BATCH: Final = 10_000


def recheck(runs: QuerySet[Any] | Iterable[Any]) -> int:
    """Log runs as changed, as a trigger would; the next flush looks at them. An operator's tool.

    Only writes that were made with triggers off need it: see docs/operate.md. Such a write may have moved a run to
    another workspace. Then the old workspace is looked at too, if a row there still names the run.

    Args:
        runs: a queryset of the run model, instances, or primary keys.

    Returns:
        how many changes were logged.

    Raises:
        InvalidArgument: something among them is no run and no key of one. Nothing was logged.
    """
    if isinstance(runs, QuerySet):
        runs = runs.order_by().values_list("pk", flat=True).iterator() if _is_of_runs(runs) else runs
    run_keys = [_key(run) for run in runs]
    return sum(_log(run_keys[start : start + BATCH]) for start in range(0, len(run_keys), BATCH))


def _is_of_runs(runs: QuerySet[Any]) -> bool:
    if not issubclass(runs.model, host().run):
        raise InvalidArgument(f"runs is a queryset of {runs.model.__name__}; expected {host().run.__name__}.")
    return True


def _key(run: Any) -> Any:
    the_host = host()
    if isinstance(run, Model) and not isinstance(run, the_host.run):
        raise InvalidArgument(f"{run!r} is a {type(run).__name__}; expected a {the_host.run.__name__} or its key.")
    key = run.pk if isinstance(run, Model) else run
    if key is None:
        raise InvalidArgument(f"{run!r} was never saved.")
    return keys.database_value(the_host.run_key, key)


def _log(run_keys: list[Any]) -> int:
    """Log these runs in the workspaces that they are in, and in those whose rows still name them."""
    parts = fragments()
    named = Sql(f"%s::{parts.run_type}[]", (run_keys,))
    return changes.log_selected(
        compose(
            """SELECT raw.workspace, raw.run FROM {raw} WHERE raw.run = ANY({named})
            UNION SELECT stored.workspace_id, stored.last_run_id FROM {table} AS stored
            WHERE stored.last_run_id = ANY({named})""",
            named=named,
        )
    )
