"""Keys of every type in every place, odd names, proxies, sessions with options: always the oracle's table and pages."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.integration.keys.shapes import Shape, at_random
from tests.integration.keys.trials import Trial, trials

pytestmark = pytest.mark.host_independent

SHAPES = {
    "an address of the internet as user, numeric with a scale as workspace": Shape(
        user="inet", workspace="decimal", workflow="uuid", run="text"
    ),
    "blanks that PostgreSQL pads": Shape(user="padded", workspace="padded", workflow="padded", run="padded", hops=1),
    "prefixed ids": Shape(
        run="prefixed",
        workspace="prefixed",
        workflow="prefixed",
        user="prefixed",
        user_is_foreign=True,
        filter="of the workspace",
    ),
    "dates and text in any case": Shape(user="text", workspace="text", workflow="date", run="unbounded text", hops=3),
    "dates everywhere": Shape(user="date", workspace="date", run="date", hops=1),
    "wide numerics": Shape(user="whole decimal", workspace="whole decimal", run="decimal", filter="or and not"),
    "an e-mail as the person's key, keys made by the database, a generated moment": Shape(
        user="email", user_is_foreign=True, run="uuid", made_by_database=True, used_at="generated", workspace="uuid"
    ),
    "proxies as targets": Shape(is_proxied=True, user_is_foreign=True, user="uuid", filter="of the workspace"),
    "names that must be quoted, and another schema": Shape(
        table='legacy"."Odd. {}', prepare=("CREATE SCHEMA legacy",), hops=2
    ),
    "server-side binding, prepared at once": Shape(
        options={"server_side_binding": True, "prepare_threshold": 1}, user="text", filter="or and not"
    ),
    "west of Greenwich without time zones": Shape(settings={"USE_TZ": False, "TIME_ZONE": "America/New_York"}),
    "a schema for each tenant, and a short time limit for the role": Shape(
        session=(
            "ALTER DATABASE @ SET default_transaction_isolation = 'serializable'",
            "ALTER DATABASE @ SET lock_timeout = '100ms'",
        )
    ),
}


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with trials(tmp_path_factory.mktemp("shapes")) as trial:
        yield trial


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape(trial: Trial, name: str) -> None:
    failed = trial(SHAPES[name], 0)
    assert not failed, failed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_shape_at_random(trial: Trial, seed: int) -> None:
    """``python -m tests.integration.keys.at_random --hosts 200`` tries many."""
    shape = at_random(random.Random(seed))
    failed = trial(shape, seed)
    assert not failed, f"{shape}\n{failed}"
