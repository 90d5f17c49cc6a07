"""What happened, told twice: to whoever looks at the backfill (events), and to the log. The wording is only here."""

from __future__ import annotations

import logging
from typing import Final

from backfill.models import Backfill, Chunk, Event
from workflows_tasks import history

log: Final = logging.getLogger("backfill")

ITSELF: Final = "backfill"
"""Actor of what nobody asked for."""


def record(backfill: Backfill, what: str, detail: str = "", *, actor: str = ITSELF) -> None:
    """Note who did what; in the caller's transaction, so that it is there if and only if it was done."""
    Event.objects.using(backfill._state.db).create(backfill=backfill, actor=actor, what=what, detail=detail)
    log.info("backfill=%d %s by=%s %s", backfill.pk, what, history.printable(actor), history.printable(detail))


def batch_filled(chunk: Chunk, *, runs: int, rows: int, took_s: float) -> None:
    log.debug("backfill=%d chunk=%d filled runs=%d rows=%d seconds=%.3f", *_ids(chunk), runs, rows, took_s)


def batch_too_slow(chunk: Chunk, *, runs: int, smaller: int) -> None:
    log.warning("backfill=%d chunk=%d: %d runs took too long; %d next", *_ids(chunk), runs, smaller)


def looked_over(chunk: Chunk, *, changes: int) -> None:
    log.info("backfill=%d chunk=%d: %d rows changed while they were filled; flushes follow", *_ids(chunk), changes)


def not_looked_over(chunk: Chunk, error: Exception) -> None:
    log.warning("backfill=%d chunk=%d stays open: %s", *_ids(chunk), history.brief(error))


def lease_lost(chunk: Chunk) -> None:
    log.warning("backfill=%d chunk=%d: the lease was lost, nothing was written; another worker has it", *_ids(chunk))


def unreachable(chunk: Chunk, error: Exception) -> None:
    log.error("backfill=%d chunk=%d: no answer from the database, its lease expires: %s", *_ids(chunk),
              history.brief(error))  # fmt: skip


def _ids(chunk: Chunk) -> tuple[int, int]:
    return chunk.backfill_id, chunk.pk
