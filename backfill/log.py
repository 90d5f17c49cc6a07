"""One line of the log for everything that happens to a backfill: which one, what, and who asked for it."""

from __future__ import annotations

import logging
from typing import Final

from backfill.models import Backfill
from workflows_tasks import history

log: Final = logging.getLogger("backfill")


def record(backfill: Backfill, what: str, detail: str = "", *, actor: str = "backfill") -> None:
    log.info("backfill=%d %s by=%s %s", backfill.pk, what, history.printable(actor), history.printable(detail))
