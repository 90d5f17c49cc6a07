"""Recent workflows, denormalized: a small table of what each workspace and user used last, kept exact.

The pipeline, a module a step::

    signals         a run was saved or deleted           ─┐
    announcements   its id, once per transaction, on commit │ the request's part:
    inbox           a Redis set per shard, coalescing       │ no SQL, one round trip
    dispatch        one flush message per shard and window ─┘
    tasks           what Celery runs: flush, rescue        ─┐
    flush           claim ▸ write ▸ hand on ▸ acknowledge   │ the worker's part
    projection      the only writer of the table           ─┘
    models          WorkspaceRecentWorkflow
    reads           recent_workflows(): one index range scan

``conf`` has every setting, ``host`` finds what they name in the host's models, ``checks`` reports what is wrong with
either, ``events`` has every log line and metric, ``queues`` the Celery queues, routes and beat entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflows_tasks.announcements import announce
    from workflows_tasks.reads import recent_workflows

__all__ = ["announce", "recent_workflows"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # A host's models module may import these names before Django's apps are loaded, so nothing is imported until used.
    if name in __all__:
        from importlib import import_module

        home = {"announce": "announcements", "recent_workflows": "reads"}[name]
        return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
