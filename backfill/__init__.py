"""Fills millions of runs of history into the table, while live traffic goes on.

::

    runner      what can be asked: plan, start, pause, resume, cancel, retry, parallel, verify, status
    planner     counts runs per workspace, packs them into chunks        ─┐ before
    planning    stores that, once                                        ─┘
    tasks       tick: asks for workers · work: claims and works          ─┐
    leases      who works on which chunk                                  │ while it runs
    work        batch by batch: fill, commit, look; or compare            │
    course      how it goes on after a failure, and when all is done      │
    throttle    why it waits · pace: how large a batch is                ─┘
    progress    how far it is, and when it will be done
    covered     whether a workspace's history is in · shadow: the old query beside the table
    operations  EnqueueBackfill, for a host's migrations
    models      Run, Chunk, Event · states: every change of status, and why
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backfill.covered import Coverage, coverage
    from backfill.operations import EnqueueBackfill

__all__ = ["Coverage", "EnqueueBackfill", "coverage"]


def __getattr__(name: str) -> Any:
    # A host's migrations and views import these names before Django's apps are loaded; nothing is imported until used.
    if name in __all__:
        from importlib import import_module

        home = "operations" if name == "EnqueueBackfill" else "covered"
        return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
