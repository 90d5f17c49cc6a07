"""The rolling audit: a chunk a step, through all workspaces, wherever it was stopped."""

from __future__ import annotations

import pytest

from tests.conftest import Configure
from tests.exactness.corruptions import CORRUPTIONS
from tests.exactness.processes import call_in_new_process
from tests.exactness.scene import Scene
from tests.exactness.sweeping import counted
from workflows_tasks import repair


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_is_found_and_put_right(scene: Scene, name: str) -> None:
    CORRUPTIONS[name][1](scene, scene.host.make_workflow())
    assert repair.audit() >= 1
    scene.settle()
    assert repair.audit() == 0


def test_it_goes_on_where_it_was_after_a_restart(scene: Scene, configure: Configure) -> None:
    """Each step looks at one workspace; every other step is another process's. In as many steps as there are
    workspaces each is looked at once: what is found in one step is not found in another."""
    configure(AUDIT_CHUNK=1, AUDIT_PERIOD_S=1e12)  # a chunk is enough for a step, however large the table once was
    workspaces = [scene.earlier, scene.workspace, scene.beyond, scene.host.make_workspace()]
    for workspace in workspaces:
        scene.silent_run(1, workspace=workspace)
    steps = [call_in_new_process("repair.audit()") if n % 2 else repair.audit() for n in range(len(workspaces))]
    assert steps == [1] * len(workspaces)
    assert len(scene.settle()) == 2 * len(workspaces)
    assert counted("drift") == len(workspaces)


def test_it_starts_over_at_the_end(scene: Scene, configure: Configure) -> None:
    """A step that comes to the last workspace ends the round; the next finds what has gone wrong since."""
    configure(AUDIT_CHUNK=1)
    for workspace in (scene.earlier, scene.workspace):
        scene.run(1, workspace=workspace)
    scene.settle()
    assert [repair.audit() for _ in range(5)] == [0] * 5
    lost = scene.silent_run(2, workspace=scene.earlier)
    assert sum(repair.audit() for _ in range(3)) == 1
    assert lost.pk in {row.run for row in scene.settle()}


def test_a_workspace_is_never_cut_in_two(scene: Scene, configure: Configure) -> None:
    """A chunk of one run ends with its workspace: a key's runs are compared in one statement."""
    configure(AUDIT_CHUNK=1)
    for minute in range(5):
        scene.run(minute)
    assert len(scene.settle()) == 2
    assert [repair.audit() for _ in range(4)] == [0] * 4
