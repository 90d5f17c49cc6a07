"""Fixtures of the exactness tests; and the mutations under which they run, where the environment asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import Configure
from tests.exactness import mutants
from tests.exactness.mutations import EACH, HERE, KILLERS, VARIABLE, under
from tests.exactness.scene import Scene
from tests.exactness.stepping import make_steps_pausable
from tests.exactness.sweeping import PROMPT
from tests.hosts.adapter import Host
from workflows_tasks import repair

_under = os.environ.get(VARIABLE, "")
if _under not in {"", EACH}:
    mutants.apply(_under)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "mutation: runs other tests, in a process of its own, under mutations")
    config.addinivalue_line("markers", "under(name): this copy of a test runs under a mutation")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under ``each``: in place of every test a copy for each mutation that it must kill."""
    if _under == EACH:
        items[:] = [
            _copied(item, mutation)
            for item in items
            for mutation, tests in KILLERS.items()
            if isinstance(item, pytest.Function) and f"{item.path.relative_to(HERE)}::{item.name}" in tests
        ]


def _copied(item: pytest.Function, mutation: str) -> pytest.Function:
    base, bracket, parameters = item.name.partition("[")
    name = under(base, mutation)
    copy: pytest.Function = pytest.Function.from_parent(
        item.parent,
        name=f"{name}{bracket}{parameters}",
        originalname=name,
        callspec=getattr(item, "callspec", None),
        callobj=item.obj,
        fixtureinfo=item._fixtureinfo,
    )
    copy.add_marker(pytest.mark.under(mutation))
    return copy


@pytest.fixture(autouse=True)
def mutated(request: pytest.FixtureRequest) -> Iterator[None]:
    """The mutation under which this copy of a test runs, if it is one."""
    undoing = [mutants.apply(mark.args[0]) for mark in request.node.iter_markers("under")]
    yield
    for undo in undoing:
        undo()


@pytest.fixture
def scene(live: Host, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> Scene:
    # No announcement is lost because the machine is busy; a verify looks again for twice the window.
    configure(SAVE_TIMEOUT_S=5.0, FLUSH_WINDOW_S=0.05)
    make_steps_pausable(monkeypatch)
    return Scene(live)


@pytest.fixture
def swept(scene: Scene, configure: Configure) -> Scene:
    """A scene with one row, that was swept before: the watermark is a moment ago."""
    configure(**PROMPT)
    scene.run(1)
    scene.settle()
    assert repair.sweep() == 0
    return scene
