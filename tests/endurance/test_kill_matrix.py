"""SIGKILL at every step between a save and the acknowledgement of its flush: the table is exact in time.

Without the help of sweep and audit, which beat leaves alone here. The settings are short ones; ``test_kill_as_shipped``
has those of a host. ``python -m tests.endurance.kill_matrix`` prints the times of all.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.endurance import fatal
from tests.endurance.kills import (
    SHORT,
    Ensemble,
    Kill,
    Scene,
    bound_s,
    save_and_die,
    seconds_until_settled,
    settled,
    worker_killed,
)
from tests.endurance.steps import FLUSH
from tests.hosts.adapter import Host
from tests.waiting import until

SAVING = [fatal.ADDED, fatal.MARKED]
IN_A_WORKER = [fatal.WAITING, *FLUSH, f"after the claim{fatal.ALONE}", f"lowered, before the commit{fatal.ALONE}"]


@pytest.mark.workers(**SHORT)
@pytest.mark.timeout(400)
def test_killed_at_any_step(
    live: Host, node_env: dict[str, str], alone: str, tmp_path: Path, matrix: list[Kill]
) -> None:
    with Ensemble(tmp_path, alone, node_env) as ensemble:
        for step in SAVING:
            ensemble.ready()
            matrix.append(_saving_killed(ensemble, live, step))
        for step in IN_A_WORKER:
            ensemble.ready()
            matrix.append(worker_killed(ensemble, live, step, "short"))
            ensemble.replace_the_dead()


def _saving_killed(ensemble: Ensemble, live: Host, step: str) -> Kill:
    scene = Scene(live)
    until(lambda: settled(live))
    ensemble.order(step)
    assert save_and_die(scene.stays, ensemble.order_file, ensemble.env) == -signal.SIGKILL
    took_s = seconds_until_settled(live, since_s=ensemble.killed_at_s(), within_s=bound_s())
    return Kill(f"saving: {step}", "short", took_s, bound_s())
