"""The log: one line for everything that happens to a backfill. Its values are fields of the record too."""

from __future__ import annotations

import logging
from typing import Final

from backfill.models import Backfill
from workflows_tasks import history

log: Final = logging.getLogger("backfill")


def record(backfill: Backfill, what: str, detail: str = "", *, actor: str = "backfill") -> None:
    history.say(
        logging.INFO, "backfill=%(backfill)d %(what)s by=%(actor)s %(detail)s", log,
        backfill=backfill.pk, what=what, actor=history.printable(actor), detail=history.printable(detail),
    )  # fmt: skip
