"""A Celery app whose workers die, or stand still, where they are told: ``celery -A tests.backfill.fatal worker``.

As ``tests.endurance.fatal``: the order is a file with the name of a step; the first process that reaches it takes the
order away, writes its own id in its place, and kills its whole worker, or stops itself.
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
from tests.endurance.fatal import ORDER, carried_out, ordered

STAND_STILL: Final = ", and stand still"
"""End of an order that stops the process instead of killing its worker."""

CLAIMING: Final = "before the claim"
FILLING: Final = "before the transaction"
COMMITTING: Final = "filled and counted, before the commit"
LOOKING: Final = "committed, before the look"
FINISHING: Final = "looked at, before it is done"
DONE: Final = "done, before the message is acknowledged"


def obey(step: str) -> None:
    """Carry out the order, if there is one for this step."""
    order = ordered()
    if order is None or order.removesuffix(STAND_STILL) != step:
        return
    done = carried_out(Path(os.environ[ORDER]))
    with suppress(FileNotFoundError):
        Path(os.environ[ORDER]).rename(done.with_suffix(".taken"))  # whoever succeeds in this is the one
        done.with_suffix(".taken").write_text(str(os.getpid()))
        done.with_suffix(".taken").rename(done)
        if order.endswith(STAND_STILL):
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            os.killpg(0, signal.SIGKILL)


def arm(**_: Any) -> None:
    """Make every step at which an order may be carried out one that looks for it."""
    from backfill import leases
    from workflows_tasks import projection

    for owner, function, step, after in (
        (leases, "claim", CLAIMING, False),
        (projection, "raise_history", FILLING, False),
        (leases, "commit", COMMITTING, True),
        (projection, "stale_in_range", LOOKING, False),
        (leases, "finish", FINISHING, False),
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
