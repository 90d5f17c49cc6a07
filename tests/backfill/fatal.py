"""A Celery app whose workers die where they are told: ``celery -A tests.backfill.fatal worker``.

The order is a file with the name of a step. The first process that reaches the step takes the order away, and kills its
whole worker.
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

COMMITTING: Final = "filled and counted, before the commit"
LOOKING: Final = "committed, before the look"
DONE: Final = "done, before the message is acknowledged"


def carried_out(order: Path) -> Path:
    """The file that is there once an order is carried out."""
    return order.with_suffix(".done")


def obey(step: str) -> None:
    """Carry out the order, if there is one for this step."""
    order = Path(os.environ[ORDER])
    with suppress(FileNotFoundError):
        if order.read_text() == step:
            order.rename(carried_out(order))  # whoever succeeds in this is the one
            os.killpg(0, signal.SIGKILL)


def arm(**_: Any) -> None:
    """Make every step at which an order may be carried out one that looks for it."""
    from backfill import leases
    from workflows_tasks import history

    for owner, function, step, after in (
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
