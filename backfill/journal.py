"""What happened, told twice: to whoever looks at the backfill (events), and to the log. The wording is only here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from backfill.models import Chunk, Event, Run

log: Final = logging.getLogger("backfill")

ITSELF: Final = "backfill"
"""Actor of what nobody asked for."""


def record(run: Run, what: str, detail: str = "", *, actor: str = ITSELF) -> None:
    """Note who did what; in the caller's transaction, so that it is there if and only if it was done."""
    Event.objects.using(run._state.db).create(run=run, actor=actor, what=what, detail=detail)
    log.info("backfill=%d %s by=%s %s", run.pk, what, actor, detail)


def batch_filled(chunk: Chunk, *, runs: int, rows: int, seconds: float) -> None:
    log.debug("backfill=%d chunk=%d filled runs=%d rows=%d seconds=%.3f", chunk.run_id, chunk.pk, runs, rows, seconds)


def batch_too_slow(chunk: Chunk, *, runs: int, smaller: int) -> None:
    log.warning("backfill=%d chunk=%d: %d runs took too long; %d next", chunk.run_id, chunk.pk, runs, smaller)


def announced(chunk: Chunk, *, rows: int) -> None:
    log.info("backfill=%d chunk=%d announced=%d rows that changed while they were filled", chunk.run_id, chunk.pk, rows)


def lease_lost(chunk: Chunk) -> None:
    log.warning(
        "backfill=%d chunk=%d: the lease was lost, nothing was written; another worker has it", chunk.run_id, chunk.pk
    )


def unreachable(run_id: int, error: Exception) -> None:
    log.error("backfill=%d: the database does not answer; its lease expires. error=%s", run_id, brief(error))


def differs(workspace: Any, user: Any, *, old: Sequence[str], new: Sequence[str]) -> None:
    log.warning(
        "shadow differs workspace=%s user=%s old=%s new=%s (see: manage.py recent_workflows explain)",
        getattr(workspace, "pk", workspace), getattr(user, "pk", user), ",".join(old), ",".join(new),
    )  # fmt: skip


def not_compared(error: Exception) -> None:
    log.warning("shadow read not compared: %s", brief(error))


def brief(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".strip()
