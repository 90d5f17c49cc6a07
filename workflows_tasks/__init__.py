"""Recent workflows, denormalized: a small table of what each workspace and user used last, kept exact.

The way of the data, a folder a step::

    capture      triggers write a change into the log, in the writer's transaction; a nudge after a Django save
    projection   a flush takes changes, writes the table, and forgets them, in one transaction
    reads        recent_workflows(): one range of an index
    comparison   table and runs side by side: verify, audit
    monitoring   what is counted, and what is wrong

``conf`` has every setting. ``host`` finds what they name in the host's models, ``filters`` what a filter reads there.
``keys`` makes text of a key, ``sql`` executes SQL with its parameters. ``tasks`` is what Celery runs, ``tick`` what
beat does. ``history`` is the door for whoever fills history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflows_tasks.reads import recent_workflows
    from workflows_tasks.rechecks import recheck

__all__ = ["recent_workflows", "recheck"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # A host's models module may import these names before Django's apps are loaded, so nothing is imported until used.
    if name in __all__:
        from importlib import import_module

        home = {"recheck": "rechecks", "recent_workflows": "reads"}[name]
        return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
