"""The system check of the backfill; those of its settings are ``workflows_tasks.checks``."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.db import router

from workflows_tasks import history
from workflows_tasks.errors import ConfigurationError


@checks.register
def check_database(**_: Any) -> list[checks.CheckMessage]:
    """A chunk's position is committed with the rows that it stands for."""
    from backfill.models import Chunk

    try:
        database = history.database()
    except ConfigurationError:
        return []  # the checks of the settings say why
    ours = router.db_for_write(Chunk)
    if ours == database:
        return []
    return [
        checks.Error(
            f"Runs are written to database {database!r} but backfills to {ours!r}; a chunk's rows and its position "
            "could not be committed together.",
            hint="Route the app backfill to the database of the runs.",
            id="backfill.E001",
        )
    ]
