"""A Celery app whose workers die where they are told: ``celery -A tests.endurance.fatal worker``.

The order is a file: its text is the step's name and whether the whole worker dies or only the process that runs the
task. The first process that reaches the step takes the file away and kills; so each order is carried out once.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, Final

from celery.signals import celeryd_after_setup, task_received

from celeryconfig import app as app  # noqa: PLC0414  # Celery looks for it here

ORDER: Final = "FATAL_ORDER"
"""Environment variable: the path of the order."""

ADDED: Final = "added, no marker, no message"
MARKED: Final = "added and marked, no message"
WAITING: Final = "while the flush message waits"
ALONE: Final = ", the pool's process alone"
"""End of an order that leaves the worker's main process alive, as the kernel does when memory runs out."""


def ordered() -> str | None:
    with suppress(FileNotFoundError):
        return Path(os.environ[ORDER]).read_text()
    return None


def obey(step: str) -> None:
    """Carry out the order, if there is one for this step."""
    order = ordered()
    if order is None or order.removesuffix(ALONE) != step:
        return
    try:
        Path(os.environ[ORDER]).rename(carried_out(Path(os.environ[ORDER])))  # whoever succeeds in this is the one
    except FileNotFoundError:
        return
    if order.endswith(ALONE):
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(0, signal.SIGKILL)


def carried_out(order: Path) -> Path:
    """Where an order is once it was carried out; the file's time says when."""
    return order.with_suffix(".done")


def arm(**_: Any) -> None:
    """Make every step at which an order may be carried out one that looks for it."""
    from tests.endurance.steps import FLUSH
    from workflows_tasks import dispatch, inbox

    for name, step in FLUSH.items():
        _arm(step.owner, step.function, name, after=step.after)
    _arm(inbox, "add", ADDED, after=True)
    _arm(dispatch, "send_flush", MARKED, after=False)


def _arm(owner: Any, function: str, name: str, *, after: bool) -> None:
    real = getattr(owner, function)

    @wraps(real)
    def armed(*args: Any, **kwargs: Any) -> Any:
        if not after:
            obey(name)
        result = real(*args, **kwargs)
        if after:
            obey(name)
        return result

    setattr(owner, function, armed)


def _received(request: Any, **_: Any) -> None:
    if request.name.endswith(".flush"):
        obey(WAITING)


celeryd_after_setup.connect(arm, weak=False)  # Django is set up, and no process forked yet
task_received.connect(_received, weak=False)
