"""What is lost for good in a disaster, such as an announcement whose commit was never confirmed, is found by sweeps."""

from __future__ import annotations

import time
from math import ceil

from workflows_tasks import conf, operations, repair

MOST_SWEEPS = 50


def swept(rows: int) -> int:
    """Sweep until a whole round of the table has found nothing, and nothing was too recent for it; returns how many
    lost changes were found."""
    settings = conf.settings()
    quiet_since_s = time.monotonic()
    healed = clean = 0
    for _ in range(MOST_SWEEPS):
        was_recent = time.monotonic() - quiet_since_s < 3 * settings.flush_window_s
        found = repair.sweep()
        operations.drain(lambda _: None)
        healed += found
        clean = 0 if found or was_recent else clean + 1
        if clean > ceil(rows / settings.sweep_page):
            return healed
        time.sleep(settings.flush_window_s)
    raise RuntimeError(f"{MOST_SWEEPS} sweeps after the last write there is still something to heal.")
