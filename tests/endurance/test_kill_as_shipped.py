"""The settings a host gets by default: a claim that nobody acknowledged is taken up again within 45 seconds.

The 45 are the lease of a claim (30), the rescuer's period (10), a flush window (1), and 4 for everything else.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endurance.kills import ALONE, Ensemble, Kill, bound_s, worker_killed
from tests.hosts.adapter import Host

AS_SHIPPED = {**ALONE, "MARKER_S": 8.0, "FLUSH_WINDOW_S": 1.0}


@pytest.mark.workers(**AS_SHIPPED)
@pytest.mark.timeout(120)
def test_with_the_settings_of_a_host_it_takes_less_than_45_seconds(
    live: Host, node_env: dict[str, str], alone: str, tmp_path: Path, matrix: list[Kill]
) -> None:
    assert bound_s() == 45
    with Ensemble(tmp_path, alone, node_env) as ensemble:
        ensemble.ready()
        matrix.append(worker_killed(ensemble, live, "after the claim", "default"))
