"""System checks of the backfill; those of its settings are ``workflows_tasks.checks``."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.db import router
from django.utils.module_loading import import_string

from workflows_tasks import conf, history
from workflows_tasks.errors import ConfigurationError


def register() -> None:
    """Register every check of this package."""
    checks.register(check_database)
    checks.register(check_throttle)


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


def check_throttle(**_: Any) -> list[checks.CheckMessage]:
    """``BACKFILL_THROTTLE`` is a callable, if it is given."""
    try:
        path = conf.settings().backfill_throttle
        if not path or callable(import_string(path)):
            return []
        what = "is no callable"
    except ConfigurationError:
        return []
    except ImportError as error:
        what = f"cannot be imported ({error})"
    return [
        checks.Error(
            f"{conf.NAME}['BACKFILL_THROTTLE'] {what}; a backfill would wait for ever.",
            hint="Give the dotted path of a callable () -> str | None.",
            id="backfill.E002",
        )
    ]
