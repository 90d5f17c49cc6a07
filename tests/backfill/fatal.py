"""A Celery app whose workers die, or stand still, where they are told: ``celery -A tests.backfill.fatal worker``.

The order is a file with the name of a step. The first process that reaches the step takes the order away, writes its
own id in its place, and kills its whole worker, or stops itself.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, Final

from celery.signals import celeryd_after_setup

from celeryconfig import app as app  # noqa: PLC0414  # Celery looks for it here

ORDER: Final = "FATAL_ORDER"
"""Environment variable: the path of the order."""

STAND_STILL: Final = ", and stand still"
"""End of an order that stops the process instead of killing its worker."""

FILLING: Final = "before the transaction"
COMMITTING: Final = "filled and counted, before the commit"
LOOKING: Final = "committed, before the look"
DONE: Final = "done, before the message is acknowledged"


def carried_out(order: Path) -> Path:
    """Where the id of the process is that carried an order out."""
    return order.with_suffix(".done")


def obey(step: str) -> None:
    """Carry out the order, if there is one for this step."""
    order = Path(os.environ[ORDER])
    with suppress(FileNotFoundError):
        asked = order.read_text()
        if asked.removesuffix(STAND_STILL) != step:
            return
        taken = order.with_suffix(".taken")
        order.rename(taken)  # whoever succeeds in this is the one
        taken.write_text(str(os.getpid()))
        taken.rename(carried_out(order))
        if asked.endswith(STAND_STILL):
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            os.killpg(0, signal.SIGKILL)


def arm(**_: Any) -> None:
    """Make every step at which an order may be carried out one that looks for it."""
    from backfill import leases
    from workflows_tasks import history

    for owner, function, step, after in (
        (history, "fill", FILLING, False),
        (leases, "commit", COMMITTING, True),
        (history, "recheck_filled", LOOKING, False),
        (leases, "finish", DONE, True),
    ):
        _arm(owner, function, step, after=after)


def _arm(owner: Any, function: str, step: str, *, after: bool) -> None:
    real = getattr(owner, function)

    @wraps(real)
    def armed(*args: Any, **kwargs: Any) -> Any:
        if not after:
            obey(step)
        result = real(*args, **kwargs)
        if after:
            obey(step)
        return result

    setattr(owner, function, armed)


celeryd_after_setup.connect(arm, weak=False)  # Django is set up, and no process forked yet
