"""How many runs one transaction gets, so that it takes about as long as it should."""

from __future__ import annotations

from typing import Final

from workflows_tasks import conf

GROWTH: Final = 2.0
"""Most that a batch grows by from one transaction to the next: a cheap one says little about the next."""

FAR_OVER: Final = 5.0
"""Times the target, past which a batch is a tenth of what it was at once."""

SHRINK: Final = 10


def adapted(runs: int, took_s: float, *, may_grow: bool = True) -> int:
    """Runs of the next batch, after one with ``runs`` took ``took_s`` seconds.

    Args:
        may_grow: False while nobody knows how live traffic is.
    """
    target_s = conf.settings().backfill_target_s
    if took_s > FAR_OVER * target_s:
        return shrunk(runs)
    factor = min(target_s / max(took_s, 1e-6), GROWTH if may_grow else 1.0)
    return max(round(runs * factor), 1)


def shrunk(runs: int) -> int:
    """After a batch that took far too long, or did not come to its end."""
    return max(runs // SHRINK, 1)
