"""``verify``: finds what is wrong, all of it and nothing else, and puts it right where asked to."""

from __future__ import annotations

import itertools
import json
import threading
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.conftest import Configure
from tests.exactness.corruptions import CORRUPTIONS
from tests.exactness.scene import Scene
from tests.exactness.stepping import Actor
from tests.oracle import assert_exact
from workflows_tasks import operations, repair
from workflows_tasks.sql.fragments import EVERYWHERE

THREE = [
    chosen for chosen in itertools.combinations(CORRUPTIONS, 3) if len({CORRUPTIONS[name][0] for name in chosen}) == 3
]

VERIFIED = 25


def verify(*options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit status of the command, and the differences it names."""
    out = StringIO()
    code: Any = 0
    try:
        call_command("recent_workflows", "verify", "--json", *options, stdout=out)
    except SystemExit as exit_:
        code = exit_.code
    return code, json.loads(out.getvalue())["drift"]


@pytest.mark.parametrize("names", THREE, ids=", ".join)
def test_three_planted_corruptions_are_found_named_and_repaired(scene: Scene, names: tuple[str, ...]) -> None:
    """Exactly three, each by its kind, in exit status 1; then it repairs them; then there is nothing to find."""
    planted = {}
    key = scene.host.workflow_model._meta.pk.to_python
    for name in names:
        verdict, plant = CORRUPTIONS[name]
        workflow = scene.host.make_workflow()
        plant(scene, workflow)
        planted[workflow.pk] = verdict
    for options in ((), ("--repair",)):
        code, drift = verify(*options)
        assert code == 1
        assert {key(row["workflow"]): row["verdict"] for row in drift} == planted
        assert len(drift) == 3
    assert verify() == (0, [])
    assert_exact(scene.host)


def test_a_range_of_workspaces_is_verified_alone(scene: Scene) -> None:
    """What is outside is neither named nor repaired."""
    workflow = scene.host.make_workflow()
    CORRUPTIONS["missing"][1](scene, workflow)
    keys = [str(scene.key_of(workspace)) for workspace in (scene.earlier, scene.workspace)]
    assert verify("--workspaces", f"{keys[0]}..{keys[0]}", "--repair") == (0, [])
    code, drift = verify("--workspaces", f"{keys[1]}..{keys[1]}")
    assert (code, [row["verdict"] for row in drift]) == (1, ["missing"])


def test_a_range_that_is_none_or_several_is_refused(scene: Scene) -> None:
    """Before anything is compared; the message says how to write it."""
    with pytest.raises(CommandError, match="is no range of workspaces; write A-B"):
        verify("--workspaces", "5")
    if isinstance(scene.key_of(scene.workspace), str):
        with pytest.raises(CommandError, match=r"several ranges, for keys may have dashes; write A\.\.B"):
            verify("--workspaces", "branch-1-branch-2")


def test_what_is_on_its_way_is_no_drift(scene: Scene) -> None:
    """A save that is pending, one that is claimed, and one whose flush has committed and is not acknowledged."""
    scene.run(1, workspace=scene.beyond)
    claimed = scene.run(1)
    writing = scene.flush("raised")
    assert writing.is_paused
    assert verify() == (0, [])
    writing.finish()
    scene.settle()
    claimed.delete()
    assert verify() == (0, [])


def verifying(*pauses: str) -> Actor[list[Any]]:
    return Actor(lambda: [row for checked in repair.check(EVERYWHERE) for row in checked.drift], *pauses).stands()


def test_a_save_between_its_commit_and_its_announcement_is_no_drift(scene: Scene) -> None:
    """Every save is, for a moment, committed and not announced. A verify that looks then must look again."""
    saving = Actor(lambda: scene.run(5), "about to announce").stands()
    assert saving.is_paused
    check = verifying("asked the inbox")
    assert check.is_paused
    saving.finish()
    assert check.finish() == []
    scene.settle()


def test_a_run_that_is_saved_again_while_it_is_looked_at_is_no_drift(scene: Scene) -> None:
    """A run is saved twenty times while it executes. It is pending when table and runs are compared; flushed when the
    inbox is asked for it; and saved again, so pending again, when its rows are looked at anew."""
    run = scene.run(5)
    check = verifying("compared", "asked the inbox")
    assert check.is_paused
    scene.settle()
    assert check.go_on().is_paused
    scene.host.save_again(run)
    assert check.finish() == []
    scene.settle()


def test_verifying_while_writes_go_on_gives_no_false_alarm(scene: Scene, configure: Configure) -> None:
    """Two writers save and move without a pause while a third drains the inbox, and a fourth verifies."""
    configure(FLUSH_WINDOW_S=1.0)
    workspaces = [scene.earlier, scene.workspace, scene.beyond]
    enough = threading.Event()

    def write() -> None:
        runs = [scene.run(1, workspace=workspace) for workspace in workspaces]
        for step in itertools.takewhile(lambda _: not enough.is_set(), itertools.count()):
            scene.host.save_again(runs[step % 3])
            if step % 5 == 0:
                scene.host.move_to_workspace(runs[step % 3], workspaces[step // 5 % 3])

    def drain() -> None:
        while not enough.is_set():
            operations.drain(lambda _: None)

    others = [Actor(write), Actor(write), Actor(drain)]
    found = [verifying().finish() for _ in range(VERIFIED)]
    enough.set()
    for other in others:
        other.finish()
    assert found == [[]] * VERIFIED
    scene.settle()
