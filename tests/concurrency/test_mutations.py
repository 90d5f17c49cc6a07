"""No test here passes without its mechanism: each mutation of the package is noticed by the tests named for it."""

from __future__ import annotations

import os

import pytest
from django.db import connection

from tests.concurrency.mutants import MUTANTS, UNCAPTURED, uncaptured
from tests.concurrency.mutations import KILLERS, VARIABLE, noticed

pytestmark = [pytest.mark.host_independent, pytest.mark.timeout(600)]


def test_every_mutation_has_tests() -> None:
    """And so has every table of the host with every event."""
    assert {name for name in KILLERS if not name.startswith(UNCAPTURED)} == set(MUTANTS)
    assert {name for name in KILLERS if name.startswith(UNCAPTURED)} == set(uncaptured())
    assert connection.vendor == "postgresql"


@pytest.fixture(scope="module")
def noticed_by() -> dict[str, set[str]]:
    """Found by one process for all of them, on this one's servers."""
    servers = {f"TEST_{name}": os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    return noticed(environment={**servers, VARIABLE: ""})


@pytest.mark.parametrize("mutation", KILLERS)
def test_is_noticed(mutation: str, noticed_by: dict[str, set[str]]) -> None:
    assert noticed_by[mutation] == set(KILLERS[mutation])
