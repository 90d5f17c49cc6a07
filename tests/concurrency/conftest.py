"""The fixture ``given``; and copies of tests that run under a mutation, where ``mutations`` asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.concurrency.given import Given
from tests.concurrency.mutations import HERE, KILLERS, VARIABLE, under
from tests.concurrency.stepping import end_actors
from tests.hosts.adapter import Host


@pytest.fixture
def given(live: Host, request: pytest.FixtureRequest) -> Iterator[Given]:
    """What is there before the actors begin, under the mutation that this copy of a test is for, if it is one."""
    from tests.concurrency import mutants

    undoing = [mutants.apply(mark.args[0]) for mark in request.node.iter_markers("under")]
    try:
        yield Given(live)
    finally:
        end_actors()
        for undo in undoing:
            undo()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "under(name): this copy of a test runs under a mutation")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the process of ``mutations``: in place of every test a copy for each mutation that it must notice."""
    if VARIABLE in os.environ:
        wanted = os.environ[VARIABLE].splitlines()
        items[:] = [
            _copied(item, mutation)
            for item in items
            for mutation, tests in KILLERS.items()
            if mutation in wanted
            and isinstance(item, pytest.Function)
            and f"{item.path.relative_to(HERE)}::{item.name}" in tests
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
