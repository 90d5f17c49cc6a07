"""Keys of every type in every place, odd names, proxies, sessions with options: always the oracle's table and pages."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.servers import PostgreSQL
from tests.integration.keys.shapes import ANY_CASE, Shape, at_random
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
    "tables named as parts of our statements": Shape(
        tables={"Run": "newest", "Workspace": "spaces", "Hop1": "not_true"}, filter="of the workspace"
    ),
    "tables named as other parts of them": Shape(
        tables={"Run": "page", "Workspace": "truth", "Hop1": "picked"}, filter="of the workspace"
    ),
    "server-side binding, prepared at once": Shape(
        options={"server_side_binding": True, "prepare_threshold": 1}, user="text", filter="or and not"
    ),
    "a pool of connections": Shape(options={"pool": {"min_size": 1, "max_size": 2, "timeout": 5}}),
    "west of Greenwich without time zones": Shape(settings={"USE_TZ": False, "TIME_ZONE": "America/New_York"}),
    "a clock on the wall, whose hour comes twice": Shape(
        used_at="of the clock on the wall", settings={"USE_TZ": False, "TIME_ZONE": "America/New_York"}
    ),
    "a schema for each tenant": Shape(
        prepare=("CREATE SCHEMA here",), other_tenants=("there",), options={"options": "-c search_path=here,public"}
    ),
    "tables that another program made": Shape(is_unmanaged=True, user_is_foreign=True),
    "runs in partitions": Shape(is_partitioned=True, run="uuid", filter="of the workspace"),
    "serializable, and a short wait for locks, by the database": Shape(
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


@pytest.mark.parametrize("seed", [1, 2])
def test_a_shape_at_random(trial: Trial, seed: int) -> None:
    """``python -m tests.integration.keys.at_random --hosts 200`` tries many."""
    shape = at_random(random.Random(seed))
    failed = trial(shape, seed)
    assert not failed, f"{shape}\n{failed}"


@pytest.fixture(scope="module")
def system_trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """On the system's own PostgreSQL, which has ICU and extensions; the wheel's has not."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        assert not os.environ.get("CI"), "no PostgreSQL of the system's"
        pytest.skip("no PostgreSQL of the system's: apt-get install postgresql")
    directory = tmp_path_factory.mktemp("system")
    for parent in (directory, *directory.parents):  # as root PostgreSQL runs as somebody else
        if str(parent).startswith(tempfile.gettempdir() + "/"):
            parent.chmod(0o755)
    server = PostgreSQL(directory / "postgresql", bin_directory=str(programs[0]))
    server.start()
    try:
        with trials(directory, server.url) as trial:
            yield trial
    finally:
        server.stop()


ICU = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
"""Its order has a B? b C c D, where the order of bytes has B C D a b c."""


@pytest.mark.parametrize(
    "shape",
    [
        Shape(
            workspace="text by its bytes", run="text by its bytes", workflow="text", user="text", database=ICU, hops=1
        ),
        Shape(workspace="text", run="text", user="text by its bytes", database=ICU, filter="of the workspace"),
    ],
    ids=["columns by bytes in a database by language", "columns by language"],
)
def test_an_order_of_text_that_the_database_has_not(system_trial: Trial, shape: Shape) -> None:
    """Ties are decided, and ranges cut, by the column's own order."""
    failed = system_trial(shape, 5)
    assert not failed, failed


@pytest.mark.parametrize("place", ["workspace", "user", "workflow"])
def test_keys_of_which_two_spellings_are_one(system_trial: Trial, place: str) -> None:
    """Refused, for rows would be wrong: to the table the spellings are two."""
    kinds = {"workspace": "text", "workflow": "text", place: "text in any case"}
    failed = system_trial(Shape(**kinds, prepare=(ANY_CASE,), hops=1), 0)  # type: ignore[arg-type]
    assert not failed, failed
