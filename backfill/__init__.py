"""Backfill of history, in chunks over ranges of workspaces.

Not part of this release: history is filled by ``workflows_tasks.projection.fill``, a range at a time; docs/install.md
shows how.
"""
